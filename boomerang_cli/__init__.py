"""Model size interpolation: every model size between a distilled student and its teacher (arXiv 2510.05064)."""

__version__ = "0.1.0"
