"""Meshes of objects, what is known of them, and pictures of them."""
