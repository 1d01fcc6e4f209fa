"""A procedural insect in the layout of a SMIL file: made of tapered tubes, free of anybody's licence.

Forward is +x, left +y, up +z, the length about 1.8 units; names, keys and dtypes are those of the SMIL files
(thorax `b_t` is the root). Rings of vertices lie at the joints, so that the joint regressor is exact.
"""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from posecore.bodymodel import BodyArrays, BodyModel

Variant = Literal["simple", "full"]
Vector = Float[np.ndarray, " 3"]

NUM_BETAS = 5
THICKNESS_FLOOR = 0.4
LEG_SEGMENTS = ("co", "tr", "fe", "ti", "ta", "pt")


@dataclass(frozen=True)
class Tube:
    """A closed tube along joints: `stations` are its ring centres, `bones` the joints whose bones it may follow."""

    stations: Float[np.ndarray, "n 3"]
    radii: Float[np.ndarray, "n 2"]
    """Half widths of each ring: sideways, upwards."""
    joints: tuple[str | None, ...]
    """The joint that a ring surrounds, or None."""
    part: str
    sides: int


def insect_arrays(variant: Variant = "simple", pose_blend: bool = False) -> dict[str, Any]:
    """Arrays of the procedural insect under the keys of a SMIL file.

    Args:
        variant: `simple` has 19 joints and about 450 vertices, `full` has the 55 joints of the SMIL stick insect.
        pose_blend: Add small pose blend shapes, which the SMIL files leave empty.
    """
    joints, parents, tubes = _anatomy(variant)
    names = list(joints)
    vertices, faces, owners, stations = _mesh(tubes)
    weights = _weights(vertices, tubes, owners, joints, parents)
    regressor = _joint_regressor(tubes, stations, names, len(vertices))
    shapedirs = _shape_directions(vertices, owners, tubes, joints)
    rng = np.random.default_rng(20)
    scaledirs, transdirs = _limb_directions(names, rng)
    pose_directions = 9 * (len(names) - 1)
    posedirs = rng.normal(0, 2e-3, (len(vertices), 3, pose_directions)) if pose_blend else np.zeros((0,))
    kintree = np.array([[-1 if parents[n] is None else names.index(str(parents[n])) for n in names], range(len(names))])
    return {
        "v_template": vertices,
        "f": faces.astype(np.int32),
        "shapedirs": shapedirs,
        "posedirs": posedirs,
        "J_regressor": regressor.astype(np.float32),
        "weights": weights.astype(np.float32),
        "kintree_table": kintree.astype(np.int32),
        "J": (regressor @ vertices).astype(np.float32),
        "J_names": names,
        "sym_verts": np.flatnonzero(np.abs(vertices[:, 1]) < 1e-9).astype(np.int64),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
        "scaledirs": scaledirs,
        "transdirs": transdirs,
        "shape_cov": np.diag([1.0, 0.8, 0.6, 0.5, 0.4]),
        "shape_mean_betas": np.zeros(NUM_BETAS),
    }


def write_insect(path: Path, variant: Variant = "simple", pose_blend: bool = False) -> None:
    """Write the procedural insect as a .pkl in the layout (keys, dtypes, protocol 2) of SMIL files."""
    path.write_bytes(pickle.dumps(insect_arrays(variant, pose_blend), protocol=2))


def insect_body(variant: Variant = "simple") -> BodyModel:
    """The procedural insect as a body model, the same as reading the file that `write_insect` writes."""
    raw = insect_arrays(variant)
    return BodyModel(
        BodyArrays(
            template=raw["v_template"],
            faces=raw["f"],
            weights=raw["weights"],
            parents=raw["kintree_table"][0],
            joint_names=tuple(raw["J_names"]),
            shapedirs=raw["shapedirs"],
            joint_regressor=raw["J_regressor"],
            joints=raw["J"],
            scaledirs=raw["scaledirs"],
            transdirs=raw["transdirs"],
            shape_cov=raw["shape_cov"],
            shape_mean=raw["shape_mean_betas"],
            sym_verts=raw["sym_verts"],
        )
    )


def part_of_joint(name: str) -> str:
    """thorax, abdomen, head, leg, antenna, mandible, wing or, in other animals, other: for colours and pose ranges."""
    if name == "b_t":
        return "thorax"
    for prefix, part in (("b_a_", "abdomen"), ("b_h", "head"), ("l_", "leg"), ("an_", "antenna"), ("w_", "wing")):
        if name.startswith(prefix):
            return part
    return "mandible" if name.startswith("ma") and len(name) <= 5 else "other"


