"""The pictures of a command, of which there may be thousands."""
