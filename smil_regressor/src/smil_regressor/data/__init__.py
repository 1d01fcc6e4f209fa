"""Samples, data files of both HDF5 layouts, sources, splits, augmentation, and synthetic scenes."""
