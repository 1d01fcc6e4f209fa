"""CUB-200-2011, birds as they are, of one species or all: the cleaned lists of CMR (Kanazawa et al. 2018).

    CUB_200_2011/images/001.Black_footed_Albatross/....jpg
    CUB_200_2011/cachedir/cub/data/train_cub_cleaned.mat, test_cub_cleaned.mat

Each picture is cut to the bird's box, a twentieth wider on every side and made square; what lies outside the picture is
1 of 255, as upstream. Upstream also shakes and mirrors training pictures at random; these are left as they are. Pixels of
the files count from 1; points are divided by the cut's side without the half pixel.
"""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from jaxtyping import UInt8

from keypoint_nvs.data.benchmarks.records import Benchmark, PictureSet
from keypoint_nvs.data.rgba_images import read_rgba
from posecore.errors import InputError

PADDING, OUTSIDE, NUM_POINTS = 0.05, 1, 15


def cub_parts(root: Path, species: int | None = None) -> Benchmark:
    """Birds of one species (1..200), or all.

    Raises:
        InputError: A file is missing or of another layout, or no bird is of that species.
    """
    base = root / "CUB_200_2011" if (root / "CUB_200_2011").is_dir() else root
    train, test = (_split(base, split, species) for split in ("train", "test"))
    name = "cub_all" if species is None else f"cub_{species:03d}"
    return Benchmark(name, "visible", train, test)


def _split(base: Path, split: str, species: int | None) -> PictureSet:
    path = base / "cachedir" / "cub" / "data" / f"{split}_cub_cleaned.mat"
    entries = [e for e in _entries(path) if species is None or int(str(e.rel_path).split(".")[0]) == species]
    if not entries:
        raise InputError(f"{path}: has no bird of species {species}; expected 1..200")
    squares, points, visible = [], [], []
    for number, entry in enumerate(entries):
        try:
            box = np.array([entry.bbox.x1, entry.bbox.y1, entry.bbox.x2, entry.bbox.y2], float) - 1
            parts = np.asarray(entry.parts, float).reshape(3, NUM_POINTS).T
        except (AttributeError, ValueError) as error:
            raise InputError(f"{path}: images[{number}] ({entry.rel_path}): {error}; expected bbox and parts") from None
        left, top, side = _square(box)
        squares.append((left, top, side))
        points.append((parts[:, :2] - 1 - [left, top]) / side)
        visible.append(parts[:, 2] > 0)
    paths = [base / "images" / str(entry.rel_path) for entry in entries]
    ids = tuple(str(entry.rel_path) for entry in entries)
    return PictureSet(ids, np.stack(points), np.stack(visible), lambda i: _cut(read_rgba(paths[i]), *squares[i]))


def _entries(path: Path) -> list[Any]:
    try:
        content = scipy.io.loadmat(path, struct_as_record=False, squeeze_me=True)
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; needed: the cached annotations of CMR (akanazawa/cmr, issue 3)"
        ) from None
    except (OSError, ValueError, NotImplementedError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as MATLAB's file: {error}") from None
    if "images" not in content:
        raise InputError(f"{path}: has no variable images, but {', '.join(k for k in content if k[0] != '_')}")
    return list(np.atleast_1d(content["images"]))


def _square(box: np.ndarray) -> tuple[int, int, int]:
    """Left, top and side of the padded box (corners inclusive) made square about its middle."""
    extent = box[2:] - box[:2] + 1
    padded = np.concatenate([box[:2] - PADDING * extent, box[2:] + PADDING * extent])
    corners = [round(value) for value in padded.tolist()]
    width, height = corners[2] - corners[0] + 1, corners[3] - corners[1] + 1
    side = max(width, height)
    return corners[0] - round((side - width) / 2), corners[1] - round((side - height) / 2), side


def _cut(rgba: UInt8[np.ndarray, "4 h w"], left: int, top: int, side: int) -> UInt8[np.ndarray, "4 side side"]:
    square = np.full((4, side, side), OUTSIDE, np.uint8)
    square[3] = 255
    _, height, width = rgba.shape
    rows = slice(max(top, 0), min(top + side, height))
    cols = slice(max(left, 0), min(left + side, width))
    square[:, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left] = rgba[:, rows, cols]
    return square
