"""What names of files say, and what a table says in their place: pairs, slides, splits."""
