"""Records through which training and evaluation meet: what a run is made from, and what its predictions are."""
