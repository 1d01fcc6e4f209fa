"""What a run is made of, as pydantic models: one module a section."""
