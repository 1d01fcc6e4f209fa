"""Rendering an object's templates into files of the public layout."""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from posecore.data.images import encode_png
from posecore.errors import InputError
from posecore.rendering import Backend
from vpog.objects.mesh import Mesh, checked_mesh, mesh_hash
from vpog.objects.rendering import Rendering
from vpog.templates.camera import TEMPLATE_K, TEMPLATE_SIZE_HW, fit_distance_mm, template_poses
from vpog.templates.cutting import Box, mask_box
from vpog.templates.description import TemplateDescription, read_description, write_description
from vpog.templates.drawing import draw_views
from vpog.templates.files import (
    depth_file,
    described_file,
    encode_rgba,
    object_folder,
    picture_file,
    poses_file,
    write_bytes,
)
from vpog.views import Distribution, Level, view_rotations

RENDERER = "posecore Lambert 1"
"""Changes when the pictures of the same mesh do."""


@dataclass(frozen=True)
class Rendered:
    """What `render_templates` did for one object."""

    obj_id: int
    views: int
    empty_views: tuple[int, ...]
    """Those that show nothing, such as a sheet without thickness from its side."""
    seconds: float
    """0 where the templates were there already."""


def render_templates(
    mesh: Mesh,
    folder: Path,
    obj_id: int,
    *,
    level: Level = 1,
    distribution: Distribution = "all",
    sigma: float = 1.0,
    distance_mm: float | None = None,
    K: Float[np.ndarray, "3 3"] = TEMPLATE_K,
    size_hw: tuple[int, int] = TEMPLATE_SIZE_HW,
    device: str = "cpu",
    backend: Backend = "warp",
    again: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Rendered:
    """Draw an object, lit by a lamp at the camera, into the layout of the public sets.

    `folder`/OBJECT/VIEW.png is RGBA, VIEW_depth.png uint16 in mm of the rendered mesh; then come templates.json and,
    last, `folder`/object_poses/OBJECT.npy: an object without it is unfinished.

    Templates of the same mesh and the same settings are left as they are, unless `again`.

    Args:
        mesh: In the units of the query pictures.
        folder: Of the data set's templates.
        obj_id: The object's number.
        level: 0, 1 or 2: 42, 162 or 642 views.
        distribution: "upper" leaves out views from below the object.
        sigma: The mesh is drawn so many times larger, which makes the depth so many times finer (10 for GSO).
        distance_mm: From the camera to the centre of the drawn mesh's box; None: twice the box's diagonal, which fits.
        K: Of the pictures, in px.
        size_hw: Of the pictures, in px.
        device: Where it is drawn.
        backend: See `render`.
        again: Draw although they are there.
        progress: Called with views done and views in all.

    Raises:
        InputError: The mesh is not drawable, leaves a picture, or is too far for 16 bits of depth.
    """
    began, folder = time.perf_counter(), Path(folder)
    checked_mesh(mesh, f"object {obj_id}")
    drawn = mesh if sigma == 1.0 else Mesh(mesh.vertices_mm * np.float32(sigma), mesh.faces, mesh.colors, mesh.texture)
    distance = fit_distance_mm(drawn) if distance_mm is None else float(distance_mm)
    plan = _plan(obj_id, mesh, K, size_hw, sigma, distance, level, distribution)
    if not again and (known := _finished(folder, plan)) is not None:
        return Rendered(obj_id, len(known.boxes_xyxy), _empty(known.boxes_xyxy), 0.0)
    poses = template_poses(drawn, view_rotations(level, distribution), distance)
    _check_depth_range(drawn, poses)
    _start_over(folder, obj_id)
    boxes: list[Box | None] = []
    for first, pictures in draw_views(drawn, poses, K, size_hw, device=device, backend=backend):
        for offset in range(len(pictures.mask)):
            _write_view(folder, obj_id, first + offset, pictures, offset)
            boxes.append(mask_box(pictures.mask[offset]))
        if progress is not None:
            progress(len(boxes), len(poses))
    if not any(boxes):
        raise InputError(f"object {obj_id}: none of its {len(boxes)} templates shows anything; is the mesh too thin?")
    write_description(folder, plan.model_copy(update={"boxes_xyxy": tuple(boxes)}))
    content = io.BytesIO()
    np.save(content, poses)
    write_bytes(poses_file(folder, obj_id), content.getvalue())
    return Rendered(obj_id, len(boxes), _empty(tuple(boxes)), time.perf_counter() - began)


def _plan(
    obj_id: int,
    mesh: Mesh,
    K: Float[np.ndarray, "3 3"],
    size_hw: tuple[int, int],
    sigma: float,
    distance_mm: float,
    level: Level,
    distribution: Distribution,
) -> TemplateDescription:
    fields = {
        "obj_id": obj_id,
        "K": K.tolist(),
        "size_hw": size_hw,
        "sigma": sigma,
        "renderer": RENDERER,
        "mesh_hash": mesh_hash(mesh),
        "level": level,
        "distribution": distribution,
        "distance_mm": distance_mm,
        "boxes_xyxy": (),
    }
    return TemplateDescription.model_validate(fields)


def _finished(folder: Path, plan: TemplateDescription) -> TemplateDescription | None:
    if not poses_file(folder, plan.obj_id).is_file():
        return None
    known = read_description(folder, plan.obj_id)
    return known if known is not None and known.model_copy(update={"boxes_xyxy": ()}) == plan else None


def _start_over(folder: Path, obj_id: int) -> None:
    """Earlier templates go: there could be more of them than of the new ones."""
    poses_file(folder, obj_id).unlink(missing_ok=True)
    poses_file(folder, obj_id).parent.mkdir(parents=True, exist_ok=True)
    described_file(folder, obj_id).unlink(missing_ok=True)
    object_folder(folder, obj_id).mkdir(parents=True, exist_ok=True)
    view = "[0-9]" * 6
    for pattern in (f"{view}.png", f"{view}_depth.png"):
        for file in object_folder(folder, obj_id).glob(pattern):
            file.unlink()


def _write_view(folder: Path, obj_id: int, view: int, pictures: Rendering, row: int) -> None:
    depth = np.rint(pictures.depth_mm[row]).astype(np.uint16)
    picture_file(folder, obj_id, view).write_bytes(encode_rgba(pictures.rgb[row], pictures.mask[row]))
    depth_file(folder, obj_id, view).write_bytes(encode_png(depth))


def _check_depth_range(mesh: Mesh, poses: Float[np.ndarray, "v 4 4"]) -> None:
    radius = np.linalg.norm(mesh.vertices_mm.astype(np.float64), axis=1).max()
    farthest = poses[:, 2, 3].max() + radius
    if farthest > np.iinfo(np.uint16).max:
        raise InputError(f"templates: depth up to {farthest:.0f} mm does not fit into 16 bits; take a smaller sigma")


def _empty(boxes: tuple[Box | None, ...]) -> tuple[int, ...]:
    return tuple(view for view, box in enumerate(boxes) if box is None)
