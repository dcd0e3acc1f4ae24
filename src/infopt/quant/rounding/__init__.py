"""Ways to round a weight, from the obvious one to those that know the layer's inputs.

All take weights as the papers do: ``(out, in)``, rows are output channels, columns input features;
blocks lie along the inputs. A MatMul's ``(in, out)`` is transposed first, a convolution's kernel
reshaped to ``(out, in · height · width)``.
"""
