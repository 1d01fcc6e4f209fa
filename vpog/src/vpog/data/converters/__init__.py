"""Public sets to the shards that training reads."""
