"""CelebA with the split of MAFL: five points of faces (eyes, nose, corners of the mouth).

Files as published (and as StableKeypoints reads them), below one folder:

    Anno/list_landmarks_align_celeba.txt, Anno/list_landmarks_celeba.txt, Anno/list_bbox_celeba.txt
    Img/img_align_celeba_png/000001.png or Img/img_align_celeba/000001.jpg; Img/img_celeba/000001.jpg
    TCDCN-face-alignment/MAFL/training.txt, testing.txt, or MAFL/training.txt, testing.txt

Points are divided by width and height as upstream does, without the half pixel.
"""

from pathlib import Path

import numpy as np

from keypoint_nvs.data.benchmarks.reading import existing, picture_size, read_lines, read_named_numbers
from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet
from keypoint_nvs.data.rgba_images import read_rgba
from posecore.errors import InputError

NUM_POINTS = 5
MIN_FACE = 0.3
"""Unaligned pictures are taken whose face box covers this share or more."""


def celeba(root: Path, aligned: bool = True) -> Benchmark:
    """Aligned faces, or `wild` ones in pictures of any size.

    Raises:
        InputError: A file is missing or of another layout.
    """
    kind = "align_celeba" if aligned else "celeba"
    landmarks = read_named_numbers(root / "Anno" / f"list_landmarks_{kind}.txt", "CelebA's landmarks", 2 * NUM_POINTS)
    boxes = None if aligned else read_named_numbers(root / "Anno" / "list_bbox_celeba.txt", "CelebA's face boxes", 4)
    splits = existing([root / "TCDCN-face-alignment" / "MAFL", root / "MAFL"], "the split MAFL of CelebA")
    folders = ["img_align_celeba_png", "img_align_celeba"] if aligned else ["img_celeba"]
    pictures = existing([root / "Img" / name for name in folders], "the pictures of CelebA")
    train, test = (_split(splits / f"{name}.txt", pictures, landmarks, boxes) for name in ("training", "testing"))
    return Benchmark("celeba" if aligned else "celeba_wild", "inter_ocular", train, test)


def _split(
    listed: Path, pictures: Path, landmarks: dict[str, np.ndarray], boxes: dict[str, np.ndarray] | None
) -> PictureSet:
    suffix = ".png" if pictures.name.endswith("_png") else ".jpg"
    paths, points = [], []
    for line in read_lines(listed, "file names of MAFL, one a line"):
        name = line.strip()
        if name not in landmarks or (boxes is not None and name not in boxes):
            raise InputError(
                f"{listed}: {name} is not in CelebA's list of {'landmarks' if name not in landmarks else 'boxes'}"
            )
        path = pictures / (Path(name).stem + suffix)
        size = np.array(picture_size(path), float)
        if boxes is not None and boxes[name][2:].prod() < MIN_FACE * size.prod():
            continue
        paths.append(path)
        points.append(landmarks[name].reshape(NUM_POINTS, 2) / size)
    if not paths:
        raise InputError(f"{listed}: names no picture whose face covers {MIN_FACE:.0%} or more")
    xy = np.stack(points)
    return PictureSet(
        tuple(path.name for path in paths), xy, np.ones(xy.shape[:2], bool), lambda i: read_rgba(paths[i])
    )
