"""Annotation files in JSON, taken apart so that what is wrong is told by file and entry."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from jaxtyping import Float

from posecore.errors import InputError


def read_json(path: Path, what: str) -> Any:
    """The whole file.

    Args:
        path: The file.
        what: What it is, for the error where it is missing: "the cameras of a BOP scene".

    Raises:
        InputError: It is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; {what} should be there") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not JSON: {error}; the file is damaged or cut off") from None


def write_json(path: Path, value: Any) -> None:
    """Appears under its name when it is whole."""
    unfinished = unfinished_path(path)
    unfinished.write_text(json.dumps(value, allow_nan=False))
    unfinished.replace(path)


def unfinished_path(path: Path) -> Path:
    """Beside the file, of a name that no other process has: those of a job array write the same files."""
    return path.with_name(f".{path.name}.{uuid4().hex}.writing")


def entry(table: Any, key: str, where: str) -> Any:
    """`table[key]`; `where` names the table: the file and the way to it.

    Raises:
        InputError: It is no table, or has no such key.
    """
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: is {describe(table)}, expected an object with {key!r}")
    if key not in table:
        some = ", ".join(map(str, list(table)[:8]))
        raise InputError(f"{where}: has no {key!r}; it has {some or 'nothing'}{', ...' if len(table) > 8 else ''}")
    return table[key]


def rows(value: Any, where: str) -> list[Any]:
    """A list.

    Raises:
        InputError: It is something else.
    """
    if not isinstance(value, list):
        raise InputError(f"{where}: is {describe(value)}, expected a list")
    return value


def whole_number(value: Any, where: str) -> int:
    """A whole number from 0 on, also where the file has it as text.

    Raises:
        InputError: It is something else.
    """
    try:
        if isinstance(value, int | str) and not isinstance(value, bool) and int(value) >= 0:
            return int(value)
    except ValueError:
        pass
    raise InputError(f"{where}: is {describe(value)}, expected a whole number")


def number(value: Any, where: str) -> float:
    """A finite number.

    Raises:
        InputError: It is something else.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise InputError(f"{where}: is {describe(value)}, expected a finite number")


def numbers(value: Any, shape: tuple[int, ...], where: str) -> Float[np.ndarray, "..."]:
    """float64 of this shape.

    Raises:
        InputError: Not numbers, not so many, or not finite.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (ValueError, TypeError):
        raise InputError(f"{where}: is {describe(value)}, expected numbers of shape {shape}") from None
    if array.shape != shape:
        raise InputError(f"{where}: has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{where}: has {array[~np.isfinite(array)][0]}, expected finite numbers")
    return array


def describe(value: Any) -> str:
    """A short text of any value, for messages."""
    text = repr(value) if not isinstance(value, list | dict) else f"a {type(value).__name__} of {len(value)}"
    return text if len(text) <= 40 else f"{text[:37]}..."
