"""Samples of hands: their schema, sources, geometry and makers."""
