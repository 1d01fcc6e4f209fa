"""Tai-Chi-HD with 18 body points, pictures 256 wide (Siarohin et al., as AutoLink and StableKeypoints read it).

    eval_images/taichi-256/train/..., eval_images/taichi-256/test/...
    landmark/taichi_train_gt.npz, landmark/taichi_test_gt.npz

The annotations are published as pickles of pandas, `landmark/taichi_train_gt.pkl`. A pickle can run anything when it is
read, so it is refused here; the arrays `file_name` (n) and `value` (n, 18, 2) of an .npz are read instead, pixels (x, y) of
which both are above 0 where the point is visible. `PICKLE_TO_NPZ` makes them, for who trusts the file.
"""

from pathlib import Path

import numpy as np

from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet
from keypoint_nvs.data.rgba_images import read_rgba
from posecore.errors import InputError

SIDE, NUM_POINTS = 256, 18
PICKLE_TO_NPZ = (
    "python -c \"import numpy, pandas; d = pandas.read_pickle('{pickle}'); numpy.savez('{npz}', "
    "file_name=numpy.array(list(d.file_name), 'U'), value=numpy.array(list(d.value), 'f8'))\""
)


def taichi(root: Path) -> Benchmark:
    """
    Raises:
        InputError: A file is missing, of another layout, or only there as a pickle.
    """
    train, test = (_split(root, split) for split in ("train", "test"))
    return Benchmark("taichi", "summed_px256", train, test)


def _split(root: Path, split: str) -> PictureSet:
    path = root / "landmark" / f"taichi_{split}_gt.npz"
    if not path.is_file():
        pickle = path.with_suffix(".pkl")
        advice = f"; {pickle.name} is a pickle, which is not read; if you trust it: " if pickle.is_file() else "; see "
        how = (
            PICKLE_TO_NPZ.format(pickle=pickle, npz=path)
            if pickle.is_file()
            else "https://github.com/AliaksandrSiarohin/motion-cosegmentation"
        )
        raise InputError(f"{path}: no such file{advice}{how}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names, value = arrays["file_name"], arrays["value"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: {error}; expected the arrays file_name and value") from None
    if names.dtype.kind != "U" or names.ndim != 1:
        raise InputError(f"{path}: file_name is {names.dtype} {names.shape}; expected text (n)")
    if value.shape != (len(names), NUM_POINTS, 2) or value.dtype.kind not in "fi":
        raise InputError(
            f"{path}: value is {value.dtype} {value.shape}; expected numbers ({len(names)}, {NUM_POINTS}, 2)"
        )
    pictures = root / "eval_images" / "taichi-256" / split
    visible = (value > 0).all(-1)
    ids = tuple(str(name) for name in names)
    return PictureSet(ids, value.astype(float) / SIDE, visible, lambda index: read_rgba(pictures / ids[index]))
