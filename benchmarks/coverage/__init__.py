"""How much of the common architectures raising finds: ``python -m benchmarks.coverage``."""
