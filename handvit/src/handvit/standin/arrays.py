"""The made-up hand put together, its vertices numbered so that fingertips are where MANO's are."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from handvit.joints import FINGERTIPS, MANO_JOINT_NAMES, MANO_PARENTS
from handvit.standin.anatomy import WRIST, hand_anatomy
from handvit.standin.build import build_surface
from handvit.standin.directions import mean_pose, pose_components, pose_directions, shape_directions
from handvit.standin.skin import joint_regressor, skinning_weights
from handvit.standin.surface import Surface, neighbour_average
from posecore.bodymodel import BodyArrays

LABEL = "mano-standin"
_TIP_ORDER = ("thumb", "index", "middle", "ring", "pinky")


@lru_cache(maxsize=4)
def standin_arrays(seed: int = 0) -> BodyArrays:
    """A right hand in MANO's layout, made up: 778 vertices, 1538 faces, 16 joints; metres. Do not write to its arrays.

    Seeds differ in lengths and thicknesses of fingers, in the noise of the pose blend shapes and in the pose components.
    """
    rng = np.random.default_rng(seed)
    fingers = hand_anatomy(rng)
    surface = build_surface(fingers)
    number = _numbering(surface)
    points = np.array(surface.points)[np.argsort(number)]
    faces = number[np.array(surface.faces)]
    owner = np.array(surface.finger)[np.argsort(number)]
    weights = skinning_weights(surface, fingers)[np.argsort(number)]
    outward = vertex_normals(points, faces)
    average = neighbour_average(faces, len(points))
    for _ in range(3):  # even between neighbours, and small in the webs, whose sides would grow into each other
        outward = average @ outward
    joints = np.concatenate([WRIST[None], *(finger.joints for finger in fingers)])
    on_palm = np.flatnonzero(owner < 0)
    candidates = [on_palm, *(np.flatnonzero((owner == n) | (owner < 0)) for n in range(5) for _ in range(3))]
    return BodyArrays(
        template=points,
        faces=faces,
        weights=weights,
        parents=np.array(MANO_PARENTS),
        joint_names=MANO_JOINT_NAMES,
        shapedirs=shape_directions(points, outward, weights, fingers),
        joint_regressor=joint_regressor(points, joints, candidates),
        joints=joints,
        posedirs=pose_directions(points, outward, fingers, rng),
        hands_components=pose_components(fingers, rng),
        hands_mean=mean_pose(fingers),
        label=f"{LABEL} {seed}",
    )


def _numbering(surface: Surface) -> Int[np.ndarray, " v"]:
    """New number of each vertex. A fingertip has its default number; numbers that others use are in the ring round it."""
    fixed: dict[int, int] = {}
    for finger, default, *others in zip(_TIP_ORDER, FINGERTIPS["smplx"], *FINGERTIPS.values(), strict=True):
        tip, *ring = surface.tips[finger]
        fixed[tip] = default
        fixed |= dict(zip(ring, sorted(set(others) - {default}), strict=False))
    free = iter(sorted(set(range(len(surface.points))) - set(fixed.values())))
    return np.array([fixed[v] if v in fixed else next(free) for v in range(len(surface.points))])


def vertex_normals(points: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "v 3"]:
    """Unit normals, weighted by area."""
    a, b, c = points[faces].transpose(1, 0, 2)
    normals = np.zeros_like(points)
    np.add.at(normals, faces.ravel(), np.repeat(np.cross(b - a, c - a), 3, axis=0))
    unit: Float[np.ndarray, "v 3"] = normals / np.linalg.norm(normals, axis=1, keepdims=True)
    return unit
