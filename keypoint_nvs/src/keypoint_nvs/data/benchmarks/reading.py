"""Text files and sizes of pictures, with errors that name file and line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from posecore.errors import InputError

ORIENTATION, TURNED = 274, (5, 6, 7, 8)
"""Tag of EXIF, and its values at which width and height are exchanged."""


def read_lines(path: Path, what: str) -> list[str]:
    """Lines that are not empty.

    Raises:
        InputError: Cannot be read, or is no text; tells what the file should be.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; expected {what}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: is no text; expected {what}") from None
    return [line for line in text.splitlines() if line.strip()]


def read_named_numbers(path: Path, what: str, count: int) -> dict[str, Float64[np.ndarray, " count"]]:
    """A table as CelebA's: the number of rows, the columns' names, and `NAME number number ...` a line.

    Raises:
        InputError: Another layout; names file and line.
    """
    rows: dict[str, np.ndarray] = {}
    for number, line in enumerate(read_lines(path, what)[2:], start=3):
        name, *values = line.split()
        rows[name] = numbers(values, count, f"{path}: line {number}")
    return rows


def numbers(values: Sequence[str], count: int, where: str) -> Float64[np.ndarray, " {count}"]:
    """
    Raises:
        InputError: Not `count` numbers.
    """
    try:
        result = np.array([float(value) for value in values])
    except ValueError:
        raise InputError(f"{where}: {' '.join(values)!r} has something that is no number") from None
    if len(result) != count:
        raise InputError(f"{where}: has {len(result)} numbers, expected {count}")
    return result


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) as viewers show it, from the file's head.

    Raises:
        InputError: No such file, or no picture.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(ORIENTATION) in TURNED
    except FileNotFoundError:
        raise InputError(f"{path}: no such picture") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: is no picture that can be read: {error}") from None
    return (height, width) if turned else (width, height)


def existing(candidates: Sequence[Path], what: str) -> Path:
    """The first that exists.

    Raises:
        InputError: None does.
    """
    for path in candidates:
        if path.exists():
            return path
    raise InputError(f"{what}: not found; looked for {', '.join(map(str, candidates))}")
