"""What the bytes of a store are: its arrays and units, codecs, pair tables, manifest and seal."""
