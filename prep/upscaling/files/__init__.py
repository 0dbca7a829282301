"""Networks that a person gives as files: what is in one, which makes which views, how it is computed here."""
