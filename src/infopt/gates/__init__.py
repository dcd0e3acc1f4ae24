"""Gates: what an engine was, what it is now, and whether that may be."""
