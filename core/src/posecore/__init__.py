"""Shared core of the pose-estimation systems."""
