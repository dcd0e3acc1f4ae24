"""Precision: floating-point numbers of 16 bits, written into the graph."""
