"""Skinning against the original's values, smplx, and the laws of a body model."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from smplx.lbs import lbs
from torch import Tensor

from posecore.bodymodel import BodyArrays, BodyModel, pca_limbs, read_model

Reference = Callable[[str], dict[str, np.ndarray]]
Build = Callable[..., BodyArrays]
MODELS = Path(__file__).parents[3] / "shared" / "data" / "smil" / "models"
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-7}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE)


def real_model(name: str, dtype: torch.dtype = torch.float64) -> BodyModel:
    if not (MODELS / name).is_file():
        pytest.skip(f"{name} is not in {MODELS}: get it from github.com/FabianPlum/SMILify")
    return read_model(MODELS / name, dtype)


def rotation_matrices(axis_angle: Tensor) -> Tensor:
    """In float64 within: the reference's tolerance is for the body, not for the rotations."""
    x, y, z = axis_angle.double().unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.matrix_exp(skew).to(axis_angle.dtype)


def random_pose(model: BodyModel, seed: int, batch: int = 2) -> dict[str, Tensor]:
    """All inputs, the root's log scale 0."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    j = model.num_joints
    log_scales = 0.2 * draw(j, 3)
    log_scales[:, 0] = 0
    return {
        "rotations": rotation_matrices(draw(j, 3)),
        "betas": draw(model.num_betas),
        "translation": draw(3),
        "log_scales": log_scales,
        "joint_offsets": 0.1 * draw(j, 3),
    }


def tensors(arrays: dict[str, np.ndarray], dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        key: torch.tensor(arrays[key]).to(dtype)
        for key in ("betas", "pose", "log_scales", "betas_trans", "trans")
        if key in arrays
    }


STICK_CASES = {
    "rest": "",
    "shape": "betas",
    "pose": "betas pose",
    "scale_local": "betas pose log_scales",
    "scale_prop": "betas pose log_scales",
    "btrans": "betas pose betas_trans",
    "all_local": "betas pose log_scales betas_trans trans",
    "all_prop": "betas pose log_scales betas_trans trans",
}


@DTYPES
@pytest.mark.parametrize("case", STICK_CASES)
def test_the_stick_insect_moves_as_in_the_original(case: str, dtype: torch.dtype, reference: Reference) -> None:
    arrays, model = reference("smil_regressor/lbs_stick"), real_model("SMILy_STICK.pkl", dtype)
    given_inputs = STICK_CASES[case].split()
    inputs = {key: value if key in given_inputs else 0 * value for key, value in tensors(arrays, dtype).items()}
    if case == "rest":
        inputs = {key: value[:1] for key, value in inputs.items()}
    arguments = (
        rotation_matrices(inputs["pose"]),
        inputs["betas"],
        inputs["trans"],
        inputs["log_scales"] if "log_scales" in given_inputs else None,
        inputs["betas_trans"] if "betas_trans" in given_inputs else None,
        not case.endswith("local"),
    )
    body = model(*arguments)
    stride = 1 if case == "all_prop" else int(arrays["vert_stride"])
    atol = TOLERANCE[dtype]
    # The reference holds vertices in float32: half a unit in the last place of 2 m is 1.2e-7.
    assert_allclose(body.vertices[:, ::stride], arrays[f"{case}_verts"], rtol=0, atol=max(atol, 1.5e-7))
    assert_allclose(body.joints, arrays[f"{case}_joints"], rtol=0, atol=atol)
    assert_allclose(model.keypoints(*arguments), arrays[f"{case}_joints"], rtol=0, atol=atol)
    assert_allclose(body.skeleton - inputs["trans"][:, None], arrays[f"{case}_skeleton"], rtol=0, atol=atol)


@DTYPES
def test_gradients_of_the_stick_insect_are_those_of_the_original(dtype: torch.dtype, reference: Reference) -> None:
    arrays, model = reference("smil_regressor/lbs_stick"), real_model("SMILy_STICK.pkl", dtype)
    inputs = {key: value.requires_grad_() for key, value in tensors(arrays, dtype).items()}
    body = model(
        rotation_matrices(inputs["pose"]), inputs["betas"], inputs["trans"], inputs["log_scales"], inputs["betas_trans"]
    )
    axis = torch.arange(3, dtype=dtype)
    on_vertices = torch.sin(0.37 * torch.arange(model.num_vertices, dtype=dtype)[:, None] + axis)
    on_joints = torch.cos(0.53 * torch.arange(model.num_joints, dtype=dtype)[:, None] + axis)
    loss = (body.vertices * on_vertices).sum() + (body.joints * on_joints).sum()
    loss.backward()
    rtol = 2e-4 if dtype == torch.float32 else 1e-6
    for key, value in inputs.items():
        expected = arrays[f"grad_{key}"]
        assert_allclose(value.grad, expected, rtol=0, atol=rtol * np.abs(expected).max(), err_msg=key)


def test_static_joints_follow_the_chain_and_the_translation(reference: Reference) -> None:
    arrays = reference("smil_regressor/lbs_mouse_static")
    model = real_model("SMILy_Mouse_static_joints_REPOSE_LONG.pkl")
    inputs = tensors(arrays, torch.float64)
    rotations, stride, none = rotation_matrices(inputs["pose"]), int(arrays["vert_stride"]), 0 * inputs["trans"]
    body = model(rotations, inputs["betas"], none, inputs["log_scales"])
    assert_allclose(body.vertices[:, ::stride], arrays["verts"], rtol=0, atol=2e-6)
    assert_allclose(body.joints, arrays["joints"], rtol=0, atol=2e-6)
    body = model(rotations, inputs["betas"], inputs["trans"])
    assert_allclose(body.vertices[:, ::stride], arrays["trans_case_verts"], rtol=0, atol=2e-6)
    # The original forgets to move the joints with the mesh.
    assert_allclose(body.joints - inputs["trans"][:, None], arrays["trans_case_joints"], rtol=0, atol=2e-6)
    assert_allclose(model.keypoints(rotations, inputs["betas"], inputs["trans"]), body.joints, rtol=0, atol=1e-12)


@DTYPES
@pytest.mark.parametrize("case", ["pose", "local", "prop"])
def test_pose_blend_shapes_are_those_of_the_original(
    case: str, dtype: torch.dtype, reference: Reference, tmp_path: Path
) -> None:
    arrays = reference("smil_regressor/lbs_synthetic_posedirs")
    file = tmp_path / "model.npz"
    np.savez(file, **{key.removeprefix("model/"): value for key, value in arrays.items() if key.startswith("model/")})
    model, inputs = read_model(file, dtype), tensors(arrays, dtype)
    limbs = (None, None) if case == "pose" else (inputs["log_scales"], inputs["betas_trans"])
    arguments = (
        rotation_matrices(inputs["pose"]),
        inputs["betas"],
        torch.zeros(3, 3, dtype=dtype),
        *limbs,
        case != "local",
    )
    body = model(*arguments)
    for name, value in (("verts", body.vertices), ("joints", body.joints), ("skeleton", body.skeleton)):
        assert_allclose(value, arrays[f"{case}_{name}"], rtol=0, atol=TOLERANCE[dtype], err_msg=name)
    assert_allclose(model.keypoints(*arguments), arrays[f"{case}_joints"], rtol=0, atol=TOLERANCE[dtype])


def test_limbs_from_principal_components_are_those_of_the_original(reference: Reference) -> None:
    arrays, model = reference("smil_regressor/pca_scale_trans"), real_model("SMILy_STICK.pkl", torch.float32)
    scale, trans = (torch.tensor(arrays[f"{name}_weights"]) for name in ("scale", "trans"))
    for prefix, weights in (("", (scale, trans)), ("entangled_", (scale, scale))):
        log_scales, offsets = pca_limbs(model, *weights)
        assert_allclose(log_scales, arrays[f"{prefix}log_scales"], rtol=0, atol=2e-6)
        assert_allclose(offsets, arrays[f"{prefix}betas_trans"], rtol=0, atol=2e-6)


def test_limbs_need_directions_in_the_file(random_body: Build) -> None:
    arrays = random_body()
    object.__setattr__(arrays, "transdirs", None)
    with pytest.raises(ValueError, match="transdirs: not in the model's file"):
        pca_limbs(BodyModel(arrays), torch.zeros(1, 3), torch.zeros(1, 3))


def test_a_hand_moves_as_in_the_mano_reference(reference: Reference, tmp_path: Path) -> None:
    stored, expected = reference("handvit/mano_model"), reference("handvit/mano_forward")
    np.savez(tmp_path / "hand.npz", **stored)
    model = read_model(tmp_path / "hand.npz", torch.float64)
    pose = np.concatenate([expected["global_orient"], expected["hand_pose"]], axis=1).reshape(-1, 16, 3)
    rotations = rotation_matrices(torch.tensor(pose).double())
    body = model(rotations, torch.tensor(expected["betas"]), torch.tensor(expected["transl"]))
    assert_allclose(body.vertices, expected["verts_flat"], rtol=0, atol=1e-8)
    assert_allclose(body.skeleton, expected["joints16_flat"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("posedirs", [True, False])
def test_vertices_chain_and_gradients_equal_those_of_smplx(posedirs: bool, random_body: Build) -> None:
    arrays = random_body(v=300, j=16, c=10, posedirs=posedirs)
    model, pose = BodyModel(arrays, torch.float64), {}
    pose = {key: value.requires_grad_() for key, value in random_pose(model, 0, batch=4).items()}
    del pose["log_scales"], pose["joint_offsets"]
    directions = np.zeros((300, 3, 135)) if arrays.posedirs is None else arrays.posedirs
    template, shapedirs, regressor, weights = map(
        torch.tensor, (arrays.template, arrays.shapedirs, arrays.joint_regressor, arrays.weights)
    )
    vertices, skeleton = lbs(
        pose["betas"],
        pose["rotations"],
        template[None],
        shapedirs,
        torch.tensor(directions.reshape(900, 135).T),
        regressor,
        torch.tensor(arrays.parents),
        weights,
        pose2rot=False,
    )
    theirs = (vertices + pose["translation"][:, None], skeleton + pose["translation"][:, None])
    ours = model(**pose)
    assert_allclose(ours.vertices.detach(), theirs[0].detach(), rtol=0, atol=1e-12)
    assert_allclose(ours.skeleton.detach(), theirs[1].detach(), rtol=0, atol=1e-12)
    weights = torch.randn_like(vertices)
    gradients = [
        torch.autograd.grad((mesh * weights).sum(), tuple(pose.values())) for mesh in (ours.vertices, theirs[0])
    ]
    for mine, other in zip(*gradients, strict=True):
        assert_allclose(mine, other, rtol=1e-9, atol=1e-10)


# The first case takes 2 s: torch imports its checkers.
@pytest.mark.parametrize("propagate", [True, False])
@pytest.mark.parametrize("posedirs", [True, False])
def test_gradients_are_those_of_finite_differences(propagate: bool, posedirs: bool, random_body: Build) -> None:
    model = BodyModel(random_body(v=9, j=4, c=2, posedirs=posedirs), torch.float64)
    inputs = tuple(value.requires_grad_() for value in random_pose(model, 1, batch=1).values())
    assert torch.autograd.gradcheck(lambda *args: tuple(model(*args, propagate)), inputs)
    assert torch.autograd.gradcheck(lambda *args: model.keypoints(*args, propagate), inputs)


@given(st.integers(0, 1000), st.booleans(), st.booleans(), st.booleans())
def test_keypoints_are_the_joints_regressed_from_the_posed_mesh(
    random_body: Build, seed: int, posedirs: bool, static: bool, propagate: bool
) -> None:
    arrays = random_body(posedirs=posedirs, static=static)
    model = BodyModel(arrays, torch.float64)
    pose = random_pose(model, seed)
    body = model(**pose, propagate_scales=propagate)
    expected = body.skeleton if static else torch.tensor(arrays.joint_regressor) @ body.vertices
    assert_allclose(body.joints, expected, rtol=0, atol=1e-12)
    assert_allclose(model.keypoints(**pose, propagate_scales=propagate), expected, rtol=0, atol=1e-12)


@given(st.integers(0, 1000), st.booleans())
def test_turning_the_root_turns_the_body_about_the_root_joint(random_body: Build, seed: int, propagate: bool) -> None:
    model = BodyModel(random_body(posedirs=True), torch.float64)
    pose = random_pose(model, seed)
    turn = random_pose(model, seed + 1)["rotations"][:, 0]
    turned = pose | {"rotations": torch.cat([turn[:, None] @ pose["rotations"][:, :1], pose["rotations"][:, 1:]], 1)}
    before, after = model(**pose, propagate_scales=propagate), model(**turned, propagate_scales=propagate)
    root = before.skeleton[:, :1]
    for points, moved in zip(before, after, strict=True):
        assert_allclose(moved, (points - root) @ turn.mT + root, rtol=0, atol=1e-12)


@given(st.integers(0, 1000), st.booleans())
def test_translation_moves_everything_alike(random_body: Build, seed: int, static: bool) -> None:
    model = BodyModel(random_body(static=static), torch.float64)
    pose = random_pose(model, seed)
    at_origin = model(**pose | {"translation": torch.zeros(2, 3, dtype=torch.float64)})
    for points, moved in zip(at_origin, model(**pose), strict=True):
        assert_allclose(moved, points + pose["translation"][:, None], rtol=0, atol=1e-12)


@given(st.integers(0, 1000))
def test_the_zero_pose_is_the_shaped_template(random_body: Build, seed: int) -> None:
    model = BodyModel(random_body(posedirs=True), torch.float64)
    pose = random_pose(model, seed)
    rest = torch.eye(3, dtype=torch.float64).expand(2, model.num_joints, 3, 3)
    body = model(rest, pose["betas"], pose["translation"])
    shaped = model.template + torch.einsum("vxc,bc->bvx", model.shapedirs, pose["betas"]) + pose["translation"][:, None]
    assert_allclose(body.vertices, shaped, rtol=0, atol=1e-12)
    assert_allclose(body.skeleton, model.joint_regressor @ shaped, rtol=0, atol=1e-12)


def test_a_limbs_scale_is_inherited_only_when_scales_propagate(random_body: Build) -> None:
    arrays = random_body(v=30, j=3, c=1)
    object.__setattr__(arrays, "parents", np.array([-1, 0, 1]))
    object.__setattr__(arrays, "weights", np.repeat(np.eye(3), 10, axis=0))
    model = BodyModel(arrays, torch.float64)
    rest = torch.eye(3, dtype=torch.float64).expand(1, 3, 3, 3)
    none = torch.zeros(1, 3, dtype=torch.float64)
    doubled = torch.zeros(1, 3, 3, dtype=torch.float64)
    doubled[:, 1] = np.log(2)
    plain = model(rest, none[:, :1], none)
    for propagate, tip_scale in ((True, 2), (False, 1)):
        body = model(rest, none[:, :1], none, doubled, propagate_scales=propagate)
        for part, joint, scale in ((slice(0, 10), 0, 1), (slice(10, 20), 1, 2), (slice(20, 30), 2, tip_scale)):
            before = plain.vertices[:, part] - plain.skeleton[:, joint : joint + 1]
            after = body.vertices[:, part] - body.skeleton[:, joint : joint + 1]
            assert_allclose(after, scale * before, rtol=0, atol=1e-12)
        bones = [each.skeleton[:, 2] - each.skeleton[:, 1] for each in (plain, body)]
        assert_allclose(bones[1], 2 * bones[0], rtol=0, atol=1e-12)


def test_offsets_have_their_y_turned_round_and_skip_the_root(random_body: Build) -> None:
    model = BodyModel(random_body(), torch.float64)
    rest = torch.eye(3, dtype=torch.float64).expand(1, 7, 3, 3)
    none = torch.zeros(1, 3, dtype=torch.float64)
    offsets = torch.zeros(1, 7, 3, dtype=torch.float64)
    offsets[:, [0, 6]] = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    moved = model(rest, none, none, None, offsets).skeleton - model(rest, none, none).skeleton
    expected = torch.zeros(7, 3, dtype=torch.float64)
    expected[6] = torch.tensor([1.0, -2.0, 3.0])
    assert 6 not in model.parents
    assert_allclose(moved[0], expected, rtol=0, atol=1e-12)


def test_autocast_does_not_reach_the_body(random_body: Build) -> None:
    model = BodyModel(random_body(posedirs=True))
    pose = {key: value.float() for key, value in random_pose(model, 3).items()}
    plain = model(**pose)
    with torch.autocast("cpu", torch.bfloat16):
        cast = model(**pose)
    for exact, value in zip(plain, cast, strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(exact, value)
    assert model.keypoints(**pose | {"betas": pose["betas"].bfloat16()}).dtype == torch.float32


def test_a_wrong_shape_or_a_wider_type_is_told_by_name(random_body: Build) -> None:
    model = BodyModel(random_body())
    pose = {key: value.float() for key, value in random_pose(model, 0).items()}
    with pytest.raises(ValueError, match=r"betas: shape \(2, 5\), expected \(2, 3\)"):
        model(**pose | {"betas": torch.zeros(2, 5)})
    with pytest.raises(ValueError, match=r"rotations: shape \(2, 6, 3, 3\), expected \(2, 7, 3, 3\)"):
        model.keypoints(torch.zeros(2, 6, 3, 3), pose["betas"], pose["translation"])
    with pytest.raises(TypeError, match=r"translation: torch.float64 would be rounded to the model's torch.float32"):
        model(**pose | {"translation": torch.zeros(2, 3).double()})


def test_a_body_stays_out_of_checkpoints_and_has_nothing_to_train(random_body: Build) -> None:
    model = BodyModel(random_body(posedirs=True))
    assert not model.state_dict()
    assert not list(model.parameters())


def test_an_empty_batch_gives_an_empty_body(random_body: Build) -> None:
    model = BodyModel(random_body())
    body = model(torch.zeros(0, 7, 3, 3), torch.zeros(0, 3), torch.zeros(0, 3))
    assert body.vertices.shape == (0, 40, 3)
    assert body.joints.shape == (0, 7, 3)


def test_one_joint_is_a_body_too(random_body: Build) -> None:
    model = BodyModel(random_body(j=1), torch.float64)
    pose = random_pose(model, 0)
    body = model(**pose)
    root = body.skeleton[:, :1]
    shaped = model.template + torch.einsum("vxc,bc->bvx", model.shapedirs, pose["betas"]) + pose["translation"][:, None]
    assert_allclose(body.vertices, (shaped - root) @ pose["rotations"][:, 0].mT + root, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_a_compiled_body_is_the_same_without_graph_breaks(random_body: Build) -> None:
    model = BodyModel(random_body(posedirs=True), torch.float64)
    pose = {key: value.requires_grad_() for key, value in random_pose(model, 0).items()}
    bodies = [torch.compile(model, backend="aot_eager", fullgraph=True)(**pose), model(**pose)]
    for ours, expected in zip(*bodies, strict=True):
        assert_allclose(ours.detach(), expected.detach(), rtol=0, atol=1e-12)
    losses = [sum(points.square().sum() for points in body) for body in bodies]
    gradients = [torch.autograd.grad(loss, tuple(pose.values())) for loss in losses]
    for ours, expected in zip(*gradients, strict=True):
        assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)
