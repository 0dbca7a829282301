"""Work on other processes: on new ones of this machine, or on the workers of a Dask scheduler."""
