"""Facts of the pictures for the data card: measured on every tile while it is checked, then gathered."""
