"""The arrays that make a body model, and what must hold for them."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

Array = np.ndarray
_WEIGHT_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class BodyArrays:
    """An SMPL-family model in rest pose; lengths in the model's own unit (metres for MANO and SMPL).

    v vertices, f faces, j joints, c shape coefficients, s coefficients of limb scales and offsets. Shapes are for
    `find_problems` to check, so that a wrong file is told by its key.
    """

    template: Array  # (v, 3)
    faces: Array  # (f, 3) vertex ids
    weights: Array  # (v, j)
    """Skinning weights, rows sum to 1."""
    parents: Array  # (j,)
    """Parent of each joint, -1 for the root."""
    joint_names: tuple[str, ...]
    shapedirs: Array  # (v, 3, c)
    joint_regressor: Array | None = None  # (j, v)
    """None in a model with static joints."""
    static_joints: bool = False
    """Rest joints are `joints` whatever the shape, not regressed from the mesh."""
    joints: Array | None = None  # (j, 3)
    """Rest joints stored in the file. They count with `static_joints` only: other files have stale ones."""
    posedirs: Array | None = None  # (v, 3, 9 (j - 1))
    """Pose blend shapes."""
    scaledirs: Array | None = None  # (s, j, 3)
    transdirs: Array | None = None  # (s, j, 3)
    shape_cov: Array | None = None  # (c, c)
    shape_mean: Array | None = None  # (c,)
    sym_verts: Array | None = None  # (k,)
    """Vertices on the plane of symmetry."""
    hands_components: Array | None = None  # (r, 3 (j - 1)), one a row
    hands_mean: Array | None = None  # (3 (j - 1),) axis-angle
    label: str | None = None
    """What a made-up model calls itself, so that what is made with it can say so; released files have none."""


FILE_KEYS = {
    "template": "v_template",
    "faces": "f",
    "parents": "kintree_table",
    "joint_names": "J_names",
    "joint_regressor": "J_regressor",
    "joints": "J",
    "static_joints": "static_joint_locs",
    "shape_mean": "shape_mean_betas",
}
"""Fields whose key in a file is not their own name."""


def find_problems(arrays: BodyArrays) -> list[str]:
    """What is wrong with the arrays: one line a problem that begins with the file's key; empty if all is well."""
    shapes = list(_wrong_shapes(arrays))
    return shapes or [*_wrong_numbers(arrays), *_wrong_tree(arrays)]


def _wrong_shapes(arrays: BodyArrays) -> Iterator[str]:
    v, j = len(arrays.template), len(arrays.parents)
    c = arrays.shapedirs.shape[-1] if arrays.shapedirs.ndim == 3 else 0
    expected: dict[str, tuple[int | str, ...]] = {
        "template": (v, 3),
        "faces": ("f", 3),
        "weights": (v, j),
        "shapedirs": (v, 3, "c"),
        "joint_regressor": (j, v),
        "joints": (j, 3),
        "posedirs": (v, 3, 9 * (j - 1)),
        "scaledirs": ("s", j, 3),
        "transdirs": ("s", j, 3),
        "shape_cov": (c, c),
        "shape_mean": (c,),
        "sym_verts": ("k",),
        "hands_components": ("r", 3 * (j - 1)),
        "hands_mean": (3 * (j - 1),),
    }
    for field, shape in expected.items():
        value = getattr(arrays, field)
        if value is not None and not _fits(value.shape, shape):
            wanted = ", ".join(map(str, shape))
            yield f"{FILE_KEYS.get(field, field)}: shape {value.shape}, expected ({wanted}) ({v} vertices, {j} joints)"
    if len(arrays.joint_names) != j:
        yield f"J_names: {len(arrays.joint_names)} names, expected {j} as kintree_table"
    if arrays.static_joints and arrays.joints is None:
        yield f"J: missing, expected ({j}, 3) because static_joint_locs is set"
    if not arrays.static_joints and arrays.joint_regressor is None:
        yield f"J_regressor: missing, expected ({j}, {v}) because static_joint_locs is not set"


