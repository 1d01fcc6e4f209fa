"""Writes stores of multi-view samples; a file appears under its name only when it is whole."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import h5py
import numpy as np

import keypoint_nvs
from keypoint_nvs.data.records import MultiviewSample
from keypoint_nvs.data.store_checks import check_keys, check_layout, check_values
from keypoint_nvs.data.store_format import (
    FORMAT,
    PICTURES,
    RIGS,
    SAMPLE_IDS,
    SAMPLES,
    TARGETS,
    VERSION,
    StoreHeader,
)
from keypoint_nvs.data.store_records import arrays_of, attributes_of
from posecore.errors import InputError

GZIP_LEVEL = 4


class StoreWriter:
    """Samples of one shard, in order; the first sets the size of the pictures and the number of target views.

    Use as a context: `finish` puts the file in its place, leaving without it removes what was written.

    Args:
        path: The .hdf5 file; its folder is made.
        rig: zero123plus-v1.1, zero123plus-v1.2, or free (each sample has cameras).

    Raises:
        InputError: No such rig.
    """

    def __init__(self, path: Path, rig: str) -> None:
        if rig not in RIGS:
            raise InputError(f"{path}: rig {rig!r}; it is one of {', '.join(RIGS)}")
        self.path, self.rig = path, rig
        self.header: StoreHeader | None = None
        self._ids: dict[str, None] = {}
        self._unfinished = path.with_name(f".{path.name}.writing")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._unfinished, "w")

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, sample: MultiviewSample) -> None:
        """
        Raises:
            InputError: It is not what the format says, of another size than the first, or of an id that is there
                already; names sample and key.
        """
        where = f"{self.path}: {sample.sample_id}"
        _check_id(sample.sample_id, where)
        if sample.sample_id in self._ids:
            raise InputError(f"{where}: is there twice; ids tell samples apart")
        header = self.header or _header_of_first(sample, self.rig, where)
        arrays = arrays_of(sample)
        check_keys(arrays, header, where)
        check_layout(arrays, header, where)
        check_values(arrays, header, where)
        group = self._file.create_group(f"{SAMPLES}/{sample.sample_id}")
        for name, values in arrays.items():
            _write(group, name, values)
        group.attrs.update(attributes_of(sample))
        self.header = header
        self._ids[sample.sample_id] = None

    def finish(self) -> None:
        """Write the attributes and put the file in its place.

        Raises:
            InputError: No sample was written.
        """
        if self.header is None:
            raise InputError(f"{self.path}: there is no sample to write; check the input")
        self._file.attrs.update(
            {
                "format": FORMAT,
                "version": VERSION,
                "rig": self.rig,
                "height": self.header.height,
                "width": self.header.width,
                "alpha": "straight",
                "created_by": f"keypoint-nvs {keypoint_nvs.__version__}",
            }
        )
        if self.header.num_targets != TARGETS:
            self._file.attrs["num_targets"] = self.header.num_targets
        self._file.create_dataset(SAMPLE_IDS, data=np.array([name.encode() for name in self._ids]))
        self._file.close()
        with self._unfinished.open("rb") as file:
            os.fsync(file.fileno())
        self._unfinished.replace(self.path)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._unfinished.unlink(missing_ok=True)


def write_store(path: Path, rig: str, samples: Iterable[MultiviewSample]) -> int:
    """One shard of these samples; returns how many there are.

    Raises:
        InputError: As `StoreWriter`.
    """
    with StoreWriter(path, rig) as writer:
        for sample in samples:
            writer.append(sample)
        writer.finish()
        return len(writer)


def _write(group: h5py.Group, name: str, values: np.ndarray) -> None:
    if name not in PICTURES:
        group.create_dataset(name, data=values)
        return
    chunk = values.shape if name == "cond_imgs" else (1, *values.shape[1:])  # a view is read and unpacked whole
    group.create_dataset(name, data=values, chunks=chunk, compression="gzip", compression_opts=GZIP_LEVEL, shuffle=True)


def _header_of_first(sample: MultiviewSample, rig: str, where: str) -> StoreHeader:
    shape = sample.target_imgs.shape
    if len(shape) != 4 or shape[1] != 4:
        hint = "; channels come before rows" if shape[-1:] == (4,) else ""
        raise InputError(f"{where}: target_imgs: shape is {shape}, expected (views, 4, height, width){hint}")
    return StoreHeader(rig, shape[2], shape[3], shape[0] if rig == "free" else TARGETS)


def _check_id(sample_id: str, where: str) -> None:
    parts = sample_id.split("/")
    if len(parts) != 2 or not all(part and part not in (".", "..") for part in parts):
        raise InputError(f"{where}: ids are OBJECT/INDEX, as 0a1b2c/0")
