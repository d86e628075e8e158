"""Networks made for use: batch norm folded, 8-bit, streaming, ONNX, export."""