def _fits(shape: tuple[int, ...], wanted: tuple[int | str, ...]) -> bool:
    return len(shape) == len(wanted) and all(isinstance(w, str) or n == w for n, w in zip(shape, wanted, strict=True))


def _wrong_numbers(arrays: BodyArrays) -> Iterator[str]:
    for field in dataclasses.fields(arrays):
        value = getattr(arrays, field.name)
        if isinstance(value, Array) and value.dtype.kind == "f" and not np.isfinite(value).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(value))[0])
            yield f"{FILE_KEYS.get(field.name, field.name)}: {value[where]} at {where}, expected finite numbers"
    v = len(arrays.template)
    for key, ids in (("f", arrays.faces), ("sym_verts", arrays.sym_verts)):
        if ids is not None and ids.size and (ids.min() < 0 or ids.max() >= v):
            yield f"{key}: vertex ids from {ids.min()} to {ids.max()}, expected 0 to {v - 1}"
    sums = arrays.weights.sum(axis=1)
    worst = int(np.abs(sums - 1).argmax()) if v else 0
    if v and abs(sums[worst] - 1) > _WEIGHT_SUM_TOLERANCE:
        yield f"weights: row {worst} sums to {sums[worst]:.6g}, expected 1"
    if arrays.joint_regressor is not None and not arrays.static_joints:
        empty = np.flatnonzero(~arrays.joint_regressor.any(axis=1))
        if empty.size:
            yield f"J_regressor: row {empty[0]} is zero, expected weights of vertices (or static_joint_locs with J)"


def _wrong_tree(arrays: BodyArrays) -> Iterator[str]:
    parents, count = arrays.parents, len(arrays.parents)
    roots = np.flatnonzero(parents < 0)
    if parents.size and (parents.min() < -1 or parents.max() >= count):
        yield f"kintree_table: parents from {parents.min()} to {parents.max()}, expected -1 to {count - 1}"
    elif len(roots) != 1:
        yield f"kintree_table: {len(roots)} roots (joints {roots.tolist()}), expected one"
    elif (lost := set(range(count)) - set(parents_first(parents))) != set():
        yield f"kintree_table: joints {sorted(lost)} are their own ancestors, expected a tree"
    elif arrays.posedirs is not None and roots[0] != 0:
        yield f"kintree_table: root is joint {roots[0]}, expected 0 because posedirs leave the root out"


def parents_first(parents: Int[Array, " j"]) -> list[int]:
    """Joints by depth, then in the file's order; joints that hang on a cycle are left out."""
    order = np.flatnonzero(parents < 0).tolist()
    level = order
    while level:
        level = np.flatnonzero(np.isin(parents, level)).tolist()
        order = [*order, *level]
    return order


def reorder_joints(arrays: BodyArrays, order: list[int]) -> BodyArrays:
    """The same body with its joints in another order, the root first."""
    rank = np.argsort(order)
    parents = arrays.parents[order]
    changes: dict[str, Any] = {
        "weights": arrays.weights[:, order],
        "parents": np.where(parents < 0, -1, rank[parents]),
    }
    for field, axis in (("joint_regressor", 0), ("joints", 0), ("scaledirs", 1), ("transdirs", 1)):
        value = getattr(arrays, field)
        changes[field] = None if value is None else value.take(order, axis)
    for field, width in (("posedirs", 9), ("hands_components", 3), ("hands_mean", 3)):
        value = getattr(arrays, field)
        changes[field] = None if value is None else _reorder_blocks(value, np.array(order[1:]) - 1, width)
    names = tuple(arrays.joint_names[joint] for joint in order)
    return dataclasses.replace(arrays, joint_names=names, **changes)


def _reorder_blocks(value: Array, blocks: Int[Array, " n"], width: int) -> Array:
    """The last axis holds `width` numbers for each joint but the root."""
    return value.reshape(*value.shape[:-1], -1, width).take(blocks, axis=-2).reshape(value.shape)
