"""Legalization: standard operators in the form that a runtime runs fastest."""
