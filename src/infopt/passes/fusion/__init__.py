"""Raising: patterns that exporters scatter over many nodes become one standard operator."""
