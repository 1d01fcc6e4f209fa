"""Which files a data set's path means."""

from pathlib import Path

from posecore.errors import InputError

SUFFIXES = (".hdf5", ".h5")


def find_stores(where: str | Path) -> list[Path]:
    """A file, all stores of a folder, or those of a glob in the last part of the path; in order of their names.

    Raises:
        InputError: There are none.
    """
    path = Path(where)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES and not p.name.startswith("."))
    elif any(mark in path.name for mark in "*?["):
        found = sorted(p for p in path.parent.glob(path.name) if p.is_file() and not p.name.startswith("."))
    else:
        found = [path] if path.is_file() else []
    if not found:
        what = f"no {' or '.join(SUFFIXES)} file there" if path.is_dir() else "no such file"
        raise InputError(f"{where}: {what}")
    return found
