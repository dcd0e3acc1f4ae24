"""infopt and every peer on the same work in one run: ``python -m benchmarks.sidebyside``."""
