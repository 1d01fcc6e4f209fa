"""3D hand pose and mesh from vision transformers, single frame and temporal."""


def __getattr__(name: str) -> str:
    """`__version__`, read when it is asked for: importlib.metadata is a tenth of the time of `--help`."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version("handvit")
