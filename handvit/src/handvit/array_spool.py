"""Arrays that grow row by row on disk, so that a long video never lies in memory, and become one .npz."""

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

BLOCK = 1 << 20


class ArraySpool:
    """Columns of rows of fixed shape; `write` makes them an .npz that `np.load` reads without pickles.

    >>> spool = ArraySpool({"pose": ("f4", (48,))}, folder)
    >>> spool.add(pose=np.zeros((2, 48)))
    >>> spool.write(folder / "poses.npz")
    """

    def __init__(self, columns: Mapping[str, tuple[str, tuple[int, ...]]], folder: Path) -> None:
        """`columns`: dtype and shape of a row; `folder`: on a disk with room for all of it."""
        self.columns = {name: (np.dtype(kind), shape) for name, (kind, shape) in columns.items()}
        self.rows = 0
        self._files: dict[str, IO[bytes]] = {
            name: tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - `close` does it
            for name in columns
        }

    def add(self, **rows: Any) -> None:
        """Rows of all columns, as many in each.

        Raises:
            ValueError: A column is missing, or its rows have another shape.
        """
        arrays = {name: np.asarray(values) for name, values in rows.items()}
        if arrays.keys() != self.columns.keys():
            raise ValueError(f"columns {sorted(arrays)} given, {sorted(self.columns)} needed")
        count = len(next(iter(arrays.values())))
        for name, array in arrays.items():
            kind, shape = self.columns[name]
            if array.shape != (count, *shape):
                raise ValueError(f"{name}: shape {array.shape}, expected {(count, *shape)}")
            self._files[name].write(array.astype(kind).tobytes())
        self.rows += count

    def write(self, path: Path, **more: Any) -> None:
        """All rows, and arrays that are not by row, as compressed .npz."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, (kind, shape) in self.columns.items():
                header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False}
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header | {"shape": (self.rows, *shape)})
                    self._files[name].seek(0)
                    while block := self._files[name].read(BLOCK):
                        member.write(block)
            for name, values in more.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)

    def close(self) -> None:
        """Free the room on the disk."""
        for file in self._files.values():
            file.close()
