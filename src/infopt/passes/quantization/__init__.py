"""Quantization: weights and activations as integers, written into the graph."""
