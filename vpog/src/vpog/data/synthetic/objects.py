"""Painted objects in millimetres, with what models_info.json says of them."""

from dataclasses import dataclass

import numpy as np

from vpog.data.synthetic.options import SIZE_MM, SyntheticOptions
from vpog.data.synthetic.paint import GROUNDS, PATTERNS, Canvas, Ground, random_paint
from vpog.data.synthetic.shapes import KINDS, Shape, random_shape
from vpog.data.synthetic.symmetry import Symmetry
from vpog.objects.meshes import Mesh, mesh_bounds_mm, mesh_diameter_mm
from vpog.objects.models_info import ModelInfo

OCCLUDERS = 8
"""Different ones in a data set."""
_OCCLUDER_STREAM = 1


@dataclass(frozen=True, eq=False)
class SyntheticObject:
    """An object, its origin at the middle of its box."""

    obj_id: int
    kind: str
    mesh: Mesh
    symmetry: Symmetry
    """Of shape and colours together."""

    @property
    def info(self) -> ModelInfo:
        least, largest = mesh_bounds_mm(self.mesh)
        symmetries = (self.symmetry.discrete, self.symmetry.continuous)
        return ModelInfo(mesh_diameter_mm(self.mesh), least, largest - least, *symmetries)


def make_objects(options: SyntheticOptions) -> list[SyntheticObject]:
    """All objects of a data set; the n-th does not depend on how many there are.

    Kinds take turns, so that a dozen objects have a dozen shapes.
    """
    kinds = list(KINDS)
    start = options.objects_seed * 5  # other sets begin with other shapes
    return [
        _object(np.random.default_rng([options.objects_seed, number]), number + 1, kinds[(start + number) % len(kinds)],
                options.symmetric_share)
        for number in range(options.objects)
    ]  # fmt: skip


def make_occluders(options: SyntheticOptions) -> list[Mesh]:
    """Things that are not labelled, in colours of wood, stone and cloth."""
    kinds = ("box", "can", "rounded_box", "l_shape")
    meshes = []
    for number in range(OCCLUDERS):
        rng = np.random.default_rng([options.objects_seed, number, _OCCLUDER_STREAM])
        mesh = _object(rng, 1, kinds[number % len(kinds)], 0.0).mesh
        assert mesh.colors is not None
        grey = mesh.colors.mean(1, keepdims=True)
        tint = rng.uniform(0.6, 1.1, 3)
        dull = np.clip((0.2 * mesh.colors + 0.8 * grey) * tint, 0, 255).astype(np.uint8)
        meshes.append(Mesh(mesh.vertices_mm, mesh.faces, dull))
    return meshes


def _object(rng: np.random.Generator, obj_id: int, kind: str, symmetric_share: float) -> SyntheticObject:
    shape = random_shape(rng, kind)
    symmetry = _kept_symmetry(rng, shape.symmetry) if rng.random() < symmetric_share else Symmetry()
    points = shape.solid.points
    centred = points - (points.max(0) + points.min(0)) / 2
    vertices = centred * (rng.uniform(*SIZE_MM) / np.ptp(points, axis=0).max())
    colors = _paint(rng, shape, centred / np.abs(centred).max(), symmetry)
    return SyntheticObject(obj_id, kind, Mesh(vertices.astype(np.float32), shape.solid.faces, colors), symmetry)


def _kept_symmetry(rng: np.random.Generator, of_shape: Symmetry) -> Symmetry:
    """All that the shape has, or only the turns about z."""
    return Symmetry(of_shape.fold, flips=of_shape.flips and bool(rng.random() < 0.5))


def _paint(rng: np.random.Generator, shape: Shape, points: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    regions = shape.solid.regions if symmetry.is_none else np.zeros_like(shape.solid.regions)
    fits: list[Ground] = [ground for ground in GROUNDS if ground != "sides" or regions.max() > 0]
    patterns = rng.choice(len(PATTERNS), size=2, replace=False)
    ground = fits[rng.integers(len(fits))]
    canvas = Canvas(symmetry.folded(points), regions)
    return random_paint(rng, canvas, ground, tuple(PATTERNS[k] for k in patterns))
