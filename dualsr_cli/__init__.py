"""dualsr makes the wide photo of a pair as sharp as its tele photo."""

__all__ = ["__version__"]

__version__ = "0.1.0"
