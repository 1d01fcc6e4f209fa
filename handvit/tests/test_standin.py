"""The made-up hand has the layout and the looks of a hand."""

from functools import cache

import numpy as np
import pytest
import torch
from jaxtyping import Float

from handvit.hand import boundary_loop, close_wrist, pose_to_rotations, read_hand
from handvit.joints import FINGERTIPS, MANO_JOINT_NAMES, MANO_PARENTS
from handvit.standin import LABEL, standin_arrays
from handvit.standin.anatomy import hand_anatomy
from posecore.bodymodel import BodyArrays, BodyModel
from posecore.bodymodel.arrays import find_problems

Points = Float[np.ndarray, "n 3"]
SEEDS = pytest.mark.parametrize("seed", [0, 1, 42])
FINGERS = ("index", "middle", "pinky", "ring")


@cache
def arrays_of(seed: int) -> BodyArrays:
    return standin_arrays(seed)


def winding(points: Points, vertices: Points, faces: np.ndarray) -> Float[np.ndarray, " n"]:
    """How often a closed surface winds round each point: 1 inside, 0 outside (van Oosterom and Strackee 1983)."""
    a, b, c = (vertices[faces[:, i]][None] - points[:, None] for i in range(3))
    p, q, r = (np.linalg.norm(side, axis=2) for side in (a, b, c))
    volume = (a * np.cross(b, c)).sum(2)
    below = p * q * r + (a * b).sum(2) * r + (b * c).sum(2) * p + (c * a).sum(2) * q
    return np.arctan2(volume, below).sum(1) / (2 * np.pi)


@SEEDS
def test_it_is_a_hand_of_manos_layout(seed: int) -> None:
    arrays = arrays_of(seed)
    assert arrays.template.shape == (778, 3)
    assert arrays.faces.shape == (1538, 3)
    assert tuple(arrays.parents) == MANO_PARENTS
    assert arrays.joint_names == MANO_JOINT_NAMES
    assert not find_problems(arrays)
    assert arrays.label == f"{LABEL} {seed}"


@SEEDS
def test_it_is_a_disc_whose_border_is_a_wrist_of_16_edges(seed: int) -> None:
    arrays = arrays_of(seed)
    loop = boundary_loop(arrays.faces)
    edges = {tuple(sorted(edge)) for face in arrays.faces.tolist() for edge in zip(face, np.roll(face, 1), strict=True)}
    assert len(loop) == 16
    assert len(np.unique(arrays.faces)) == 778
    assert 778 - len(edges) + 1538 == 1
    assert (arrays.template[loop, 0] > arrays.joints[0, 0]).all()


@SEEDS
def test_normals_are_outward_and_no_face_is_a_sliver_or_folded_over(seed: int) -> None:
    arrays = arrays_of(seed)
    closed = close_wrist(arrays.template, arrays.faces)
    a, b, c = arrays.template[arrays.faces].transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    area = np.linalg.norm(normals, axis=1) / 2
    normals /= 2 * area[:, None]
    assert area.min() > 1e-6
    some = slice(None, None, 8)
    middle = ((a + b + c) / 3)[some]
    assert np.abs(winding(middle + 2e-4 * normals[some], arrays.template, closed)).max() < 1e-6
    assert np.abs(winding(middle - 2e-4 * normals[some], arrays.template, closed) - 1).max() < 1e-6
    owners: dict[tuple[int, int], list[int]] = {}
    for number, face in enumerate(arrays.faces.tolist()):
        for edge in zip(face, (*face[1:], face[0]), strict=True):
            owners.setdefault((min(edge), max(edge)), []).append(number)
    pairs = np.array([pair for pair in owners.values() if len(pair) == 2])
    assert (normals[pairs[:, 0]] * normals[pairs[:, 1]]).sum(1).min() > -0.6  # the webs are sharp


