"""Configuration of a run, section by section; `run` has the whole."""
