"""Joints and single vertices without the mesh, and models that say that they are made up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from posecore.bodymodel import BodyArrays, BodyModel, read_arrays, read_content, read_model, write_model
from posecore.errors import InputError
from posecore.rotations import axis_angle_to_matrix

Build = Callable[..., BodyArrays]


def random_pose(model: BodyModel, seed: int, batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    return axis_angle_to_matrix(draw(model.num_joints, 3)), draw(model.num_betas), draw(3)


@given(st.integers(0, 1000), st.booleans(), st.booleans(), st.lists(st.integers(0, 39), max_size=6))
def test_landmarks_are_joints_and_vertices_of_the_posed_body(
    random_body: Build, seed: int, posedirs: bool, regressed: bool, ids: list[int]
) -> None:
    model = BodyModel(random_body(posedirs=posedirs), torch.float64)
    pose = random_pose(model, seed)
    body = model(*pose)
    found = model.landmarks(*pose, model.patch_of(torch.tensor(ids, dtype=torch.long)), regressed=regressed)
    assert_close(found.joints, body.joints if regressed else body.skeleton, rtol=0, atol=1e-12)
    assert_close(found.vertices, body.vertices[:, ids], rtol=0, atol=1e-12)


@pytest.mark.parametrize("regressed", [True, False])
def test_gradients_of_landmarks_are_those_through_the_mesh(regressed: bool, random_body: Build) -> None:
    model = BodyModel(random_body(posedirs=True), torch.float64)
    ids = torch.tensor([3, 30, 7])
    patch = model.patch_of(ids)

    def gradients(landmarks: Callable[..., tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        inputs = [value.requires_grad_() for value in random_pose(model, 5)]
        joints, vertices = landmarks(*inputs)
        return torch.autograd.grad(joints.sin().sum() + vertices.cos().sum(), inputs)

    def through_the_mesh(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        body = model(*inputs)
        return (body.joints if regressed else body.skeleton), body.vertices[:, ids]

    ours = gradients(lambda *inputs: model.landmarks(*inputs, patch, regressed=regressed))
    for mine, other in zip(ours, gradients(through_the_mesh), strict=True):
        assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_a_patch_has_nothing_to_save_and_moves_with_the_module_that_holds_it(random_body: Build) -> None:
    patch = BodyModel(random_body(posedirs=True)).patch_of(torch.tensor([1, 2]))
    assert not patch.state_dict()
    assert not list(patch.parameters())
    assert {buffer.dtype for buffer in patch.double().buffers()} == {torch.float64}


def test_the_rest_skeleton_is_the_skeleton_of_the_zero_pose_also_under_autocast(random_body: Build) -> None:
    model = BodyModel(random_body(posedirs=True), torch.float64)
    _, betas, _ = random_pose(model, 3)
    flat = torch.eye(3, dtype=torch.float64).expand(2, model.num_joints, 3, 3)
    expected = model(flat, betas, torch.zeros(2, 3, dtype=torch.float64)).skeleton
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(model.rest_skeleton(betas), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
@pytest.mark.parametrize("label", ["made up", None])
def test_a_label_is_kept_in_files(label: str | None, suffix: str, random_body: Build, tmp_path: Path) -> None:
    arrays, path = random_body(), tmp_path / f"model{suffix}"
    object.__setattr__(arrays, "label", label)
    write_model(BodyModel(arrays), path)
    assert read_model(path).label == label
    assert read_arrays(path).label == label


@pytest.mark.parametrize("suffix", [".pkl", ".npz"])
def test_the_content_of_a_file_has_keys_that_no_model_needs(suffix: str, random_body: Build, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    write_model(BodyModel(random_body()), path)
    content = read_content(path)
    assert str(content["bs_type"]) == "lrotmin"
    assert np.asarray(content["v_template"]).dtype == np.float64
    with pytest.raises(InputError, match=r"none\.npz: no such file"):
        read_content(tmp_path / "none.npz")