Anatomy = tuple[dict[str, Vector], dict[str, str | None], list[Tube]]


def _anatomy(variant: Variant) -> Anatomy:
    joints: dict[str, Vector] = {"b_t": np.array([0.0, 0.0, 0.0])}
    parents: dict[str, str | None] = {"b_t": None}
    tubes: list[Tube] = []
    abdomen = ["b_a_1", "b_a_2", "b_a_3"] if variant == "simple" else [f"b_a_{i}" for i in range(1, 6)]
    _body(joints, parents, tubes, abdomen)
    for number, (x, forward) in enumerate([(0.28, 0.45), (0.0, -0.05), (-0.28, -0.5)], 1):
        for side, sign in (("r", -1.0), ("l", 1.0)):
            _leg(joints, parents, tubes, variant, f"l_{number}", side, np.array([x, sign * 0.1, -0.02]), forward)
    segments = ["1"] if variant == "simple" else ["1", "2", "3"]
    for side, sign in (("r", -1.0), ("l", 1.0)):
        path = np.array([[0.72, sign * 0.06, 0.07], [1.3, sign * 0.38, 0.3]])
        _limb(joints, parents, tubes, [f"an_{s}_{side}" for s in segments], "b_h", path, (0.03, 0.014), "antenna", 6)
    if variant == "full":
        for side, sign in (("r", -1.0), ("l", 1.0)):
            jaw = np.array([[0.8, sign * 0.05, -0.04], [0.95, sign * 0.02, -0.09]])
            _limb(joints, parents, tubes, [f"ma_{side}"], "b_h", jaw, (0.025, 0.01), "mandible", 5)
            for number, x in ((1, 0.15), (2, -0.15)):
                wing = np.array([[x, sign * 0.09, 0.11], [x - 0.45, sign * 0.28, 0.16]])
                _limb(joints, parents, tubes, [f"w_{number}_{side}"], "b_t", wing, (0.06, 0.008), "wing", 6)
    return joints, parents, tubes


def _body(joints: dict[str, Vector], parents: dict[str, str | None], tubes: list[Tube], abdomen: list[str]) -> None:
    """One tube from the tip of the abdomen over the thorax to the face."""
    spots = np.linspace(-0.38, -0.86, len(abdomen))
    for previous, name, x in zip(["b_t", *abdomen], abdomen, spots, strict=False):
        joints[name], parents[name] = np.array([x, 0.0, 0.0]), previous
    joints["b_h"], parents["b_h"] = np.array([0.5, 0.0, 0.02]), "b_t"
    profile = [(-1.02, 0.02), *[(float(x), 0.07 + 0.09 * np.sin(np.pi * (i + 1) / (len(abdomen) + 1))) for i, x in
               reversed(list(enumerate(spots)))], (-0.3, 0.07), (-0.15, 0.13), (0.0, 0.15), (0.2, 0.14), (0.4, 0.09),
               (0.5, 0.08), (0.6, 0.13), (0.74, 0.12), (0.82, 0.04)]  # fmt: skip
    at = {round(float(joints[n][0]), 6): n for n in ["b_t", "b_h", *abdomen]}
    stations = np.array([[x, 0.0, 0.02 if x >= 0.5 else 0.0] for x, _ in profile])
    radii = np.array([[r, 0.85 * r] for _, r in profile])
    tubes.append(Tube(stations, radii, tuple(at.get(round(x, 6)) for x, _ in profile), "body", 12))


def _leg(
    joints: dict[str, Vector], parents: dict[str, str | None], tubes: list[Tube],
    variant: Variant, prefix: str, side: str, base: Vector, forward: float,
) -> None:  # fmt: skip
    sign = np.sign(base[1])
    knee = base + np.array([0.45 * forward, sign * 0.34, 0.17])
    foot = knee + np.array([0.5 * forward, sign * 0.34, -0.42])
    if variant == "simple":
        names, path = [f"{prefix}_fe_{side}", f"{prefix}_ti_{side}"], np.array([base, knee, foot])
    else:
        names = [f"{prefix}_{segment}_{side}" for segment in LEG_SEGMENTS]
        hip, claw = foot - knee, np.array([0.1 * forward, sign * 0.08, -0.02])
        path = np.array([base, base + 0.12 * (knee - base), base + 0.24 * (knee - base), knee,
                         knee + 0.75 * hip, foot, foot + claw])  # fmt: skip
    _limb(joints, parents, tubes, names, "b_t", path, (0.06, 0.022), "leg", 8)


