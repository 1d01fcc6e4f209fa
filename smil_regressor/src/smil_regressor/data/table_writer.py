"""HDF5 files in SMILify's manner, pictures as variable-length rows: written row by row, whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import h5py
import numpy as np

from posecore.errors import InputError

Cell = np.ndarray | np.generic | bytes | str
Row = Mapping[str, Cell]

BUFFERED_ROWS = 32
"""Rows held before they are written, and rows in a chunk: random batches read no more than they must."""


class TableWriter:
    """Appends rows to the datasets of an HDF5 file.

    The file appears under its name only when `with` ends without an error. Arrays become fixed columns,
    bytes vlen uint8, str vlen UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._partial, "w")
        self._rows: list[Row] = []
        self.num_rows = 0

    def append(self, row: Row) -> None:
        """All rows need the same columns, shapes and dtypes."""
        self._rows.append(row)
        self.num_rows += 1
        if len(self._rows) == BUFFERED_ROWS:
            self._flush()

    def finish(self, metadata: Mapping[str, Any]) -> None:
        """Write attributes of the group `metadata` (dictionaries: of its subgroups) and put the file in its place."""
        if self.num_rows == 0:
            raise InputError(f"{self.path}: there is no sample to write; check the input folder and the filters")
        self._flush()
        group = self._file.require_group("metadata")
        for name, value in metadata.items():
            if isinstance(value, Mapping):
                group.require_group(name).attrs.update(value)
            else:
                group.attrs[name] = value
        self._file.close()
        with self._partial.open("rb") as stream:
            os.fsync(stream.fileno())
        self._partial.replace(self.path)

    def discard(self) -> None:
        """Remove what was written so far; nothing happens after `finish`."""
        self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def _flush(self) -> None:
        if not self._rows:
            return
        start = self.num_rows - len(self._rows)
        for name, first in self._rows[0].items():
            dataset = self._file[name] if name in self._file else self._create(name, first)
            dataset.resize(self.num_rows, axis=0)
            cells = [row[name] for row in self._rows]
            if isinstance(first, bytes):
                for offset, cell in enumerate(cells):  # h5py takes a list of one blob for a row of numbers
                    dataset[start + offset] = np.frombuffer(cast(bytes, cell), np.uint8)
            else:
                dataset[start:] = np.array(cells, dtype=object) if isinstance(first, str) else np.stack(cells)
        self._rows.clear()

    def _create(self, name: str, cell: Cell) -> Any:
        if isinstance(cell, bytes):
            shape: tuple[int, ...] = ()
            dtype: Any = h5py.vlen_dtype(np.uint8)
        elif isinstance(cell, str):
            shape, dtype = (), h5py.string_dtype()
        else:
            shape, dtype = cell.shape, cell.dtype
        chunks = (BUFFERED_ROWS, *shape) if np.prod(shape) <= 4096 else (1, *shape)
        return self._file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=chunks)
