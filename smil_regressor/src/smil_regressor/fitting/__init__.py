"""Poses without a network: a body model fitted to the labels of a data file by optimisation."""
