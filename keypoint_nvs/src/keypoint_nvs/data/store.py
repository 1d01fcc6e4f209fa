"""Reads stores of multi-view samples, any sample at any time; several shards are one set."""

import os
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from keypoint_nvs.data.records import MultiviewSample
from keypoint_nvs.data.store_checks import check_keys, check_layout, check_values
from keypoint_nvs.data.store_format import SAMPLE_IDS, SAMPLES, StoreHeader, header_of
from keypoint_nvs.data.store_paths import find_stores
from keypoint_nvs.data.store_records import sample_of
from posecore.errors import InputError

KEYPOINTS = ("keypoints_world", "keypoints_visible")


class MultiviewStore:
    """Samples of one or several shards, one shard after the other.

    Files are opened on first use in each process, because HDF5 handles do not survive a fork. Every sample is checked
    when it is read.

    Args:
        path: A file, a folder of .hdf5 or .h5 files, a glob, or a list of files.

    Raises:
        InputError: No file, no store, shards of different sizes or rigs, or the same sample in two shards.
    """

    def __init__(self, path: str | Path | Sequence[Path]) -> None:
        self.paths = find_stores(path) if isinstance(path, str | Path) else list(path)
        headers, ids = zip(*(_read_list(shard) for shard in self.paths), strict=True)
        self.header: StoreHeader = headers[0]
        for shard, header in zip(self.paths, headers, strict=True):
            if header != self.header:
                raise InputError(f"{shard}: has {header}, {self.paths[0]} has {self.header}; shards of a set are alike")
        self.sample_ids: tuple[str, ...] = tuple(name for part in ids for name in part)
        self._starts = np.array([0, *accumulate(len(part) for part in ids)])
        if len(set(self.sample_ids)) < len(self):
            self._tell_twice()
        self._files: dict[int, Any] = {}
        self._owner = -1

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}, "_owner": -1}

    def where(self, index: int) -> str:
        """File and sample, for messages."""
        return f"{self.paths[self._shard(index)]}: {self.sample_ids[index]}"

    def read(self, index: int, *, with_keypoints: bool = True) -> MultiviewSample:
        """
        Args:
            with_keypoints: False: ground truth is left unread.

        Raises:
            InputError: The sample is damaged, or not what the format says; names file, sample, key and value.
        """
        shard, where, name = self._shard(index), self.where(index), self.sample_ids[index]
        group = self._open(shard).get(f"{SAMPLES}/{name}")
        if not isinstance(group, h5py.Group):
            raise InputError(f"{where}: no such group in {SAMPLES}; the file's list {SAMPLE_IDS} names it")
        datasets = dict(group.items())
        check_keys(datasets, self.header, where)
        for key, dataset in datasets.items():
            if not isinstance(dataset, h5py.Dataset):
                raise InputError(f"{where}: {key}: is a group, expected a dataset")
        check_layout(datasets, self.header, where)
        wanted = [key for key in datasets if with_keypoints or key not in KEYPOINTS]
        arrays = {key: _whole(datasets[key], f"{where}: {key}") for key in wanted}
        check_values(arrays, self.header, where)
        return sample_of(name, arrays, _plain(group.attrs), where)

    def num_keypoints(self, index: int) -> int:
        """Of a sample's ground truth, 0 where it has none; without reading pictures."""
        found = self._open(self._shard(index)).get(f"{SAMPLES}/{self.sample_ids[index]}/{KEYPOINTS[0]}")
        return 0 if found is None else int(found.shape[0])

    def close(self) -> None:
        """Close the files that this process has open."""
        if self._owner == os.getpid():
            for file in self._files.values():
                file.close()
        self._files, self._owner = {}, -1

    def _shard(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"no sample {index} of {len(self)}")
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def _open(self, shard: int) -> Any:
        if self._owner != os.getpid():
            self._files, self._owner = {}, os.getpid()
        if shard not in self._files:
            self._files[shard] = _open_file(self.paths[shard])
        return self._files[shard]

    def _tell_twice(self) -> None:
        seen: dict[str, int] = {}
        for index, name in enumerate(self.sample_ids):
            if name in seen:
                raise InputError(
                    f"{self.where(index)}: is also in {self.paths[self._shard(seen[name])]}; ids differ in a set"
                )
            seen[name] = index


def _read_list(path: Path) -> tuple[StoreHeader, list[str]]:
    """What a shard is, and its samples in order."""
    with _open_file(path) as file:
        header = header_of(_plain(file.attrs), str(path))
        group = file.get(SAMPLES)
        if not isinstance(group, h5py.Group):
            raise InputError(f"{path}: has no group {SAMPLES}")
        ids = _listed(file, path) if SAMPLE_IDS in file else _walked(group, path)
    if not ids:
        raise InputError(f"{path}: has no sample in {SAMPLES}")
    return header, ids


def _listed(file: Any, path: Path) -> list[str]:
    """The column of ids; opening 100,000 groups instead takes seconds.

    Raises:
        InputError: Objects were added or removed since it was written.
    """
    ids = [name.decode() for name in file[SAMPLE_IDS][:].tolist()]
    listed, present = len({name.partition("/")[0] for name in ids}), len(file[SAMPLES])
    if listed != present:
        raise InputError(f"{path}: {SAMPLE_IDS} names {listed} objects, {SAMPLES} has {present}; delete {SAMPLE_IDS}")
    return ids


def _walked(samples: Any, path: Path) -> list[str]:
    root, ids = samples.id, []
    for name in root:  # the low-level interface: h5py's own objects take three times as long
        try:
            ids += [f"{name.decode()}/{index.decode()}" for index in h5py.h5g.open(root, name)]
        except (KeyError, ValueError):
            raise InputError(f"{path}: {SAMPLES}/{name.decode()}: is no group OBJECT with groups INDEX in it") from None
    return ids


def _whole(dataset: Any, where: str) -> np.ndarray:
    try:
        return np.asarray(dataset[()])
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{where}: cannot be read ({reason}); copy the file or make it again") from None


def _open_file(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        return h5py.File(path, "r", rdcc_nbytes=0)  # each chunk is read once and whole: a cache would only copy it
    except OSError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a whole HDF5 file ({reason}); copy it or make it again") from None


def _plain(attributes: Any) -> dict[str, Any]:
    """Attributes as Python's own values."""
    values = {name: value.item() if isinstance(value, np.generic) else value for name, value in attributes.items()}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}
