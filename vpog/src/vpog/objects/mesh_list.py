"""Which number each mesh has."""

import re
from collections.abc import Sequence
from pathlib import Path

from posecore.errors import InputError

SUFFIXES = (".ply", ".obj", ".glb")
_NUMBERED = re.compile(r"obj_(\d+)")


def numbered_meshes(paths: Sequence[Path], first: int) -> list[tuple[int, Path]]:
    """Numbers from names like obj_000012.ply; other files count from `first` in the order given. Of folders all meshes.

    Raises:
        InputError: No mesh is found, or two have the same number.
    """
    files = [file for path in paths for file in (_meshes_in(path) if path.is_dir() else [path])]
    if not files:
        raise InputError(f"{', '.join(map(str, paths))}: no mesh found ({', '.join(SUFFIXES)})")
    numbered: dict[int, Path] = {}
    following = first
    for file in files:
        named = _NUMBERED.fullmatch(file.stem)
        number = int(named[1]) if named else following
        following += named is None
        if number in numbered:
            raise InputError(
                f"{file}: has the number {number}, as {numbered[number]}; choose --first so that they differ"
            )
        numbered[number] = file
    return sorted(numbered.items())


def _meshes_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
