"""Public hand datasets to our shards, one module a dataset."""
