"""A trained codec as files that other programs run: Core ML packages, ONNX, integers."""
