"""What a person should know about the pictures of a data set."""
