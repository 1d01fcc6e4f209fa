"""InstantMesh's folders of renderings to stores: PATH/000.png is the input view, 001.png to 006.png are the targets."""

import json
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from keypoint_nvs.data.converters.shard_parts import ConversionReport, convert_samples
from keypoint_nvs.data.records import MultiviewSample
from keypoint_nvs.data.rgba_images import made_square, read_rgba, resized
from keypoint_nvs.data.store_format import TARGETS
from posecore.errors import InputError

VALIDATION_PATHS = 16
"""The last so many paths of the list are validation."""


def convert_instantmesh(
    root: Path,
    output: Path,
    *,
    image_dir: str,
    paths_json: Path,
    split: Literal["train", "val"] = "train",
    rig: str = "zero123plus-v1.2",
    image_px: int | None = None,
    samples_per_shard: int = 1000,
    shard: tuple[int, int] = (0, 1),
) -> ConversionReport:
    """Convert one split; a sample's id is its path, with `__` for `/`.

    Args:
        root: Folder in which `image_dir` lies.
        paths_json: `{category: [path, ...]}`; paths are relative to ROOT/IMAGE_DIR.
        rig: Whose cameras the targets were rendered from; the folders do not tell.
        image_px: Side to which pictures are resized; None: as they are.
        samples_per_shard: The last shard may have fewer.
        shard: (i, n): the i-th of n parts, i from 0.

    Raises:
        InputError: The list or a picture is missing or damaged; names it.
    """
    entries = read_paths(paths_json, split)

    def sample_of(index: int) -> MultiviewSample:
        category, path = entries[index]
        folder = root / image_dir / path
        pictures = [_picture(folder / f"{view:03d}.png", image_px) for view in range(TARGETS + 1)]
        for view, picture in enumerate(pictures):
            if picture.shape != pictures[0].shape:
                raise InputError(
                    f"{folder / f'{view:03d}.png'}: is {picture.shape[1:]} px, 000.png {pictures[0].shape[1:]}"
                )
        return MultiviewSample(_id(path), pictures[0], np.stack(pictures[1:]), None, None, category=category)

    ids = [_id(path) for _, path in entries]
    return convert_samples(ids, sample_of, output, rig, samples_per_shard=samples_per_shard, shard=shard)


def read_paths(paths_json: Path, split: Literal["train", "val"]) -> list[tuple[str, str]]:
    """Category and path of the objects of a split, in the list's order.

    Raises:
        InputError: Not a JSON object of lists of relative paths, or too few paths to split.
    """
    try:
        categories = json.loads(paths_json.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{paths_json}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{paths_json}: is no JSON: {error}") from None
    if not isinstance(categories, dict):
        raise InputError(f"{paths_json}: is a {type(categories).__name__}, expected {{category: [path, ...]}}")
    entries = []
    for category, paths in categories.items():
        if not isinstance(paths, list):
            raise InputError(f"{paths_json}: {category}: is {paths!r}, expected a list of paths")
        entries += [(category, _checked(path, f"{paths_json}: {category}")) for path in paths]
    if len(entries) <= VALIDATION_PATHS:
        raise InputError(
            f"{paths_json}: lists {len(entries)} paths; the last {VALIDATION_PATHS} are validation, more are needed"
        )
    return entries[-VALIDATION_PATHS:] if split == "val" else entries[:-VALIDATION_PATHS]


def _checked(path: object, where: str) -> str:
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if not parts or ".." in parts or parts[0] == "/":
        raise InputError(f"{where}: {path!r} is no path inside the folder of the pictures")
    return "/".join(parts)


def _id(path: str) -> str:
    return f"{path.replace('/', '__')}/0"


def _picture(path: Path, image_px: int | None) -> np.ndarray:
    rgba = read_rgba(path)
    return rgba if image_px is None else resized(made_square(rgba, "exact", str(path)), image_px)
