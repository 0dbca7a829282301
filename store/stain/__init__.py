"""The stain in a picture: the optical density of DAB."""
