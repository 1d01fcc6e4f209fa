"""Pictures of objects, templates of their meshes, and batches of both."""
