"""What the bytes of a store are: arrays and units, codecs, pair tables, manifest and seal."""
