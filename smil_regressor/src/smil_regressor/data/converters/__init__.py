"""Readers of public recordings and data sets; `convert` writes them as the HDF5 files that training reads."""
