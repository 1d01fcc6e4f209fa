"""Reads WebDataset shards map-style: any sample at any time, so that the sampler owns the order."""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from posecore.data.shard_fields import Decoder, find_decoder
from posecore.data.shard_index import BLOCK, ShardIndex, open_index
from posecore.data.shard_writer import ShardWriter
from posecore.errors import InputError

Sample = dict[str, Any]
Transform = Callable[[Sample, np.random.Generator], Any]

MAX_OPEN = 128
"""Shards held open by one process; batch systems allow 1024 files."""
SMALL_GAP = 1 << 16
"""Bytes between fields that cost less to read along than another call."""
LARGE = 1 << 15
"""Bytes of a field that cost more to cut out of its neighbours than another call."""


class ShardSource:
    """The samples of some shards, one after the other, decoded by the extension of their fields.

    Args:
        shards: Paths of tar files, in the order in which their samples count.
        fields: What to read of each sample; None: all fields that the first shard has. Where samples differ in their
            fields, give () and use `members` and `read_members`.
        decoders: By field (`mask.png`) or extension (`png`), besides or instead of the usual ones.
        transform: Makes the sample that `load` returns from the decoded fields and a generator.

    Raises:
        InputError: A shard is missing or damaged, a sample lacks a field, or a field has no decoder.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        *,
        fields: Sequence[str] | None = None,
        decoders: Mapping[str, Decoder] | None = None,
        transform: Transform | None = None,
    ) -> None:
        if not shards:
            raise InputError("shards: the list is empty; at least one .tar file is needed")
        self.indexes = [open_index(shard) for shard in shards]
        self.fields = self.indexes[0].fields if fields is None else tuple(fields)
        self._decoders = {field: find_decoder(field, decoders or {}) for field in self.fields}
        self._columns = [_columns(index, self.fields) for index in self.indexes]
        self._column_of = [{field: column for column, field in enumerate(index.fields)} for index in self.indexes]
        self._starts = [0, *accumulate(len(index) for index in self.indexes)]
        self._transform = transform
        self._open: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": OrderedDict()}  # descriptors mean nothing in another process

    def load(self, index: int, rng: np.random.Generator) -> Any:
        sample = self.read(index)
        return sample if self._transform is None else self._transform(sample, rng)

    def read(self, index: int) -> Sample:
        """The decoded fields of a sample, its key as `__key__`.

        Raises:
            InputError: The sample is damaged; names shard, key and field.
        """
        shard, row = self._locate(index)
        shown, key = self.indexes[shard].path, self.indexes[shard].keys[row]
        sample: Sample = {"__key__": key}
        for field, column in zip(self.fields, self._columns[shard], strict=True):
            data = self._read_bytes(shard, row, column)
            sample[field] = self._decoders[field](data, f"{shown}: {key}.{field}")
        return sample

    def members(self, index: int) -> tuple[str, ...]:
        """The fields that this sample has, in the order of their names."""
        shard, row = self._locate(index)
        fields = self.indexes[shard].fields
        return tuple(fields[column] for column in np.flatnonzero(self.indexes[shard].offsets[row] >= 0))

    def read_members(self, index: int, names: Sequence[str]) -> list[bytes]:
        """The bytes of some fields of a sample, not decoded. Nothing else of the sample is read.

        Raises:
            InputError: The sample lacks one of them, or the shard has changed; names shard, key and field.
        """
        shard, row = self._locate(index)
        columns = self._column_of[shard]
        for name in names:
            if name not in columns or self.indexes[shard].offsets[row, columns[name]] < 0:
                raise InputError(f"{self.where(index)}: has no .{name}; it has {', '.join(self.members(index))}")
        return self._read_all(shard, row, [columns[name] for name in names])

    def columns(self, index: int, names: Sequence[str]) -> list[int]:
        """Where the index of the sample's shard has these fields: what `read_columns` asks for."""
        columns = self._column_of[self._locate(index)[0]]
        return [columns[name] for name in names]

    def read_columns(self, index: int, columns: Sequence[int]) -> list[bytes]:
        """As `read_members`, by what `columns` said of fields that the sample has.

        Raises:
            InputError: The shard has changed; names shard, key and field.
        """
        shard, row = self._locate(index)
        return self._read_all(shard, row, columns)

    def key(self, index: int) -> str:
        shard, row = self._locate(index)
        return self.indexes[shard].keys[row]

    def shard(self, index: int) -> Path:
        """The shard that a sample lies in."""
        return self.indexes[self._locate(index)[0]].path

    def where(self, index: int) -> str:
        """Shard and key of a sample, for messages."""
        return f"{self.shard(index)}: {self.key(index)}"

    def close(self) -> None:
        """Close the shards; they open again when read."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        if hasattr(self, "_open"):
            self.close()

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} of {len(self)}")
        shard = bisect_right(self._starts, index) - 1
        return shard, index - self._starts[shard]

    def _read_bytes(self, shard: int, row: int, column: int) -> bytes:
        return self._read_all(shard, row, [column])[0]

    def _read_all(self, shard: int, row: int, columns: Sequence[int]) -> list[bytes]:
        """Small fields that lie close together are read in one go, with their headers.

        These tell a shard that has changed since it was indexed.
        """
        index = self.indexes[shard]
        places = {c: (int(index.offsets[row, c]), int(index.sizes[row, c])) for c in columns}
        found = {}
        for group in _close(places):
            try:
                files = _read_files(self._descriptor(shard), [places[column] for column in group])
            except OSError as error:
                name = f"{index.keys[row]}.{index.fields[group[0]]}"
                raise InputError(f"{index.path}: {name}: cannot be read: {error.strerror}") from None
            for column, (header, content) in zip(group, files, strict=True):
                name, size = f"{index.keys[row]}.{index.fields[column]}", places[column][1]
                if len(content) < size or not _is_header_of(header, name, size):
                    raise InputError(
                        f"{index.path}: {name}: is not where the index says; delete {index.path.name}.index.json"
                    )
                found[column] = content
        return [found[column] for column in columns]

    def _descriptor(self, shard: int) -> int:
        if shard in self._open:
            self._open.move_to_end(shard)
        else:
            if len(self._open) >= MAX_OPEN:
                os.close(self._open.popitem(last=False)[1])
            self._open[shard] = os.open(self.indexes[shard].path, os.O_RDONLY)
        return self._open[shard]


def find_shards(where: str | Path) -> list[Path]:
    """Shards by a folder (all its .tar files), one file, a glob, or braces: `train-{000000..000099}.tar`.

    Raises:
        InputError: There are none.
    """
    from webdataset.shardlists import expand_urls  # its notation; the import takes a while

    path = Path(where)
    if path.is_dir():
        found = sorted(path.glob("*.tar"))
    else:
        expanded = [Path(name) for name in expand_urls(str(where))]
        found = [file for p in expanded for file in (sorted(p.parent.glob(p.name)) if "*" in p.name else [p])]
    missing = [file for file in found if not file.is_file()]
    if missing or not found:
        raise InputError(f"{missing[0] if missing else where}: no .tar shard there")
    return found


def _columns(index: ShardIndex, fields: tuple[str, ...]) -> list[int]:
    """Places of the fields in this shard, which may have others besides."""
    columns = []
    for field in fields:
        if field not in index.fields:
            raise InputError(f"{index.path}: no sample has a .{field}; there are {', '.join(index.fields)}")
        column = index.fields.index(field)
        lacking = np.flatnonzero(index.offsets[:, column] < 0)
        if len(lacking):
            raise InputError(f"{index.path}: {index.keys[lacking[0]]}: has no .{field}; {len(lacking)} samples lack it")
        columns.append(column)
    return columns


def _close(places: Mapping[int, tuple[int, int]]) -> list[list[int]]:
    """Columns by where they lie (offset, size), cut where the gap to the next is not small, and around large fields."""
    groups: list[list[int]] = []
    end = -SMALL_GAP
    for column in sorted(places, key=places.__getitem__):
        offset, size = places[column]
        if groups and offset - end <= SMALL_GAP and size < LARGE:
            groups[-1].append(column)
        else:
            groups.append([column])
        end = -SMALL_GAP if size >= LARGE else offset + size
    return groups


def _read_files(descriptor: int, places: Sequence[tuple[int, int]]) -> list[tuple[bytes, bytes]]:
    """Header and bytes of files that follow each other; of one alone without cutting them out of more."""
    if len(places) == 1:
        ((offset, size),) = places
        return [(os.pread(descriptor, BLOCK, offset - BLOCK), os.pread(descriptor, size, offset))]
    start = places[0][0] - BLOCK
    data = os.pread(descriptor, sum(places[-1]) - start, start)
    return [(data[at - BLOCK : at], data[at : at + size]) for at, size in ((o - start, n) for o, n in places)]


def _is_header_of(header: bytes, name: str, size: int) -> bool:
    """Long and non-ASCII names are stored elsewhere (pax); the size has to do for them."""
    octal = header[124:136].strip(b" \0")
    if not octal.isdigit() or int(octal, 8) != size:
        return False
    stored = header[:100].rstrip(b"\0")
    return not name.isascii() or len(name) > 100 or name.encode().endswith(stored.removeprefix(b"./"))


__all__ = ["ShardSource", "ShardWriter", "find_shards"]
