"""Whether this machine and its disks can run the toolkit, on one page. Imports nothing but the standard library."""
