"""The mathematics of quantization, in ONNX's own terms: arrays in, arrays out, no graphs.

``granularity``, ``spec`` and ``scheme`` say what is to be quantized how; ``affine`` does it;
``statistics`` are what is observed of activations, ``ranges`` what follows from them;
``rounding`` holds the ways to round weights, ``smoothing``, ``equalization`` and ``correction``
what moves or takes away the error around them (docs/design/0007-quantization.md).
"""
