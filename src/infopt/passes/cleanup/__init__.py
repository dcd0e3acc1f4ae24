"""Passes that make a model smaller and plainer without changing what it computes."""
