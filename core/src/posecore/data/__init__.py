"""Images, shards and stores on disk; splits; and the sampler and loader whose order and randomness resume exactly.

Nothing is imported here: take names from their modules, so that reading one picture does not cost an import of torch.
"""