@SEEDS
def test_joints_are_inside_the_mesh_and_the_regressor_gives_them(seed: int) -> None:
    arrays = arrays_of(seed)
    closed = close_wrist(arrays.template, arrays.faces)
    np.testing.assert_allclose(winding(arrays.joints, arrays.template, closed), 1, atol=1e-6)
    regressor = arrays.joint_regressor
    np.testing.assert_allclose(regressor.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(regressor @ arrays.template, arrays.joints, atol=1e-12)
    assert regressor.min() >= 0
    assert (regressor != 0).sum(1).max() <= 24
    np.testing.assert_allclose(arrays.joints[0], [0.0957, 0.0064, 0.0062], atol=1e-12)


@SEEDS
def test_weights_are_of_at_most_four_bones_and_smooth(seed: int) -> None:
    arrays = arrays_of(seed)
    assert (arrays.weights > 0).sum(1).max() <= 4
    assert arrays.weights.min() >= 0
    np.testing.assert_allclose(arrays.weights.sum(1), 1, atol=1e-12)
    edges = np.concatenate([arrays.faces[:, [0, 1]], arrays.faces[:, [1, 2]], arrays.faces[:, [2, 0]]])
    change = np.abs(arrays.weights[edges[:, 0]] - arrays.weights[edges[:, 1]]).max()
    assert change < 0.85  # rings are up to 8 mm apart, and a bend takes 14 mm
    for joint in range(16):
        assert arrays.weights[:, joint].max() > 0.85, MANO_JOINT_NAMES[joint]


@SEEDS
def test_it_is_a_right_hand_with_the_palm_down_and_fingers_towards_minus_x(seed: int) -> None:
    arrays = arrays_of(seed)
    joints = dict(zip(MANO_JOINT_NAMES, arrays.joints, strict=True))
    thumb, *tips = arrays.template[list(FINGERTIPS["smplx"])]
    for finger, tip in zip(("index", "middle", "ring", "pinky"), tips, strict=True):
        way = np.stack([joints["wrist"], *(joints[f"{finger}{i}"] for i in (1, 2, 3)), tip])[:, 0]
        assert (np.diff(way) < 0).all(), finger
    across = [joints[f"{finger}1"][2] for finger in ("thumb", "index", "middle", "ring", "pinky")]
    assert (np.diff(across) < 0).all()
    assert thumb[2] > 0.05
    relaxed = read_hand(None)
    curled = torch.cat([torch.zeros(3), relaxed.hands_mean])
    output = relaxed(pose_to_rotations(curled), torch.zeros(10))
    below = relaxed(pose_to_rotations(0 * curled), torch.zeros(10)).joints_m[8::4, 1] - output.joints_m[8::4, 1]
    assert (below > 0.015).all()  # curled fingers go towards the palm, -y


@SEEDS
def test_the_middle_finger_is_80_to_95_mm_long(seed: int) -> None:
    arrays = arrays_of(seed)
    first = MANO_JOINT_NAMES.index("middle1")
    chain = np.concatenate([arrays.joints[first : first + 3], arrays.template[[FINGERTIPS["smplx"][2]]]])
    assert 0.080 < np.linalg.norm(np.diff(chain, axis=0), axis=1).sum() < 0.095


@SEEDS
@pytest.mark.parametrize("source", FINGERTIPS)
def test_every_sources_fingertips_are_within_millimetres_of_the_tip(seed: int, source: str) -> None:
    arrays = arrays_of(seed)
    tips = [finger.tip for finger in sorted(hand_anatomy(np.random.default_rng(seed)), key=_canonical_place)]
    away = np.linalg.norm(arrays.template[list(FINGERTIPS[source])] - tips, axis=1)
    assert away.max() < (0.001 if source == "smplx" else 0.006)


def _canonical_place(finger: object) -> int:
    return ("thumb", "index", "middle", "ring", "pinky").index(finger.name)  # type: ignore[attr-defined]


@SEEDS
def test_shape_directions_are_smooth_begin_with_the_size_and_are_independent(seed: int) -> None:
    arrays = arrays_of(seed)
    directions = arrays.shapedirs
    assert directions.shape == (778, 3, 10)
    size = np.linalg.norm(arrays.template.max(0) - arrays.template.min(0))
    larger = arrays.template + directions[:, :, 0]
    assert 1.02 < np.linalg.norm(larger.max(0) - larger.min(0)) / size < 1.06
    grown = larger - larger.mean(0)
    np.testing.assert_allclose(grown, 1.035 * (arrays.template - arrays.template.mean(0)), atol=1e-12)
    edges = np.concatenate([arrays.faces[:, [0, 1]], arrays.faces[:, [1, 2]], arrays.faces[:, [2, 0]]])
    step = np.linalg.norm(directions[edges[:, 0]] - directions[edges[:, 1]], axis=1)
    length = np.linalg.norm(arrays.template[edges[:, 0]] - arrays.template[edges[:, 1]], axis=1)
    assert (step / length[:, None]).max() < 0.4
    assert np.abs(directions).max(axis=(0, 1)).min() > 5e-4
    assert np.abs(directions).max() < 6e-3
    assert np.linalg.cond(directions.reshape(-1, 10) / np.linalg.norm(directions.reshape(-1, 10), axis=0)) < 50


@SEEDS
def test_pose_blend_shapes_are_below_a_millimetre_and_swell_a_bent_joint(seed: int) -> None:
    arrays = arrays_of(seed)
    assert arrays.posedirs.shape == (778, 3, 135)
    assert 1e-4 < np.abs(arrays.posedirs).max() < 1e-3
    assert (np.abs(arrays.posedirs).max(axis=(0, 1)) > 0).all()
    body = BodyModel(arrays, torch.float64)
    bend = torch.zeros(1, 48, dtype=torch.float64)
    bend[0, 3 * MANO_JOINT_NAMES.index("middle2") + 2] = 1.0
    features = (pose_to_rotations(bend)[0, 1:] - torch.eye(3).double()).reshape(135).numpy()
    moved = arrays.posedirs @ features
    near = np.linalg.norm(arrays.template - arrays.joints[MANO_JOINT_NAMES.index("middle2")], axis=1) < 0.010
    outward = (moved[near] * (arrays.template[near] - arrays.joints[MANO_JOINT_NAMES.index("middle2")])).sum(1)
    assert outward.mean() > 0
    assert body.has_posedirs


@SEEDS
def test_components_are_orthonormal_and_begin_with_bending_all_fingers(seed: int) -> None:
    arrays = arrays_of(seed)
    np.testing.assert_allclose(arrays.hands_components @ arrays.hands_components.T, np.eye(45), atol=1e-12)
    first = arrays.hands_components[0].reshape(15, 3)
    assert (np.abs(first[:12, 2]) > 0.2).all()
    assert np.abs(first[12:]).max() < 1e-12


@SEEDS
def test_the_mean_pose_is_a_hand_at_rest(seed: int) -> None:
    mean = arrays_of(seed).hands_mean.reshape(15, 3)
    angles = np.linalg.norm(mean, axis=1)
    assert ((angles > 0.05) & (angles < 0.6)).all()
    assert (mean[:12, 2] > 0.2).all()


def test_a_seed_gives_the_same_hand_again_and_another_seed_another() -> None:
    first = standin_arrays.__wrapped__(5)
    again = standin_arrays.__wrapped__(5)
    for key in ("template", "weights", "shapedirs", "posedirs", "hands_components", "joint_regressor"):
        np.testing.assert_array_equal(getattr(first, key), getattr(again, key))
    assert np.abs(first.template - standin_arrays(6).template).max() > 1e-3


def test_bent_and_reshaped_hands_keep_their_volume_and_have_no_spikes() -> None:
    hand = read_hand(None, dtype=torch.float64)
    faces = close_wrist(arrays_of(0).template, arrays_of(0).faces)
    generator = torch.Generator().manual_seed(0)
    betas = torch.randn(20, 10, generator=generator, dtype=torch.float64)
    share = 2.5 * torch.rand(20, 1, generator=generator, dtype=torch.float64)  # from flat to nearly a fist
    pose = torch.cat([torch.zeros(20, 3), share * hand.hands_mean], 1).double()
    vertices = hand(pose_to_rotations(pose), betas).vertices_m
    flat = hand(pose_to_rotations(0 * pose), betas).vertices_m
    triangles, at_rest = vertices[:, faces], flat[:, faces]
    volume, before = (
        (t[:, :, 0] * torch.linalg.cross(t[:, :, 1], t[:, :, 2])).sum((1, 2)) / 6 for t in (triangles, at_rest)
    )
    assert ((volume / before - 1).abs() < 0.05).all()
    edges = (triangles - triangles.roll(1, 2)).norm(dim=3)
    assert (edges / (at_rest - at_rest.roll(1, 2)).norm(dim=3)).max() < 3
