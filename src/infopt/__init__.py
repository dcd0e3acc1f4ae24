"""infopt compiles a trained model into the fastest engine that still gives the right answers."""

from infopt._version import __version__

__all__ = ["__version__"]
