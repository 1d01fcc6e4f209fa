"""The posed hand against the reference vectors, smplx, and the laws of a hand."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import smplx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from handvit.hand import (
    HandModel,
    close_wrist,
    fix_left_shapes,
    hand_size_mm,
    mirror_arrays,
    mirror_axis_angle,
    mirror_points,
    mirror_rotations,
    pca_to_axis_angle,
    pose_to_rotations,
    read_hand,
    rotations_to_pose,
    to_absolute,
    to_relative,
)
from handvit.joints import FINGERTIPS, MANO_JOINT_NAMES, MANO_TO_CANONICAL
from handvit.standin import standin_arrays, write_standin
from posecore.bodymodel import BodyArrays, BodyModel

Reference = Callable[[str], dict[str, np.ndarray]]
Tensors = dict[str, Tensor]


def reference_body(reference: Reference) -> BodyArrays:
    arrays = reference("mano_model")
    table = arrays["kintree_table"][0].astype(np.int64)
    wide = {key: value.astype(np.float64) for key, value in arrays.items() if value.dtype.kind == "f"}
    return BodyArrays(
        template=wide["v_template"],
        faces=arrays["f"].astype(np.int64),
        weights=wide["weights"],
        parents=np.where(table == 4294967295, -1, table),
        joint_names=MANO_JOINT_NAMES,
        shapedirs=wide["shapedirs"],
        joint_regressor=wide["J_regressor"],
        posedirs=wide["posedirs"],
        hands_components=wide["hands_components"],
        hands_mean=wide["hands_mean"],
    )


def reference_hand(reference: Reference, **options: Any) -> HandModel:
    return HandModel(BodyModel(reference_body(reference), torch.float64), **options)


def forward_vectors(reference: Reference) -> Tensors:
    arrays = reference("mano_forward")
    return {
        key: torch.from_numpy(value).double() if value.dtype.kind == "f" else torch.from_numpy(value)
        for key, value in arrays.items()
    }


def posed(hand: HandModel, vectors: Tensors, fingers: Tensor) -> tuple[Tensor, Tensor]:
    """Vertices, and the 16 kinematic joints in MANO's order."""
    pose = torch.cat([vectors["global_orient"], fingers], 1)
    joints, vertices = hand(pose_to_rotations(pose), vectors["betas"], vectors["transl"])
    assert vertices is not None
    return vertices, joints[:, torch.tensor(MANO_TO_CANONICAL).argsort()][:, :16]


CASES: dict[str, Callable[[HandModel, Tensors], Tensor]] = {
    "mean": lambda hand, v: v["hand_pose"] + hand.hands_mean,
    "flat": lambda hand, v: v["hand_pose"],
    "pca15_mean": lambda hand, v: pca_to_axis_angle(v["pca15"], hand.hands_components, hand.hands_mean),
    "pca6_flat": lambda hand, v: pca_to_axis_angle(v["pca15"][:, :6], hand.hands_components),
    "true_pca45_mean": lambda hand, v: pca_to_axis_angle(v["pca45"], hand.hands_components, hand.hands_mean),
    "smplx_pca45_is_not_pca": lambda hand, v: v["pca45"] + hand.hands_mean,
    "layer_rotmat": lambda hand, v: v["hand_pose"],
}
FLOAT32_VERTICES = ("pca15_mean", "true_pca45_mean")


@pytest.mark.parametrize("case", CASES)
def test_the_hand_moves_as_in_the_reference(case: str, reference: Reference) -> None:
    hand, vectors = reference_hand(reference), forward_vectors(reference)
    vertices, joints = posed(hand, vectors, CASES[case](hand, vectors))
    assert_close(joints, vectors[f"joints16_{case}"], rtol=0, atol=1e-8)
    if f"verts_{case}" in vectors:
        atol = 1e-6 if case in FLOAT32_VERTICES else 1e-8
        assert_close(vertices, vectors[f"verts_{case}"], rtol=0, atol=atol)


