"""6D pose of unseen objects from one picture and groups of rendered templates."""

__version__ = "0.1.0"
