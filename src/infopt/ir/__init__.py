"""Questions about a Model (an :class:`onnx_ir.Model`, never wrapped), and its files."""