def _limb(
    joints: dict[str, Vector], parents: dict[str, str | None], tubes: list[Tube], names: list[str], parent: str,
    path: Float[np.ndarray, "n 3"], radii: tuple[float, float], part: str, sides: int,
) -> None:  # fmt: skip
    """Joints along a path (evenly where the path has only two ends) and the tube around them."""
    if len(path) == 2:
        path = np.array([path[0] + t * (path[1] - path[0]) for t in np.linspace(0, 1, len(names) + 1)])
    for previous, name, spot in zip([parent, *names], names, path, strict=False):
        joints[name], parents[name] = spot, previous
    stations: list[Vector] = []
    at: list[str | None] = []
    for i, name in enumerate(names):
        stations += [path[i], 0.5 * (path[i] + path[i + 1])]
        at += [name, None]
    stations.append(path[-1])
    at.append(None)
    taper = np.linspace(radii[0], radii[1], len(stations))
    flat = 3.0 if part == "wing" else 1.0
    tubes.append(Tube(np.array(stations), np.stack([flat * taper, taper / flat], 1), tuple(at), part, sides))


def _mesh(tubes: list[Tube]) -> tuple[Any, Any, Int[np.ndarray, " v"], list[list[Int[np.ndarray, " s"]]]]:
    """Vertices, outward faces, the tube of each vertex, and the vertex numbers of each ring of each tube."""
    vertices: list[Any] = []
    faces: list[Any] = []
    owners: list[int] = []
    rings: list[list[Any]] = []
    for number, tube in enumerate(tubes):
        first = sum(len(v) for v in vertices)
        tube_vertices, tube_faces, tube_rings = _tube_mesh(tube)
        vertices.append(tube_vertices)
        faces.append(tube_faces + first)
        owners += [number] * len(tube_vertices)
        rings.append([ring + first for ring in tube_rings])
    return np.concatenate(vertices), np.concatenate(faces), np.array(owners), rings


def _tube_mesh(tube: Tube) -> tuple[Any, Any, list[Any]]:
    """Rings joined by quads and closed by a fan at each end."""
    count, sides = len(tube.stations), tube.sides
    angle = 2 * np.pi * np.arange(sides) / sides
    directions = np.gradient(tube.stations, axis=0)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sideways = np.cross([0.0, 0.0, 1.0], directions)
    sideways /= np.linalg.norm(sideways, axis=1, keepdims=True)
    upwards = np.cross(directions, sideways)
    circle = (
        np.cos(angle)[None, :, None] * (tube.radii[:, :1] * sideways)[:, None]
        + np.sin(angle)[None, :, None] * (tube.radii[:, 1:] * upwards)[:, None]
    )
    ring_vertices = (tube.stations[:, None] + circle).reshape(-1, 3)
    ends = np.stack([tube.stations[0] - directions[0] * tube.radii[0].mean() * 0.5,
                     tube.stations[-1] + directions[-1] * tube.radii[-1].mean() * 0.5])  # fmt: skip
    rings = [np.arange(sides) + i * sides for i in range(count)]
    faces: list[list[int]] = []
    for i in range(count - 1):
        for s in range(sides):
            a, b = rings[i][s], rings[i][(s + 1) % sides]
            c, d = rings[i + 1][s], rings[i + 1][(s + 1) % sides]
            faces += [[a, b, c], [b, d, c]]
    low, high = count * sides, count * sides + 1
    for s in range(sides):
        faces += [[low, rings[0][(s + 1) % sides], rings[0][s]], [high, rings[-1][s], rings[-1][(s + 1) % sides]]]
    return np.concatenate([ring_vertices, ends]), np.array(faces), rings


