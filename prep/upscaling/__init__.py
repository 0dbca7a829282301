"""How a patch is enlarged by 2 or 4: BSRGAN, or Lanczos interpolation on request; and on which device."""
