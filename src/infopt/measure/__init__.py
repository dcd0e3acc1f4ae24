"""Measuring: interleaved timing, the statistics of it, and memory."""
