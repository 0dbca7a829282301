"""What the bytes of a picture's file say: whether they are whole, who can decode them, their colours and scale."""
