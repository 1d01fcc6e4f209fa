"""Symmetries of a mesh that no file tells: turns about its main axes after which its surface looks the same.

Training objects without annotations (GSO, ShapeNet) would else give one view two contradictory labels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree

from posecore.errors import InputError
from vpog.objects.mesh import Mesh, mesh_bounds_mm, mesh_diameter_mm
from vpog.objects.models_info import ContinuousSymmetry, ModelInfo

FOLDS = (6, 4, 3, 2)
TOLERANCE = 0.015
"""Share of the diameter. A slim prism of 12 sides or more counts as round."""
COLOR_TOLERANCE = 12.0
"""Levels of 255, on average."""
NUM_PROBES, NUM_SURFACE = 1000, 20_000
SAME_AXIS = np.cos(np.radians(10.0))
SAME_MOTION = 0.1
"""Largest difference of two matrices' entries; about 6 degrees, the finest turns looked for being 60."""
TEST_ANGLES = 2 * np.pi * ((0.5 + np.arange(12) * (np.sqrt(5) - 1) / 2) % 1.0)
"""Spread by the golden ratio: no fold of a prism fits all of them. The first, pi, is the cheapest to refute."""


@dataclass(frozen=True)
class _Surface:
    """Points spread over a mesh: few to be turned, many to be found again."""

    centre: Float64[np.ndarray, "3"]
    covariance: Float64[np.ndarray, "3 3"]
    probes: Float64[np.ndarray, "n 3"]
    """From the centre, mm."""
    probe_colors: Float64[np.ndarray, "n 3"] | None
    target: cKDTree
    target_colors: Float64[np.ndarray, "m 3"] | None


def model_info_of(mesh: Mesh, tolerance: float = TOLERANCE, color_tolerance: float = COLOR_TOLERANCE) -> ModelInfo:
    """Size and detected symmetries of a mesh, for use where models_info.json does not tell them.

    Raises:
        InputError: The mesh has no surface, or a tolerance is not positive.
    """
    low, high = mesh_bounds_mm(mesh)
    discrete, continuous = detect_symmetry(mesh, tolerance, color_tolerance)
    return ModelInfo(mesh_diameter_mm(mesh), low, high - low, discrete, continuous)


def detect_symmetry(
    mesh: Mesh, tolerance: float = TOLERANCE, color_tolerance: float = COLOR_TOLERANCE
) -> tuple[Float64[np.ndarray, "n 4 4"], tuple[ContinuousSymmetry, ...]]:
    """Turns about axes through the surface's centroid: 2, 3, 4, 6-fold ones and continuous ones.

    Looked for about the coordinate axes, the principal axes of the surface, and across axes that were found; tilted
    cubes and other bodies with equal extents and no axis of these are missed. Of an object of revolution the discrete
    part is empty, or one turn that puts it upside down; a ball has three continuous axes. The discrete ones come with
    all their products, each compared too, without the identity.

    Args:
        tolerance: How far a turned point may be from the surface, as a share of the diameter.
        color_tolerance: How much the colours of its vertices or its texture may differ on average, levels of 255. What
            differs by chance between neighbouring points, as noise does, is taken off.

    Raises:
        InputError: The mesh has no surface, or a tolerance is not positive.
    """
    if not (tolerance > 0 and color_tolerance > 0):
        raise InputError(f"symmetry tolerances: are {tolerance} and {color_tolerance}; both must be above 0")
    surface = _surface_of(mesh)
    looks_same = _Comparison(surface, tolerance * mesh_diameter_mm(mesh), color_tolerance)
    candidates = _candidates(surface.covariance)
    axes: list[np.ndarray] = []
    continuous: list[np.ndarray] = []
    turns: list[np.ndarray] = []
    for axis in candidates:  # grows while it is walked
        if len(continuous) == 3 or any(abs(axis @ known) > SAME_AXIS for known in axes):
            continue
        fold = _fold(axis, looks_same)
        if fold != 1:
            axes.append(axis)
        if fold == 0:
            continuous.append(axis)
        elif fold > 1:
            turns.append(_turn(axis, 2 * np.pi / fold))
        if fold > 2:
            candidates.extend(_across(axis, fold, mesh.vertices_mm - surface.centre))
    if continuous:
        turns = _upside_down(continuous, looks_same)
    return _about(_closed(turns, looks_same), surface.centre), tuple(
        ContinuousSymmetry(a, surface.centre) for a in continuous
    )


class _Comparison:
    """Whether a rotation about the centre leaves the surface as it looks; sampling noise is measured and taken off."""

    def __init__(self, surface: _Surface, tolerance_mm: float, color_tolerance: float) -> None:
        self.surface = surface
        distance, difference = self._deviation(np.eye(3))
        self.max_distance = distance + tolerance_mm
        self.max_difference = difference + color_tolerance

    def __call__(self, rotation: Float64[np.ndarray, "3 3"]) -> bool:
        distance, difference = self._deviation(rotation)
        return distance <= self.max_distance and difference <= self.max_difference

    def _deviation(self, rotation: Float64[np.ndarray, "3 3"]) -> tuple[float, float]:
        surface = self.surface
        found = surface.target.query(surface.probes @ rotation.T)
        distance, nearest = float(np.max(found[0])), np.asarray(found[1])
        if surface.target_colors is None or surface.probe_colors is None:
            return distance, 0.0
        return distance, float(np.abs(surface.target_colors[nearest] - surface.probe_colors).mean())


