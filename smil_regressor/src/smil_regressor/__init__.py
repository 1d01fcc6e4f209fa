"""Pose, shape and cameras of SMIL and SMAL animal models from one or several views."""


def __getattr__(name: str) -> str:
    """`__version__`, read when it is asked for: importlib.metadata is a tenth of the time of `--help`."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("smil-regressor")
