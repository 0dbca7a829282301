"""How the bytes of a store are written: create it, fill it unit by unit, seal it, repair it."""
