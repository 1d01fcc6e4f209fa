"""Labelled pictures in DeepLabCut's CSV layout, also those in which a mirror shows several views of the animal at once.

The CSV has three header lines (scorer, bodyparts, coords) and a line a picture; an empty cell is a point that was not
labelled. In a fused picture the body parts of a view share an ending (`paw1LH_top`, `paw1LH_bot`), and each view
has its own region of the picture. There is no calibration: 2D supervision only.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from posecore.data.images import decode_image
from posecore.errors import InputError
from smil_regressor.data.converters.crops import CropMode
from smil_regressor.data.converters.joints import match_joints
from smil_regressor.data.converters.notes import Notes
from smil_regressor.data.converters.views import BodyLabels, View, build_sample, crop_view
from smil_regressor.data.sample import Sample


@dataclass(frozen=True)
class FusedView:
    """One view inside a fused picture."""

    name: str
    suffix: str
    """Ending of its body parts, such as `_top`; empty where pictures are not fused."""
    region_xywh: tuple[int, int, int, int] | None = None
    """Its part of the picture, pixels; None: the whole picture."""


@dataclass(frozen=True)
class LabelledPictures:
    """The table of a CSV: n pictures, k body parts."""

    pictures: tuple[str, ...]
    names: tuple[str, ...]
    points_px: Float[np.ndarray, "n k 2"]
    """NaN where not labelled."""


def read_deeplabcut(path: Path) -> LabelledPictures:
    """Read a CollectedData CSV."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream) if line]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a CollectedData CSV of DeepLabCut is expected") from None
    if len(lines) < 3 or [line[0] for line in lines[:3]] != ["scorer", "bodyparts", "coords"]:
        raise InputError(f"{path}: the first lines must begin with scorer, bodyparts and coords")
    # newer files spread the path over three columns, of which the header leaves two empty
    first = next((column for column, axis in enumerate(lines[2]) if column and axis), 1)
    names, axes = lines[1][first:], lines[2][first:]
    if axes != ["x", "y"] * (len(axes) // 2) or names[::2] != names[1::2]:
        raise InputError(f"{path}: coords: x and y of each body part in turn are expected")
    try:
        cells = [[float(cell) if cell.strip() else np.nan for cell in line[first:]] for line in lines[3:]]
        points = np.array(cells, dtype=np.float64).reshape(len(cells), -1, 2)
    except ValueError as error:
        raise InputError(f"{path}: {error}; numbers or empty cells, equally many a line, are expected") from None
    pictures = tuple("/".join(filter(None, line[:first])) for line in lines[3:])
    return LabelledPictures(pictures, tuple(names[::2]), points)


def iter_deeplabcut(
    table: Path,
    folder: Path,
    views: Sequence[FusedView],
    joint_names: Sequence[str],
    num_betas: int,
    resolution: int,
    *,
    crop: CropMode = "default",
    min_views: int = 1,
    joint_lookup: Mapping[str, str] | None = None,
    notes: Notes | None = None,
) -> Iterator[Sample]:
    """One sample a labelled picture, in the order of the table; pictures are found by their path or name in `folder`.

    joint_lookup: model name to the name of a body part without its view's ending.
    """
    notes = notes or Notes()
    labels = read_deeplabcut(table)
    columns = [_columns(table, labels.names, view, views, joint_names, joint_lookup) for view in views]
    body = BodyLabels(keypoints_world=np.full((len(joint_names), 3), np.nan), num_betas=num_betas)
    for number, picture in enumerate(labels.pictures):
        path = next((p for p in (folder / picture, folder / Path(picture).name) if p.is_file()), None)
        if path is None:
            notes.drop(str(folder / picture), "the picture is not in the folder")
            continue
        image = decode_image(path)
        slots: list[View | None] = []
        for view, column in zip(views, columns, strict=True):
            points = np.where(column[:, None] >= 0, labels.points_px[number][column], np.nan)
            slots.append(_cut(str(path), image, view, points, crop, resolution))
        if sum(slot is not None for slot in slots) < min_views:
            notes.drop(str(path), f"fewer than {min_views} views with 2 labelled points")
            continue
        yield build_sample(str(path), table.parent.name, number, slots, resolution, body)


def _columns(
    table: Path,
    names: Sequence[str],
    view: FusedView,
    views: Sequence[FusedView],
    joint_names: Sequence[str],
    lookup: Mapping[str, str] | None,
) -> Int[np.ndarray, " j"]:
    """For each joint of the model its column in the table, -1 where this view has none."""
    own = _bare_names(names, view)
    if lookup is not None:
        # a joint that only another view shows is no mistake in the lookup; one that no view shows is
        elsewhere = set().union(*(_bare_names(names, other) for other in views)) - own.keys()
        lookup = {model: data for model, data in lookup.items() if data not in elsewhere}
    index = match_joints(f"{table}: view {view.name}", list(own), joint_names, lookup)
    columns = list(own.values())
    return np.array([columns[i] if i >= 0 else -1 for i in index])


def _bare_names(names: Sequence[str], view: FusedView) -> dict[str, int]:
    """Body parts of a view without its ending, and their columns."""
    return {name.removesuffix(view.suffix): i for i, name in enumerate(names) if name.endswith(view.suffix)}


def _cut(
    key: str,
    image: np.ndarray,
    view: FusedView,
    points: Float[np.ndarray, "j 2"],
    crop: CropMode,
    resolution: int,
) -> View | None:
    x, y, width, height = view.region_xywh or (0, 0, image.shape[1], image.shape[0])
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > image.shape[1] or y + height > image.shape[0]:
        raise InputError(
            f"{key}: the region {x},{y},{width},{height} of view {view.name} leaves the picture "
            f"({image.shape[1]}x{image.shape[0]} pixels)"
        )
    local = points - np.array([x, y], dtype=np.float64)
    known = np.isfinite(local).all(-1)
    if known.sum() < 2:
        return None
    return crop_view(
        View(image[y : y + height, x : x + width], np.where(known[:, None], local, 0.0), known.astype(np.float64)),
        crop,
        resolution,
    )
