"""What the files of a shard hold, by the end of their name: `rgb.jpg` and `jpg` are pictures, `pose.npy` an array.

Nothing here executes what it reads: no pickles, arrays without objects.
"""

import io
import json
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from posecore.data.images import decode_image, encode_jpeg, encode_png
from posecore.errors import InputError

Decoder = Callable[[bytes, str], Any]
"""From the bytes of a file and its name, for errors, to the value."""


def decode_text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: is not UTF-8 text ({error.reason} at byte {error.start})") from None


def decode_json(data: bytes, name: str) -> Any:
    try:
        return json.loads(data)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{name}: is not JSON: {error}") from None


def decode_array(data: bytes, name: str) -> np.ndarray:
    plain = _plain_array(data)
    if plain is not None:
        return plain
    try:
        array: np.ndarray = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise InputError(f"{name}: is not a whole array without objects: {str(error).splitlines()[0]}") from None
    if not isinstance(array, np.ndarray):  # a zip archive of arrays
        raise InputError(f"{name}: is an .npz archive, expected one .npy array")
    return array


def _plain_array(data: bytes) -> np.ndarray | None:
    """A whole array of numbers as `np.save` writes it; None: anything else.

    `np.load` spends 40 us on a file, nearly all of it on the text of its header. A shard has few different headers.
    """
    if data[:8] != b"\x93NUMPY\x01\x00":
        return None
    start = 10 + int.from_bytes(data[8:10], "little")
    layout = _layout(data[8:start])
    if layout is None or len(data) - start != layout[0].itemsize * math.prod(layout[1]):
        return None
    dtype, shape = layout
    return np.frombuffer(data, dtype, offset=start).reshape(shape).copy()


@lru_cache(maxsize=1024)
def _layout(header: bytes) -> "tuple[np.dtype[Any], tuple[int, ...]] | None":
    """From the header with its length in front; None where it is not plain numbers in C order."""
    try:
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    except (ValueError, OverflowError):
        return None
    return None if is_fortran or dtype.kind not in "biufc" or min(shape, default=0) < 0 else (dtype, shape)


def decode_class(data: bytes, name: str) -> int:
    text = decode_text(data, name).strip()
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name}: {text[:20]!r} is not a whole number") from None


DECODERS: Mapping[str, Decoder] = {
    "jpg": decode_image,
    "jpeg": decode_image,
    "png": decode_image,
    "webp": decode_image,
    "json": decode_json,
    "npy": decode_array,
    "cls": decode_class,
    "txt": decode_text,
}


def find_decoder(field: str, own: Mapping[str, Decoder]) -> Decoder:
    """The decoder for a field: one's own by the whole name, or by the extension, else the usual one.

    Raises:
        InputError: There is none.
    """
    extension = field.rpartition(".")[2]
    for decoders, name in ((own, field), (own, extension), (DECODERS, extension)):
        if name in decoders:
            return decoders[name]
    raise InputError(f".{field}: files of this kind are not read ({', '.join(DECODERS)} are)")


def encode_field(field: str, value: Any) -> bytes:
    """Bytes as they are; else what the decoder of that extension gives back.

    Raises:
        ValueError: The value is none that this kind of file holds.
    """
    if isinstance(value, bytes):
        return value
    extension = field.rpartition(".")[2]
    if extension == "npy" and isinstance(value, np.ndarray) and not value.dtype.hasobject:
        buffer = io.BytesIO()
        np.save(buffer, value, allow_pickle=False)
        return buffer.getvalue()
    if extension == "json":
        return json.dumps(value, allow_nan=False).encode()
    if (extension == "cls" and isinstance(value, int)) or (extension == "txt" and isinstance(value, str)):
        return str(value).encode()
    if extension in ("jpg", "jpeg", "png") and isinstance(value, np.ndarray):
        return encode_png(value) if extension == "png" else encode_jpeg(value)
    raise ValueError(f"{field}: cannot hold {type(value).__name__}; pass bytes")
