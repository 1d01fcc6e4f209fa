"""Masks as COCO run lengths: column by column, the first run counts zeros."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from posecore.errors import InputError


@dataclass(frozen=True)
class Rle:
    """Convention: for [[0, 1], [0, 1]] (2 x 2) the columns 0,0,1,1 give counts (2, 2)."""

    counts: tuple[int, ...]
    size_hw: tuple[int, int]

    @classmethod
    def of(cls, mask: Bool[np.ndarray, "h w"]) -> "Rle":
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
        starts_with_one = flat.size > 0 and bool(flat[0])
        return cls(tuple([0, *runs] if starts_with_one else runs), (mask.shape[0], mask.shape[1]))

    @classmethod
    def from_json(cls, value: Any, where: str) -> "Rle":
        """Of {"counts": [...] or COCO's compressed text, "size": [h, w]}.

        Raises:
            InputError: It is none, or its runs do not add up to its size; names `where`.
        """
        if not isinstance(value, Mapping) or "counts" not in value or "size" not in value:
            raise InputError(f"{where}: is no run-length mask; expected an object with counts and size")
        size = _whole(value["size"], f"{where}: size")
        if len(size) != 2:
            raise InputError(f"{where}: size: has {len(size)} numbers, expected height and width")
        height, width = size
        counts = value["counts"]
        runs = _decompress(counts, where) if isinstance(counts, str | bytes) else _whole(counts, f"{where}: counts")
        if min(runs, default=0) < 0 or sum(runs) != height * width:
            raise InputError(f"{where}: its runs add up to {sum(runs)} pixels, its size says {height} x {width}")
        return cls(tuple(runs), (height, width))

    def to_json(self) -> dict[str, Any]:
        return {"counts": list(self.counts), "size": list(self.size_hw)}

    def decode(self) -> Bool[np.ndarray, "h w"]:
        values = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(values, self.counts).reshape(self.size_hw, order="F")

    @property
    def area_px(self) -> int:
        return sum(self.counts[1::2])


def _whole(values: Any, where: str) -> list[int]:
    if isinstance(values, list | tuple) and set(map(type, values)) <= {int}:  # 20 times as fast as asking each
        return list(values)
    raise InputError(f"{where}: is no list of whole numbers")


def _decompress(text: str | bytes, where: str) -> list[int]:
    """COCO's text: numbers of 5-bit groups, low ones first; from the fourth on, differences to the run before the last."""
    data = text.encode("ascii", "replace") if isinstance(text, str) else text
    counts: list[int] = []
    value = shift = 0
    for byte in data:
        group = byte - 48
        if not 0 <= group < 64:
            raise InputError(f"{where}: its counts are no compressed run lengths (character {chr(byte)!r})")
        value |= (group & 0x1F) << shift
        shift += 5
        if not group & 0x20:
            if group & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return counts
