"""How much stain a picture shows."""
