"""The configuration of a run, as pydantic models: one module a section."""
