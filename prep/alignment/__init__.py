"""How far the two pictures of every pair of a data set are apart: measured, listed, drawn."""
