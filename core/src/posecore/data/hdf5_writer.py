"""HDF5 files as tables of samples: written whole or not at all, chunked for reading random batches."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import h5py
import numpy as np

from posecore.errors import InputError

Cell = np.ndarray | np.generic | float | int | bool | str | bytes

BUFFERED_ROWS = 32
"""Rows held back until they are written together."""
CHUNK_BYTES = 1 << 16
"""Size to aim at for the chunks of a numeric column; a chunk has 1 to 32 whole rows."""
BLOB_CHUNK = 1 << 18


class Hdf5Writer:
    """Appends rows to the datasets of an HDF5 file, which appears under its name only at `finish`.

    The first row sets the columns: bytes become pictures (`packed`: group with `data` and `offsets`; `vlen`:
    variable-length rows, for programs that expect those), text a UTF-8 column, arrays and numbers a numeric column.
    """

    def __init__(self, path: Path, blobs: Literal["packed", "vlen"] = "packed") -> None:
        self.path = path
        self.num_rows = 0
        self._blobs = blobs
        self._unfinished = path.with_name(f".{path.name}.writing")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._unfinished, "w")
        self._rows: list[Mapping[str, Cell]] = []
        self._columns: dict[str, tuple[type, tuple[int, ...]]] = {}

    def append(self, row: Mapping[str, Cell]) -> None:
        """Add one sample.

        Raises:
            ValueError: Other columns, types or shapes than in the first row.
        """
        columns = {name: _signature(cell) for name, cell in row.items()}
        self._columns = self._columns or columns
        if columns != self._columns:
            differing = sorted(name for name in columns | self._columns if columns.get(name) != self._columns.get(name))
            raise ValueError(f"row {self.num_rows}: {', '.join(differing)} differ from the first row")
        self._rows.append(row)
        self.num_rows += 1
        if len(self._rows) == BUFFERED_ROWS:
            self._flush()

    def finish(self, metadata: Mapping[str, Any]) -> None:
        """Write attributes of the group `metadata` (dictionaries: of its subgroups), and put the file in its place.

        Raises:
            InputError: No row was written.
        """
        if self.num_rows == 0:
            raise InputError(f"{self.path}: there is no sample to write; check the input and the filters")
        self._flush()
        group = self._file.require_group("metadata")
        for name, value in metadata.items():
            if isinstance(value, Mapping):
                group.require_group(name).attrs.update(value)
            else:
                group.attrs[name] = value
        self._file.close()
        with self._unfinished.open("rb") as file:
            os.fsync(file.fileno())
        self._unfinished.replace(self.path)

    def __enter__(self) -> "Hdf5Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._unfinished.unlink(missing_ok=True)

    def _flush(self) -> None:
        if not self._rows:
            return
        for name, first in self._rows[0].items():
            cells = [row[name] for row in self._rows]
            if not isinstance(first, bytes):
                self._extend(name, _column(cells), _chunk_rows(first))
            elif self._blobs == "vlen":
                self._extend_vlen(name, cells)
            else:
                self._extend_packed(name, cells)
        self._rows.clear()

    def _extend_packed(self, name: str, cells: list[Any]) -> None:
        sizes = np.array([len(cell) for cell in cells])
        offsets = f"{name}/offsets"
        if offsets not in self._file:
            self._extend(offsets, np.zeros(1, np.int64), 1024)
        last = int(self._file[offsets][-1])
        self._extend(offsets, last + np.cumsum(sizes), 1024)
        self._extend(f"{name}/data", np.frombuffer(b"".join(cells), np.uint8), BLOB_CHUNK)

    def _extend_vlen(self, name: str, cells: list[Any]) -> None:
        if name not in self._file:
            dtype = h5py.vlen_dtype(np.uint8)
            self._file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(BUFFERED_ROWS,))
        dataset = self._file[name]
        start = len(dataset)
        dataset.resize(start + len(cells), axis=0)
        for row, cell in enumerate(cells, start):  # one by one: h5py takes blobs of equal length for a matrix
            dataset[row] = np.frombuffer(cell, np.uint8)

    def _extend(self, name: str, values: np.ndarray, chunk_rows: int) -> None:
        if name not in self._file:
            shape = values.shape[1:]
            dtype = h5py.string_dtype() if values.dtype == object else values.dtype
            self._file.create_dataset(name, (0, *shape), dtype, maxshape=(None, *shape), chunks=(chunk_rows, *shape))
        dataset = self._file[name]
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[len(dataset) - len(values) :] = values


def _signature(cell: Cell) -> tuple[type, tuple[int, ...]]:
    """What must not change from row to row."""
    if isinstance(cell, bytes | str):
        return type(cell), ()
    array = np.asarray(cell)
    return array.dtype.type, array.shape


def _column(cells: list[Any]) -> np.ndarray:
    return np.array(cells, dtype=object) if isinstance(cells[0], str) else np.stack([np.asarray(c) for c in cells])


def _chunk_rows(cell: Any) -> int:
    size = 16 if isinstance(cell, str) else np.asarray(cell).nbytes
    return min(max(CHUNK_BYTES // max(size, 1), 1), BUFFERED_ROWS)
