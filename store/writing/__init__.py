"""How a store gets its bytes: created, written unit by unit, sealed, repaired."""
