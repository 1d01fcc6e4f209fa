"""HDF5 files as tables of samples: row by row written whole or not at all, read lazily in each process."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

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

    def __enter__(self) -> Self:
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


class TableReader:
    """Reads rows and columns; what is missing or torn is told in one line that names file and dataset.

    The handle is opened on first use in each process, because HDF5 handles do not survive a fork.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: Any = None
        self._owner = -1
        self._datasets: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_handle": None, "_owner": -1, "_datasets": {}}

    def __contains__(self, name: str) -> bool:
        return name in self._open()

    def find(self, *names: str) -> str | None:
        """The first of these datasets that the file has."""
        return next((name for name in names if name in self), None)

    def require(self, *names: str, shape: tuple[int | None, ...]) -> str:
        """The first of these datasets (aliases), checked against the shape; None stands for any length."""
        name = self.find(*names)
        if name is None:
            known = "" if "metadata" in self else "; this is no file made by `smil data convert`"
            raise InputError(f"{self.path}: {' or '.join(names)}: no such dataset{known}")
        found = self.shape(name)
        fits = len(found) == len(shape) and all(s in (None, f) for s, f in zip(shape, found, strict=True))
        if not fits:
            expected = ", ".join("any" if s is None else str(s) for s in shape)
            raise InputError(f"{self.path}: {name}: expected shape ({expected}), found {found}")
        return name

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._dataset(name).shape)

    def row(self, name: str, index: int) -> Any:
        """One row; an unreadable one names the sample."""
        try:
            return self._dataset(name)[index]
        except OSError as error:
            raise InputError(f"{self.path}[{index}]: {name}: cannot be read ({_first_line(error)})") from error

    def column(self, name: str) -> Any:
        """All rows: for small columns only."""
        try:
            return self._dataset(name)[:]
        except OSError as error:
            raise InputError(f"{self.path}: {name}: cannot be read ({_first_line(error)})") from error

    def texts(self, name: str) -> list[str]:
        """A column of strings, stored as fixed bytes or as vlen UTF-8."""
        return [value.decode() if isinstance(value, bytes) else str(value) for value in self.column(name)]

    def attribute(self, name: str) -> Any:
        """An attribute of `metadata` as a plain value; None where it is absent."""
        handle = self._open()
        attributes = handle["metadata"].attrs if "metadata" in handle else {}
        if name not in attributes:
            return None
        value = attributes[name]
        if isinstance(value, bytes):
            return value.decode()
        return value.item() if isinstance(value, np.generic) else value

    def close(self) -> None:
        if self._handle is not None and self._owner == os.getpid():
            self._handle.close()
        self._handle, self._datasets = None, {}

    def _dataset(self, name: str) -> Any:
        handle = self._open()
        if name not in self._datasets:
            self._datasets[name] = handle[name]
        return self._datasets[name]

    def _open(self) -> Any:
        if self._handle is None or self._owner != os.getpid():
            self._handle, self._owner, self._datasets = _open_file(self.path), os.getpid(), {}
        return self._handle


def _open_file(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise InputError(
            f"{path}: not a whole HDF5 file ({_first_line(error)}); copy it or convert the data again"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
