"""Pictures and slides in files, as sources that are read in parts."""
