"""What a file system may lack or refuse, and what is done instead: locks, removing files that are open, long names."""
