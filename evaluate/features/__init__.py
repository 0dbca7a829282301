"""What feature networks see in pictures."""
