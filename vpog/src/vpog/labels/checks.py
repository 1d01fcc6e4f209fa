"""Depths, intrinsics and poses that cannot be right, told before labels are made of them.

All checks end in one number that is read from the device; what is wrong is worked out only where something is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posecore.errors import InputError
from vpog.labels.surfaces import Surfaces

NEAREST_MM = 10.0
"""No camera sees an object this near; depth in metres is always below."""
FARTHEST_RATIO = 100.0
"""Between the depth seen and the distance of the object's origin: more is two units mixed (metres and mm differ by 1000)."""
DETERMINANT_SLACK = 0.01
"""A rotation's determinant is 1; meshes scaled by 1.02 and more are told from rounding."""
MAX_PROBLEMS = 5


@dataclass(frozen=True)
class _Check:
    """One thing that may be wrong with a picture of a sample."""

    is_wrong: Bool[Tensor, "b v"]
    value: Float[Tensor, "b v"]
    message: Callable[[float], str]


def check_surfaces(
    query: Surfaces,
    templates: Surfaces,
    query_mask: Bool[Tensor, "b h w"],
    patch_size: int,
    names: Sequence[str] | None = None,
) -> None:
    """
    Raises:
        InputError: One line a problem, the first five; each names sample, picture, value and what would be right.
    """
    height, width = query.depth.shape[-2:]
    if height % patch_size or width % patch_size:
        raise InputError(
            f"pictures of {width} x {height} px have no whole number of patches of {patch_size} px; "
            f"take a multiple of patch_size"
        )
    is_empty = ~query_mask.flatten(1).any(1, keepdim=True)
    empty = _Check(is_empty, is_empty.float(), lambda _: "the visible mask is empty; it must show the object")
    checks = {"query": [empty, *_checks_of(query)], "template": _checks_of(templates)}
    flags = [check.is_wrong.any() for group in checks.values() for check in group]
    if bool(torch.stack(flags).any()):
        raise InputError(_problems(checks, names))


def _checks_of(pictures: Surfaces) -> list[_Check]:
    unit = "mm" if pictures.units_per_mm == 1 else f"mm times {pictures.units_per_mm:g}"
    focal = torch.minimum(pictures.K[..., 0, 0], pictures.K[..., 1, 1])
    last_row = pictures.K[..., 2, :] - pictures.K.new_tensor([0.0, 0.0, 1.0])
    is_K_finite = pictures.K.isfinite().flatten(-2).all(-1)
    pose = pictures.cam_from_obj
    determinant = (torch.linalg.cross(pose[..., 0, :3], pose[..., 1, :3]) * pose[..., 2, :3]).sum(-1)
    distance = torch.linalg.vector_norm(pose[..., :3, 3], dim=-1)
    lowest, largest = pictures.depth.amin((-2, -1)), pictures.depth.amax((-2, -1))  # seven times as fast as aminmax
    is_depth = (lowest >= 0) & largest.isfinite()
    is_unmixed = (largest < FARTHEST_RATIO * distance) & (distance < FARTHEST_RATIO * largest)
    is_far_enough = largest >= NEAREST_MM * pictures.units_per_mm
    has_depth = largest > 0
    return [
        _Check(
            ~((focal > 0) & is_K_finite), focal, lambda f: f"K: focal length {f:g} px; it must be positive, all finite"
        ),
        _Check(
            (last_row != 0).any(-1),
            last_row.abs().amax(-1),
            lambda _: "K: the last row is not (0, 0, 1); is it transposed?",
        ),
        _Check(
            ~((determinant - 1).abs() < DETERMINANT_SLACK),
            determinant,
            lambda d: f"pose: the rotation's determinant is {d:g}, not 1; divide any scale of the mesh out",
        ),
        _Check(
            ~is_depth, lowest, lambda d: f"depth: has {d:g}; it must be finite, 0 where there is none, else positive"
        ),
        _Check(~has_depth & is_depth, largest, lambda _: "depth: 0 all over the object; labels are made of depth"),
        _Check(
            has_depth & ~is_far_enough,
            largest,
            lambda d: f"depth: at most {d:g}, which looks like metres; it must be in {unit}",
        ),
        _Check(
            has_depth & is_far_enough & is_depth & ~is_unmixed,
            largest / distance,
            lambda r: f"depth: {r:g} times the distance in the pose; both must be in {unit}",
        ),
    ]


def _problems(checks: dict[str, list[_Check]], names: Sequence[str] | None) -> list[str]:
    """The first thing wrong with each picture: what follows is often its consequence."""
    lines: dict[str, str] = {}
    for picture, group in checks.items():
        for check in group:
            for sample, view in check.is_wrong.nonzero().tolist():
                name = f"sample {sample}" if names is None else names[sample]
                place = f"{name}: {picture}" if picture == "query" else f"{name}: {picture} {view}"
                lines.setdefault(place, f"{place}: {check.message(float(check.value[sample, view]))}")
    return list(lines.values())[:MAX_PROBLEMS]
