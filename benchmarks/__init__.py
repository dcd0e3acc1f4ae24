"""Benchmarks on real models; each module is one command, ``python -m benchmarks.speed``."""
