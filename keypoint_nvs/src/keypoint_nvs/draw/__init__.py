"""Pictures of views, tokens, maps and points."""
