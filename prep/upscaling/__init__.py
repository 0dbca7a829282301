"""How a patch is enlarged by 2 or 4: BSRGAN, or Lanczos where no super-resolution is wanted."""
