"""Templates of a mesh in memory, without the files of a data set; and one file that keeps them."""

import hashlib
import io
import json
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from posecore.errors import InputError
from posecore.rendering import Backend
from vpog.data.template_set import TemplateSet
from vpog.objects.mesh import Mesh, mesh_hash
from vpog.templates.camera import TEMPLATE_K, TEMPLATE_SIZE_HW, fit_distance_mm, template_poses
from vpog.templates.cutting import CutView, cut_view
from vpog.templates.drawing import draw_views
from vpog.templates.files import write_bytes
from vpog.templates.writing import RENDERER
from vpog.views import Distribution, Level, view_rotations


def templates_of_mesh(
    mesh: Mesh,
    obj_id: int,
    level: Level = 1,
    size: int = 224,
    *,
    distribution: Distribution = "all",
    device: str = "cpu",
    backend: Backend = "warp",
) -> TemplateSet:
    """The same as `render_templates` and reading all of them, but for depth, which is not rounded to whole mm.

    Views that show nothing, such as a sheet from its side, are left out: `view_ids` tells which there are.

    Args:
        mesh: The object.
        obj_id: What the set is called.
        level: 0, 1 or 2: 42, 162 or 642 views.
        size: Side of the squares, in px.
        distribution: "upper" leaves out views from below the object.
        device: Where it is drawn.
        backend: See `render`.

    Raises:
        InputError: The mesh cannot be drawn, or no view shows anything.
    """
    poses = template_poses(mesh, view_rotations(level, distribution), fit_distance_mm(mesh))
    cuts: dict[int, CutView] = {}
    for first, pictures in draw_views(mesh, poses, TEMPLATE_K, TEMPLATE_SIZE_HW, device=device, backend=backend):
        for row, (rgb, mask, depth) in enumerate(zip(pictures.rgb, pictures.mask, pictures.depth_mm, strict=True)):
            cut = cut_view(rgb, mask, depth, TEMPLATE_K, size)
            if cut is not None:
                cuts[first + row] = cut
    if not cuts:
        raise InputError(f"object {obj_id}: none of its {len(poses)} templates shows anything; is the mesh too thin?")
    view_ids = np.array(list(cuts), np.int64)
    return TemplateSet(
        obj_id,
        view_ids,
        np.stack([cut.rgb for cut in cuts.values()]),
        np.stack([cut.mask for cut in cuts.values()]),
        np.stack([cut.depth_mm for cut in cuts.values()]),
        np.stack([cut.K for cut in cuts.values()]),
        poses[view_ids],
    )


def templates_key(mesh: Mesh, level: Level = 1, size: int = 224, distribution: Distribution = "all") -> str:
    """SHA-256 of all that `templates_of_mesh` depends on."""
    plan = [RENDERER, mesh_hash(mesh), level, size, distribution]
    return hashlib.sha256(json.dumps(plan).encode()).hexdigest()


def save_templates(path: Path, templates: TemplateSet, key: str) -> None:
    """One .npz file, not compressed; whole or not at all. `key` says what they were made of (`templates_key`)."""
    content = io.BytesIO()
    np.savez(content, key=np.array(key), **{field.name: getattr(templates, field.name) for field in fields(templates)})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content.getvalue())


def load_templates(path: Path, key: str | None = None) -> TemplateSet:
    """
    Args:
        path: What `save_templates` wrote.
        key: What the templates have to be made of; None: anything.

    Raises:
        InputError: No such file, damaged, or made of something else.
    """
    names = [field.name for field in fields(TemplateSet)]
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = str(arrays["key"])
            values = {name: arrays[name] for name in names}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as saved templates: {error}") from None
    if key is not None and found != key:
        raise InputError(f"{path}: key: is {found[:12]}..., needed is {key[:12]}...: made of another mesh or settings")
    values["obj_id"] = int(values["obj_id"])
    return TemplateSet(**values)
