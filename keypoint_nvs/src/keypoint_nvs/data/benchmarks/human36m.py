"""Human3.6M, six actions with the background masked, 32 joints (the pictures of Zhang et al. 2018, as AutoLink reads them).

    S1/WithBackground/Directions.../000001.jpg
    S1/BackgroudMask/Directions.../000001.png   (published under that name) 0 or 1, or 0 or 255
    S1/Landmarks/Directions.../000001.mat       keypoints_2d (32, 2) in 0..1

Subjects 1, 5, 6, 7, 8, 9 train, 11 tests. The columns of keypoints_2d are taken as (row, col), as upstream does; errors
and regression are the same in either order.
"""

from pathlib import Path

import cv2
import numpy as np
import scipy.io
from jaxtyping import UInt8

from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet
from keypoint_nvs.data.rgba_images import read_rgba
from keypoint_nvs.regression import HUMAN36M_SWAP
from posecore.errors import InputError

TRAIN_SUBJECTS, TEST_SUBJECTS = (1, 5, 6, 7, 8, 9), (11,)
ACTIONS = ("Directions", "Discussion", "Posing", "Waiting", "Greeting", "Walking")
NUM_JOINTS = 32


def human36m(root: Path) -> Benchmark:
    """
    Raises:
        InputError: A file or folder is missing or of another layout.
    """
    train, test = _split(root, TRAIN_SUBJECTS), _split(root, TEST_SUBJECTS)
    return Benchmark("human36m", "orientation_free_px128", train, test, permutation=HUMAN36M_SWAP)


def _split(root: Path, subjects: tuple[int, ...]) -> PictureSet:
    samples: list[tuple[str, str, str]] = []
    for subject in subjects:
        folder = root / f"S{subject}" / "WithBackground"
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; expected the pictures of subject {subject}")
        actions = sorted(path for path in folder.iterdir() if path.name.startswith(ACTIONS))
        samples += [
            (f"S{subject}", action.name, frame.stem) for action in actions for frame in sorted(action.glob("*.jpg"))
        ]
    if not samples:
        raise InputError(f"{root}: has no picture of {', '.join(ACTIONS)}")
    points = np.stack([_joints(root / s / "Landmarks" / action / f"{frame}.mat") for s, action, frame in samples])
    ids = tuple("/".join(sample) for sample in samples)
    return PictureSet(ids, points, np.ones(points.shape[:2], bool), lambda index: _masked(root, *samples[index]))


def _joints(path: Path) -> np.ndarray:
    try:
        points = scipy.io.loadmat(path)["keypoints_2d"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected the joints of the picture") from None
    except (OSError, ValueError, NotImplementedError, TypeError, KeyError) as error:
        raise InputError(f"{path}: {error!r}; expected MATLAB's file with keypoints_2d") from None
    if points.shape != (NUM_JOINTS, 2) or points.dtype.kind not in "fiu":
        raise InputError(f"{path}: keypoints_2d is {points.dtype} {points.shape}; expected numbers ({NUM_JOINTS}, 2)")
    swapped: np.ndarray = points[:, ::-1].astype(float)
    return swapped


def _masked(root: Path, subject: str, action: str, frame: str) -> UInt8[np.ndarray, "4 h w"]:
    """Black where the mask is 0."""
    rgba = read_rgba(root / subject / "WithBackground" / action / f"{frame}.jpg")
    path = root / subject / "BackgroudMask" / action / f"{frame}.png"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if mask is None:
        raise InputError(f"{path}: no such mask, or it cannot be decoded")
    if mask.shape != rgba.shape[1:]:
        raise InputError(f"{path}: has shape {mask.shape}, its picture {rgba.shape[1:]}")
    if not np.isin(mask, (0, 1)).all() and not np.isin(mask, (0, 255)).all():
        raise InputError(f"{path}: has values other than 0 and 1, or 0 and 255")
    rgba[:3] *= mask > 0
    return rgba
