"""What super-resolution changed: every enlarged view against the patch that it was made from."""
