"""A trained generator as an ONNX file, for programs without PyTorch."""
