"""Loss terms, each a sum over what it counts."""