def _weights(
    vertices: Any, tubes: list[Tube], owners: Any, joints: Mapping[str, Vector], parents: Mapping[str, str | None]
) -> Float[np.ndarray, "v j"]:
    """Each vertex follows the two nearest bones of its tube, in inverse proportion to the distance's fourth power."""
    names = list(joints)
    weights = np.zeros((len(vertices), len(names)))
    for number, tube in enumerate(tubes):
        own = [name for name in tube.joints if name is not None]
        mine = np.flatnonzero(owners == number)
        distances = np.stack([_distance_to_bone(vertices[mine], name, joints, tube) for name in own], 1)
        order = np.argsort(distances, axis=1, kind="stable")[:, :2]
        near = np.take_along_axis(distances, order, 1) + 1e-6
        strength = near**-4
        strength /= strength.sum(1, keepdims=True)
        for column in range(order.shape[1]):
            weights[mine, [names.index(own[k]) for k in order[:, column]]] += strength[:, column]
    return weights


def _distance_to_bone(points: Any, name: str, joints: Mapping[str, Vector], tube: Tube) -> Float[np.ndarray, " n"]:
    """Distance to the tube's axis between this joint and the next one outwards (the tube's end after the last)."""
    start = joints[name]
    marked = [i for i, joint in enumerate(tube.joints) if joint is not None]
    here = tube.joints.index(name)
    if tube.part == "body":
        step = 1 if name == "b_h" else -1 if name != "b_t" else 0
        ahead = [i for i in marked if (i - here) * step > 0]
        end = tube.stations[(min(ahead) if step > 0 else max(ahead)) if ahead else (-1 if step > 0 else 0)]
        end = joints["b_h"] if name == "b_t" else end
    else:
        ahead = [i for i in marked if i > here]
        end = tube.stations[min(ahead) if ahead else -1]
    along = end - start
    t = np.clip((points - start) @ along / (along @ along), 0, 1)
    distance: Float[np.ndarray, " n"] = np.linalg.norm(points - start - t[:, None] * along, axis=1)
    return distance


def _joint_regressor(
    tubes: list[Tube], rings: list[list[Any]], names: list[str], count: int
) -> Float[np.ndarray, "j v"]:
    regressor = np.zeros((len(names), count))
    for tube, tube_rings in zip(tubes, rings, strict=True):
        for name, ring in zip(tube.joints, tube_rings, strict=True):
            if name is not None:
                regressor[names.index(name), ring] = 1 / len(ring)
    return regressor


def _shape_directions(
    vertices: Any, owners: Any, tubes: list[Tube], joints: Mapping[str, Vector]
) -> Float[np.ndarray, "v 3 5"]:
    """Leg length, abdomen length, abdomen width, head size, antenna length: a tenth of the size for one unit."""
    parts = np.array([tubes[o].part for o in owners])
    base = np.stack([tubes[o].stations[0] for o in owners])
    directions = np.zeros((len(vertices), 3, NUM_BETAS))
    directions[:, :, 0] = np.where((parts == "leg")[:, None], 0.12 * (vertices - base), 0)
    behind = np.minimum(vertices[:, 0] + 0.3, 0) * (parts == "body")
    directions[:, 0, 1] = 0.15 * behind
    bulge = np.clip(-behind / 0.3, 0, 1)[:, None]
    directions[:, 1:, 2] = 0.2 * bulge * vertices[:, 1:]
    at_head = (parts == "body") & (vertices[:, 0] > joints["b_h"][0])
    directions[:, :, 3] = np.where(at_head[:, None], 0.15 * (vertices - joints["b_h"]), 0)
    directions[:, :, 4] = np.where((parts == "antenna")[:, None], 0.2 * (vertices - base), 0)
    return directions


def _limb_directions(names: list[str], rng: np.random.Generator) -> tuple[Any, Any]:
    """Left and right limbs change together; the root does not change."""
    scaledirs = np.zeros((NUM_BETAS, len(names), 3))
    transdirs = np.zeros((NUM_BETAS, len(names), 3))
    drawn: dict[str, tuple[Any, Any]] = {}
    for index, name in enumerate(names[1:], 1):
        stem = name[:-2] if name.endswith(("_r", "_l")) else name
        drawn.setdefault(stem, (rng.normal(0, 0.03, (NUM_BETAS, 3)), rng.normal(0, 0.3, (NUM_BETAS, 3))))
        scale, offset = drawn[stem]
        mirror = np.array([1.0, -1.0 if name.endswith("_r") else 1.0, 1.0])
        scaledirs[:, index], transdirs[:, index] = scale, offset * mirror
    return scaledirs, transdirs
