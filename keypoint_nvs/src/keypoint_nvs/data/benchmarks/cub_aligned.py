"""CUB-200-2011, birds cut out and turned to one side: AutoLink's file `cub.h5`.

Datasets `train_img` (n,3,h,w) uint8, `train_kp` (n,15,2) in 0..1 as (row, col), `train_vis` (n,15) 0 or 1, and the same
with `test_`.
"""

from pathlib import Path

import h5py
import numpy as np

from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet
from posecore.errors import InputError


def cub_aligned(root: Path) -> Benchmark:
    """From `cub.h5` in a folder, or the file itself.

    Raises:
        InputError: It is missing, damaged or of another layout.
    """
    path = root / "cub.h5" if root.is_dir() else root
    try:
        with h5py.File(path, "r") as file:
            train, test = (_split(path, file, name) for name in ("train", "test"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read as HDF5: {error}; expected AutoLink's cub.h5") from None
    return Benchmark("cub", "visible", train, test)


def _split(path: Path, file: h5py.File, split: str) -> PictureSet:
    key, shape = f"{split}_img", None
    for name, rank in ((key, 4), (f"{split}_kp", 3), (f"{split}_vis", 2)):
        if not isinstance(file.get(name), h5py.Dataset):
            raise InputError(f"{path}: has no dataset {name}")
        shape = file[name].shape
        if len(shape) != rank or shape[0] != file[key].shape[0]:
            raise InputError(
                f"{path}: {name} has shape {shape}; expected rank {rank} and {file[key].shape[0]} pictures"
            )
    if file[key].dtype != np.uint8 or file[key].shape[1] != 3:
        raise InputError(f"{path}: {key} is {file[key].dtype} {file[key].shape}; expected uint8 (n, 3, h, w)")
    points_rc = file[f"{split}_kp"][...].astype(float)
    visible = file[f"{split}_vis"][...] > 0
    ids = tuple(f"{path.name}:{key}[{index}]" for index in range(len(points_rc)))

    def read(index: int) -> np.ndarray:
        with h5py.File(path, "r") as again:  # its own handle: the set may be read in another process
            rgb = again[key][index]
        return np.concatenate([rgb, np.full_like(rgb[:1], 255)])

    return PictureSet(ids, np.ascontiguousarray(points_rc[..., ::-1]), visible, read)
