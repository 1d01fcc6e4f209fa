"""Where the samples of a WebDataset tar file lie, so that any of them is one `pread` away.

A shard is a plain tar. Files in a row with the same name up to the first dot of their last part are one sample
(`walk/0007.rgb.jpg`, `walk/0007.json`: key `walk/0007`, fields `rgb.jpg` and `json`).
"""

import json
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int64

from posecore.errors import InputError

FORMAT = 1
BLOCK = 512
"""Size of a tar header, which lies before each file's bytes."""
META = re.compile(r"__[^/]*__($|/)")
"""Names that WebDataset keeps for itself and skips."""


@dataclass(frozen=True)
class ShardIndex:
    """Samples of one shard in their order. -1 where a sample lacks a field."""

    path: Path
    keys: list[str]
    fields: tuple[str, ...]
    offsets: Int64[np.ndarray, "n f"]
    sizes: Int64[np.ndarray, "n f"]

    def __len__(self) -> int:
        return len(self.keys)


def index_path(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.index.json")


def open_index(shard: Path) -> ShardIndex:
    """The index beside the shard if it fits the shard's size, else a new one, kept there where the folder is writable.

    Raises:
        InputError: The shard is missing, cut off, compressed, or its names are unsafe or ambiguous.
    """
    index = _read(shard)
    if index is None:
        index = scan(shard)
        if os.access(shard.parent, os.W_OK):
            write_index(index)
    return index


def write_index(index: ShardIndex) -> None:
    content = {
        "format": FORMAT,
        "shard_bytes": index.path.stat().st_size,
        "fields": index.fields,
        "keys": index.keys,
        "offsets": index.offsets.tolist(),
        "sizes": index.sizes.tolist(),
    }
    path = index_path(index.path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")  # several processes may write the same
    unfinished.write_text(json.dumps(content, separators=(",", ":")))
    unfinished.replace(path)


def scan(shard: Path) -> ShardIndex:
    """Read all headers of a shard.

    Raises:
        InputError: As `open_index`.
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    last = None
    for member in _members(shard):
        key, field = _key_and_field(shard, member.name)
        if key != last and key in samples:
            raise InputError(f"{shard}: {key}: the sample's files do not follow each other")
        fields = samples.setdefault(key, {})
        if field in fields:
            raise InputError(f"{shard}: {member.name}: occurs twice")
        fields[field] = (member.offset_data, member.size)
        last = key
    if not samples:
        raise InputError(f"{shard}: holds no samples")
    names = tuple(sorted({field for fields in samples.values() for field in fields}))
    places = np.array([[fields.get(name, (-1, -1)) for name in names] for fields in samples.values()], dtype=np.int64)
    return ShardIndex(shard, list(samples), names, places[..., 0], places[..., 1])


def _members(shard: Path) -> list[tarfile.TarInfo]:
    """The regular files of a tar that is whole."""
    if not shard.is_file():
        raise InputError(f"{shard}: no such file")
    size = shard.stat().st_size
    members = []
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if member.offset_data + member.size > size:
                    raise InputError(
                        f"{shard}: {member.name}: is cut off, the shard ends at byte {size}; copy it again"
                    )
                members.append(member)
            _check_end_mark(shard, tar.offset)
    except tarfile.TarError as error:
        raise InputError(f"{shard}: not a whole, uncompressed tar file ({error}); copy it or make it again") from None
    return [member for member in members if member.isreg() and not META.match(member.name)]


def _check_end_mark(shard: Path, end: int) -> None:
    """A shard that was cut off between two files looks whole without its end mark: samples would be missing unseen."""
    with shard.open("rb") as file:
        file.seek(end)
        if file.read(BLOCK) != bytes(BLOCK):
            raise InputError(f"{shard}: is cut off, no end mark at byte {end}; copy it again")


def _key_and_field(shard: Path, name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise InputError(f"{shard}: {name!r}: leads out of the archive; refused")
    folder, slash, last = name.rpartition("/")
    stem, dot, field = last.partition(".")
    if not stem or not dot or not field:
        raise InputError(f"{shard}: {name!r}: has no key and extension, as in 000017.jpg")
    return folder + slash + stem, field


def _read(shard: Path) -> ShardIndex | None:
    """The index beside the shard; None if there is none, or one of another shard or format."""
    path = index_path(shard)
    if not path.is_file() or not shard.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        if content["format"] != FORMAT or content["shard_bytes"] != shard.stat().st_size:
            return None
        offsets, sizes = (np.array(content[name], dtype=np.int64) for name in ("offsets", "sizes"))
        return ShardIndex(shard, content["keys"], tuple(content["fields"]), offsets, sizes)
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path}: is damaged; delete it, it is made again") from None
