"""Loss terms: every one a named function; weighed in one place."""
