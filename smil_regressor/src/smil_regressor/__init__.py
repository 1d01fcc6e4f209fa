"""SMIL/SMAL models from images."""