def test_gradients_are_those_of_the_reference(reference: Reference) -> None:
    hand, vectors = reference_hand(reference), forward_vectors(reference)
    names = ("betas", "global_orient", "hand_pose", "transl")
    for name in names:
        vectors[name].requires_grad_()
    vertices, _ = posed(hand, vectors, vectors["hand_pose"] + hand.hands_mean)
    gradients = torch.autograd.grad((vectors["grad_weight"] * vertices).sum(), [vectors[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        expected = vectors[f"grad_{name}"]
        assert_close(gradient, expected, rtol=0, atol=1e-6 * float(expected.abs().max()), msg=name)


@pytest.mark.parametrize("source", ["smplx", "manopth_right", "manopth_left", "freihand", "ho3d"])
@pytest.mark.parametrize("joints_only", [True, False])
def test_the_21_joints_are_those_of_the_reference(source: str, joints_only: bool, reference: Reference) -> None:
    vectors = forward_vectors(reference)
    hand = reference_hand(reference, tips=FINGERTIPS[source])
    pose = torch.cat([vectors["global_orient"], vectors["hand_pose"] + hand.hands_mean], 1)
    joints = hand(pose_to_rotations(pose), vectors["betas"], vectors["transl"], joints_only=joints_only).joints_m
    assert_close(joints, vectors[f"joints21_{source}"], rtol=0, atol=1e-8)


def test_the_left_hand_is_that_of_the_reference_before_and_after_the_fix(reference: Reference) -> None:
    right, vectors = reference_body(reference), forward_vectors(reference)
    released = dataclasses.replace(mirror_arrays(right), shapedirs=right.shapedirs)
    for name, arrays in (("asis", released), ("fixed", fix_left_shapes(released, right))):
        hand = HandModel(BodyModel(arrays, torch.float64))
        vertices, joints = posed(hand, vectors, vectors["hand_pose"] + hand.hands_mean)
        assert_close(joints, vectors[f"joints16_left_{name}"], rtol=0, atol=1e-6)
        assert_close(vertices, vectors[f"verts_left_{name}"], rtol=0, atol=1e-6)


def test_a_left_file_with_its_own_shapes_is_left_alone() -> None:
    right = standin_arrays()
    left = mirror_arrays(right)
    assert fix_left_shapes(left, right) is left
    released = dataclasses.replace(left, shapedirs=right.shapedirs)
    np.testing.assert_array_equal(fix_left_shapes(released, right).shapedirs, left.shapedirs)


def random_hand(seed: int, *batch: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64).to(dtype)

    return 0.6 * draw(48), draw(10), 0.3 * draw(3)


@pytest.fixture(scope="module")
def hand() -> HandModel:
    """The stand-in in float64."""
    return read_hand(None, dtype=torch.float64)


@given(st.integers(0, 10_000))
@settings(max_examples=10)
def test_the_left_hand_in_a_mirrored_pose_is_the_mirror_image_of_the_right(hand: HandModel, seed: int) -> None:
    left = read_hand(None, "left", dtype=torch.float64)
    pose, betas, translation = random_hand(seed, 2)
    expected = hand(pose_to_rotations(pose), betas, translation)
    mirrored = mirror_axis_angle(pose)
    assert_close(mirror_rotations(pose_to_rotations(pose)), pose_to_rotations(mirrored), rtol=0, atol=1e-12)
    found = left(pose_to_rotations(mirrored), betas, mirror_points(translation))
    assert_close(found.joints_m, mirror_points(expected.joints_m), rtol=0, atol=1e-12)
    assert_close(found.vertices_m, mirror_points(expected.vertices_m), rtol=0, atol=1e-12)
    assert_close(left.hands_mean, mirror_axis_angle(hand.hands_mean))
    assert_close(left.hands_components, mirror_axis_angle(hand.hands_components))


def test_the_mirror_turns_x_of_points_and_y_and_z_of_axes() -> None:
    vector = torch.tensor([1.0, 2.0, 3.0])
    assert mirror_points(vector).tolist() == [-1, 2, 3]
    assert mirror_axis_angle(vector).tolist() == [1, -2, -3]


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_smplx_poses_the_written_stand_in_to_the_same_vertices_and_joints(
    suffix: str, hand: HandModel, tmp_path: Path
) -> None:
    path = tmp_path / f"MANO_RIGHT{suffix}"
    write_standin(path)
    options = {"use_pca": False, "flat_hand_mean": True, "batch_size": 3, "dtype": torch.float64, "ext": suffix[1:]}
    theirs = smplx.MANO(str(path), **options)
    pose, betas, translation = random_hand(4, 3)
    expected = theirs(betas=betas, global_orient=pose[:, :3], hand_pose=pose[:, 3:], transl=translation)
    found = hand(pose_to_rotations(pose), betas, translation)
    assert_close(found.vertices_m, expected.vertices, rtol=0, atol=1e-8)  # smplx's angles are off by 1e-8
    order = torch.tensor(MANO_TO_CANONICAL)
    joints = torch.cat([expected.joints[:, :16], expected.vertices[:, list(FINGERTIPS["smplx"])]], 1)[:, order]
    assert_close(found.joints_m, joints, rtol=0, atol=1e-8)


@pytest.mark.parametrize("joint_source", ["kinematic", "regressed"])
def test_joints_alone_and_their_gradients_are_those_of_the_full_hand(joint_source: str) -> None:
    hand = read_hand(None, joint_source=joint_source, dtype=torch.float64, tips=FINGERTIPS["ho3d"])

    def joints_and_gradients(joints_only: bool) -> tuple[Tensor, ...]:
        inputs = [value.requires_grad_() for value in random_hand(6, 4)]
        joints = hand(pose_to_rotations(inputs[0]), *inputs[1:], joints_only=joints_only).joints_m
        return joints, *torch.autograd.grad(joints.sin().sum(), inputs)

    for alone, full in zip(joints_and_gradients(True), joints_and_gradients(False), strict=True):
        assert_close(alone, full, rtol=1e-10, atol=1e-12)


def test_regressed_joints_are_regressed_from_the_posed_vertices(hand: HandModel) -> None:
    regressed = read_hand(None, joint_source="regressed", dtype=torch.float64)
    pose, betas, translation = random_hand(2, 3)
    found = regressed(pose_to_rotations(pose), betas, translation)
    inner = hand.body.joint_regressor @ found.vertices_m
    expected = torch.cat([inner, found.vertices_m[:, list(FINGERTIPS["smplx"])]], 1)[:, list(MANO_TO_CANONICAL)]
    assert_close(found.joints_m, expected, rtol=0, atol=1e-12)
    assert (found.joints_m - hand(pose_to_rotations(pose), betas, translation).joints_m).abs().max() > 1e-4


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (2, 0)])
@pytest.mark.parametrize("joints_only", [True, False])
def test_any_leading_axes_give_what_each_hand_gives_alone(
    batch: tuple[int, ...], joints_only: bool, hand: HandModel
) -> None:
    pose, betas, translation = random_hand(1, *batch)
    found = hand(pose_to_rotations(pose), betas, translation, joints_only=joints_only)
    assert found.joints_m.shape == (*batch, 21, 3)
    assert (found.vertices_m is None) == joints_only
    flat = [value.reshape(-1, value.shape[-1]) for value in (pose, betas, translation)]
    for joints, *one in zip(found.joints_m.reshape(-1, 21, 3), *flat, strict=True):
        alone = hand(pose_to_rotations(one[0]), one[1], one[2], joints_only=joints_only)
        assert_close(joints, alone.joints_m, rtol=0, atol=1e-12)
        if not joints_only:
            assert alone.vertices_m.shape == (778, 3)


def test_without_a_translation_the_root_is_at_j0_of_the_shape(hand: HandModel) -> None:
    pose, betas, translation = random_hand(3, 4)
    joints = hand(pose_to_rotations(pose), betas, joints_only=True).joints_m
    assert_close(joints[:, 0], hand.root_rest_m(betas), rtol=0, atol=1e-12)
    moved = hand(pose_to_rotations(pose), betas, translation, joints_only=True).joints_m
    assert_close(moved, joints + translation[:, None], rtol=0, atol=1e-12)
    assert hand.root_rest_m(betas[0]).shape == (3,)
    assert (hand.root_rest_m(betas) - hand.root_rest_m(0 * betas)).abs().max() > 1e-3


@pytest.mark.parametrize("joints_only", [True, False])
def test_under_autocast_and_with_half_inputs_the_hand_is_computed_in_float32(joints_only: bool) -> None:
    hand = read_hand(None)
    pose, betas, translation = random_hand(5, 2, dtype=torch.bfloat16)
    rotations = pose_to_rotations(pose.float())
    expected = hand(rotations, betas.float(), translation.float(), joints_only=joints_only)
    with torch.autocast("cpu", torch.bfloat16):
        found = hand(pose_to_rotations(pose), betas, translation, joints_only=joints_only)
    assert found.joints_m.dtype == torch.float32
    assert_close(found.joints_m, expected.joints_m, rtol=0, atol=1e-7)


def test_gradients_are_finite_and_true_at_the_flat_hand(hand: HandModel) -> None:
    pose = torch.zeros(1, 48, dtype=torch.float64, requires_grad=True)
    betas = torch.zeros(1, 10, dtype=torch.float64, requires_grad=True)

    def joints(pose: Tensor, betas: Tensor) -> Tensor:
        return hand(pose_to_rotations(pose), betas, joints_only=True).joints_m

    assert torch.autograd.gradcheck(joints, (pose, betas), eps=1e-5, atol=1e-7)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """The model's own checks alone, also in a run that checks annotations (`--jaxtyping-packages`)."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
def test_wrong_inputs_and_options_are_told_by_name(hand: HandModel) -> None:
    rotations, betas = torch.eye(3).double().expand(2, 16, 3, 3), torch.zeros(2, 10).double()
    with pytest.raises(ValueError, match="batches differ"):
        hand(rotations[:1], betas)
    with pytest.raises(ValueError, match=r"translation_m: shape \(3,\), expected \(2, 3\)"):
        hand(rotations, betas, torch.zeros(3).double())
    with pytest.raises(TypeError, match=r"rotations: torch.float64 would be rounded"):
        read_hand(None)(rotations, betas)
    with pytest.raises(ValueError, match=r"tips: .* expected 5 vertex ids from 0 to 777"):
        HandModel(hand.body, tips=(1, 2, 3, 4, 778))
    with pytest.raises(ValueError, match="joint_source: 'posed'"):
        HandModel(hand.body, joint_source="posed")  # type: ignore[arg-type]


def test_the_hand_has_nothing_to_train_and_stays_out_of_checkpoints(hand: HandModel) -> None:
    assert not list(hand.parameters())
    assert not hand.state_dict()


def test_relative_poses_are_offsets_of_the_fingers_from_the_mean(hand: HandModel) -> None:
    pose, _, _ = random_hand(7, 3)
    absolute = to_absolute(pose, hand.hands_mean)
    assert_close(absolute[:, 3:] - pose[:, 3:], hand.hands_mean.expand(3, 45))
    assert_close(absolute[:, :3], pose[:, :3])
    assert_close(to_relative(absolute, hand.hands_mean), pose)
    assert_close(rotations_to_pose(pose_to_rotations(0.5 * pose)), 0.5 * pose)
    flat = to_absolute(torch.zeros(48).double(), hand.hands_mean)
    assert_close(pose_to_rotations(flat)[1:], hand.mean_rotations())


def test_poses_turn_to_matrices_and_back_as_in_the_reference(reference: Reference) -> None:
    arrays = reference("rotations")
    axis_angle, exact = (torch.from_numpy(arrays[key]) for key in ("axis_angle", "matrix_from_aa_exact"))
    poses = torch.cat([axis_angle, axis_angle[:8]]).reshape(2, 48)
    rotations = pose_to_rotations(poses)
    assert_close(rotations.view(32, 3, 3)[:24], exact, rtol=0, atol=1e-12)
    assert_close(rotations.view(32, 3, 3)[:24], torch.from_numpy(arrays["matrix_from_aa_kornia"]), rtol=0, atol=2e-6)
    again = pose_to_rotations(rotations_to_pose(rotations))  # the vectors may differ: angles beyond pi come back short
    assert_close(again, rotations, rtol=0, atol=1e-7)


def test_45_principal_components_are_still_components(hand: HandModel) -> None:
    coefficients = torch.randn(2, 45, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    fingers = pca_to_axis_angle(coefficients, hand.hands_components)
    assert_close(fingers @ hand.hands_components.T, coefficients)
    assert (fingers - coefficients).abs().max() > 0.1
    with pytest.raises(ValueError, match="46 coefficients, but the hand model has 45 components"):
        pca_to_axis_angle(torch.zeros(46), hand.hands_components)


def test_the_hands_size_is_the_length_of_the_middle_finger(hand: HandModel) -> None:
    joints_mm = torch.zeros(2, 21, 3)
    joints_mm[..., 9:13, :] = torch.tensor([[0.0, 0, 0], [30, 0, 0], [30, 40, 0], [30, 40, -5]])
    assert hand_size_mm(joints_mm).tolist() == [75, 75]
    pose, betas, _ = random_hand(8, 4)
    bent = 1000 * hand(pose_to_rotations(pose), betas, joints_only=True).joints_m
    rest = hand.rest_size_mm(betas)
    assert ((hand_size_mm(bent) - rest).abs() < 2).all()  # the tip alone is a vertex: it moves with pose blend shapes
    assert ((rest > 60) & (rest < 130)).all()


def test_a_closed_hand_is_watertight_and_still_outward(hand: HandModel) -> None:
    pose, betas, _ = random_hand(9)
    vertices = hand(pose_to_rotations(0.3 * pose), betas).vertices_m.numpy()
    faces = close_wrist(vertices, hand.faces.numpy())
    assert len(faces) == 1538 + 14
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len({tuple(edge) for edge in edges.tolist()}) == len(edges)
    assert {tuple(edge) for edge in edges.tolist()} == {tuple(edge) for edge in edges[:, ::-1].tolist()}
    a, b, c = vertices[faces].transpose(1, 0, 2)
    assert 1e-4 < (a * np.cross(b, c)).sum() / 6 < 5e-4  # cubic metres
    np.testing.assert_array_equal(close_wrist(vertices, faces), faces)
    with pytest.raises(ValueError, match="further borders"):
        close_wrist(vertices, hand.faces.numpy()[5:].copy()[:-300])
