"""The seams of translated pictures, setting by setting."""
