"""Files of square tiles from files of larger pictures, for whoever wants to look at the tiles or use them elsewhere."""