def _fold(axis: np.ndarray, looks_same: _Comparison) -> int:
    """0: any turn about the axis fits; 1: none does; else the largest fold."""
    if all(looks_same(_turn(axis, angle)) for angle in TEST_ANGLES):
        return 0
    return next((n for n in FOLDS if all(looks_same(_turn(axis, 2 * np.pi * k / n)) for k in range(1, n))), 1)


def _candidates(covariance: Float64[np.ndarray, "3 3"]) -> list[np.ndarray]:
    """Coordinate axes first: they are exact, and principal axes are arbitrary where two extents are equal."""
    return [*np.eye(3)[::-1], *np.linalg.eigh(covariance)[1].T]


def _across(axis: np.ndarray, fold: int, from_centre: Float64[np.ndarray, "v 3"]) -> list[np.ndarray]:
    """Where an n-fold axis (n > 2) has two-fold ones across it: prisms towards a corner, antiprisms between two.

    Both principal extents are equal there, so that the principal axes do not tell.
    """
    outwards = from_centre - (from_centre @ axis)[:, None] * axis
    lengths = np.linalg.norm(outwards, axis=1)
    corner = outwards[lengths.argmax()] / lengths.max()
    return [corner, _turn(axis, np.pi / (2 * fold)) @ corner]


def _upside_down(continuous: list[np.ndarray], looks_same: _Comparison) -> list[np.ndarray]:
    """Of an object of revolution: all turns that put its axis upside down are one, up to turns about the axis."""
    if len(continuous) > 1:
        return []
    across = np.cross(continuous[0], np.eye(3)[np.abs(continuous[0]).argmin()])
    flip = _turn(across / np.linalg.norm(across), np.pi)
    return [flip] if looks_same(flip) else []


def _closed(turns: list[np.ndarray], looks_same: _Comparison) -> list[np.ndarray]:
    """All products of turns. Those of axes that are a little off add up their errors, so each is compared again."""
    group = [np.eye(3)]
    for known in group:  # grows while it is walked
        for turn in turns:
            product = turn @ known
            is_new = min(np.abs(product - other).max() for other in group) > SAME_MOTION
            if is_new and looks_same(product):
                group.append(product)
    return group[1:]


def _about(rotations: list[np.ndarray], centre: np.ndarray) -> Float64[np.ndarray, "n 4 4"]:
    motions = np.tile(np.eye(4), (len(rotations), 1, 1))
    for motion, rotation in zip(motions, rotations, strict=True):
        motion[:3, :3], motion[:3, 3] = rotation, centre - rotation @ centre
    return motions


def _turn(axis: np.ndarray, angle: float) -> Float64[np.ndarray, "3 3"]:
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross))


def _surface_of(mesh: Mesh) -> _Surface:
    corners = mesh.vertices_mm.astype(np.float64)[mesh.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    if not areas.sum() > 0:
        raise InputError(f"mesh: its {len(mesh.faces)} faces have no area, so it has no surface to compare")
    centre = np.average(corners.mean(1), axis=0, weights=areas)
    from_centre = corners - centre
    # second moments of a triangle are those of its edges' midpoints, a third of its area each
    middles = (from_centre + np.roll(from_centre, 1, axis=1)) / 2
    covariance = np.einsum("f,fki,fkj->ij", areas / (3 * areas.sum()), middles, middles)
    rng = np.random.default_rng(0)
    probes, probe_colors = _sampled(mesh, from_centre, areas, NUM_PROBES, rng)
    target, target_colors = _sampled(mesh, from_centre, areas, NUM_SURFACE, rng)
    return _Surface(centre, covariance, probes, probe_colors, cKDTree(target), target_colors)


def _sampled(
    mesh: Mesh,
    corners: Float64[np.ndarray, "f 3 3"],
    areas: Float64[np.ndarray, " f"],
    count: int,
    rng: np.random.Generator,
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 3"] | None]:
    """Points evenly over the surface, and their colours."""
    steps = (np.arange(count) + rng.random()) / count  # systematic: more even than independent draws
    faces: Int64[np.ndarray, " n"] = np.searchsorted(np.cumsum(areas) / areas.sum(), steps).clip(max=len(areas) - 1)
    u, v = rng.random((2, count))
    root = np.sqrt(u)
    shares = np.stack([1 - root, root * (1 - v), root * v], axis=-1)
    points = np.einsum("nk,nki->ni", shares, corners[faces])
    return points, _colors_at(mesh, faces, shares)


def _colors_at(
    mesh: Mesh, faces: Int64[np.ndarray, " n"], shares: Float64[np.ndarray, "n 3"]
) -> Float64[np.ndarray, "n 3"] | None:
    """Of points inside faces, `shares` of whose corners make them up; levels of 255."""
    if mesh.texture is not None:
        image = mesh.texture.image
        corners = mesh.texture.uv.astype(np.float64)[mesh.texture.face_uv[faces]]
        u, v = np.einsum("nk,nki->ni", shares, corners).T
        columns = np.floor(u * image.shape[1]).astype(np.int64).clip(0, image.shape[1] - 1)
        rows = np.floor((1 - v) * image.shape[0]).astype(np.int64).clip(0, image.shape[0] - 1)
        return np.asarray(image[rows, columns], dtype=np.float64)
    if mesh.colors is None:
        return None
    return np.asarray(np.einsum("nk,nki->ni", shares, mesh.colors.astype(np.float64)[mesh.faces[faces]]))
