"""A package, for torch-fidelity 0.4 installs one of the same name, which a folder without this file would yield to."""
