"""Files that others made: what they are, told from their bytes, and how they are downloaded."""
