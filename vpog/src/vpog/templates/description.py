"""templates.json: what the pictures of one object's templates do not say themselves."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt, ValidationError

from posecore.config import Config
from posecore.errors import InputError
from vpog.templates.camera import TEMPLATE_K
from vpog.templates.cutting import Box, mask_box
from vpog.templates.files import (
    depth_file,
    described_file,
    picture_file,
    poses_file,
    read_poses,
    read_rgba,
    write_bytes,
)


class TemplateDescription(Config):
    """One object's templates."""

    format: Literal[1] = 1
    obj_id: int
    K: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    """Of the whole pictures, in px."""
    size_hw: tuple[PositiveInt, PositiveInt]
    """Of the whole pictures, in px."""
    sigma: PositiveFloat
    """How much larger the rendered mesh is than the object."""
    units: Literal["mm of the rendered mesh"] = "mm of the rendered mesh"
    """Of depth and poses."""
    renderer: str
    mesh_hash: str | None = None
    """SHA-256 of the mesh before it was scaled; null where the templates came from elsewhere."""
    level: Literal[0, 1, 2] | None = None
    distribution: Literal["all", "upper"] | None = None
    distance_mm: PositiveFloat | None = None
    """From the camera to the centre of the rendered mesh's box."""
    boxes_xyxy: tuple[Box | None, ...]
    """Of the object in each view, exclusive ends; null: the view is missing, or shows nothing."""

    @property
    def K_array(self) -> Float[np.ndarray, "3 3"]:
        return np.array(self.K)


def write_description(root: Path, description: TemplateDescription) -> None:
    text = json.dumps(description.model_dump(mode="json"), indent=1)
    write_bytes(described_file(root, description.obj_id), (text + "\n").encode())


def read_description(root: Path, obj_id: int) -> TemplateDescription | None:
    """None where there is no such file: the public sets have none.

    Raises:
        InputError: Damaged, of another object, or of another version.
    """
    path = described_file(root, obj_id)
    if not path.is_file():
        return None
    try:
        description = TemplateDescription.model_validate_json(path.read_bytes())
    except ValidationError as error:
        places = [(".".join(map(str, problem["loc"])) or "file", problem["msg"]) for problem in error.errors()]
        raise InputError([f"{path}: {place}: {message}" for place, message in places]) from None
    if description.obj_id != obj_id:
        raise InputError(f"{path}: obj_id: is {description.obj_id}, but the folder is of object {obj_id}")
    return description


def describe_templates(
    root: Path, obj_id: int, sigma: float, K: Float[np.ndarray, "3 3"] = TEMPLATE_K
) -> TemplateDescription:
    """Look at every picture of an object of a public set and write templates.json, so that nobody has to look again.

    Raises:
        InputError: Damaged pictures or poses; pictures of several sizes; no picture at all.
    """
    views = len(read_poses(poses_file(root, obj_id)))
    boxes, sizes = boxes_of_pictures(root, obj_id, views)
    if len(sizes) != 1:
        found = ", ".join(f"{width} x {height}" for height, width in sorted(sizes)) or "no picture"
        raise InputError(f"{picture_file(root, obj_id, 0).parent}: pictures of one size are needed, found {found}")
    fields = {
        "obj_id": obj_id,
        "K": K.tolist(),
        "size_hw": sizes.pop(),
        "sigma": sigma,
        "renderer": "unknown",
        "boxes_xyxy": boxes,
    }
    description = TemplateDescription.model_validate(fields)
    write_description(root, description)
    return description


def boxes_of_pictures(root: Path, obj_id: int, views: int) -> tuple[list[Box | None], set[tuple[int, int]]]:
    """The box of each view, None where a file is missing or shows nothing, and the sizes (height, width) that occur."""
    boxes: list[Box | None] = []
    sizes: set[tuple[int, int]] = set()
    for view in range(views):
        picture = picture_file(root, obj_id, view)
        if not picture.is_file() or not depth_file(root, obj_id, view).is_file():
            boxes.append(None)
            continue
        _, mask = read_rgba(picture)
        boxes.append(mask_box(mask))
        sizes.add((mask.shape[0], mask.shape[1]))
    return boxes, sizes
