"""How far the two pictures of a pair are apart."""
