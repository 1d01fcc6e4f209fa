"""Every term and gradient of the published multi-view loss, on its own numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from posecore.bodymodel import read_model
from posecore.cameras import fov_to_intrinsics, intrinsics_to_fov, pytorch3d_to_opencv
from posecore.rotations import axis_angle_to_matrix, rotation_6d_to_matrix
from smil_regressor.data.sample import Batch
from smil_regressor.losses import LossSettings, loss_terms, total_loss
from smil_regressor.model.body import Body
from smil_regressor.model.prediction import Prediction
from smil_regressor.model.state import BodyParameters

SIZE = 224
PARAMETERS = ("global_rot", "joint_rot", "betas", "trans", "log_beta_scales", "betas_trans", "mesh_scale")
CAMERAS = ("fov", "cam_rot", "cam_trans")


@pytest.fixture
def published(reference):
    return {k: torch.from_numpy(np.asarray(v)) for k, v in reference("multiview_losses").items() if k != "weight_names"}


@pytest.fixture
def weights(reference):
    arrays = reference("multiview_losses")
    return dict(zip(arrays["weight_names"].tolist(), arrays["weight_values"].tolist(), strict=True))


def batch_of(published):
    b, v, j = published["visibility"].shape
    cam_from_world = torch.eye(4).repeat(b, v, 1, 1)
    cam_from_world[..., :3, :3], cam_from_world[..., :3, 3] = published["gt_R_cv"], published["gt_t_cv"]
    K = published["gt_K"].clone()
    K[..., :2, 2] -= 0.5  # our pixel centres are integers
    rotations = axis_angle_to_matrix(published["gt_joint_angles_aa"])
    rotations[:, 0] = axis_angle_to_matrix(published["gt_root_rot_aa"])
    keypoints = published["gt_keypoints_3d"]
    yes, no = torch.ones(b, dtype=torch.bool), torch.zeros(b, dtype=torch.bool)
    return Batch(
        key=("a", "b"),
        session=("s", "s"),
        frame=torch.arange(b),
        images=torch.zeros(b, v, SIZE, SIZE, 3, dtype=torch.uint8),
        view_mask=published["view_mask"],
        camera_slots=torch.arange(v).expand(b, v),
        K=K,
        cam_from_world=cam_from_world,
        has_camera=torch.ones(b, v, dtype=torch.bool),
        native_size_wh=torch.full((b, v, 2), float(SIZE)),
        keypoints_px=published["gt_keypoints_yx01"].flip(-1) * SIZE - 0.5,
        visibility=published["visibility"],
        masks=torch.zeros(b, v, SIZE, SIZE, dtype=torch.bool),
        has_mask=torch.zeros(b, v, dtype=torch.bool),
        keypoints_world=keypoints,
        has_keypoints_world=keypoints.isfinite().all(-1) & (keypoints != 0).any(-1),
        rotations=rotations,
        has_root_rotation=yes,
        has_joint_rotations=yes,
        betas=published["gt_betas"],
        has_betas=published["gt_betas_available"],
        translation=published["gt_trans"],
        has_translation=yes,
        log_scales=torch.zeros(b, j, 3),
        has_log_scales=no,
        joint_offsets=torch.zeros(b, j, 3),
        has_joint_offsets=no,
    )


def prediction_of(published, inputs):
    params = torch.cat([inputs["global_rot"][:, None], inputs["joint_rot"]], dim=1)
    body = BodyParameters(
        rotations=rotation_6d_to_matrix(params, "rows"),
        rotation_params=params,
        betas=inputs["betas"],
        translation=inputs["trans"],
        log_scales=inputs["log_beta_scales"],
        joint_offsets=inputs["betas_trans"],
        mesh_scale=inputs["mesh_scale"][:, 0],
    )
    fov = inputs["fov"][..., 0]
    return Prediction(
        **vars(body),
        fov_deg=fov,
        cam_from_world=pytorch3d_to_opencv(inputs["cam_rot"], inputs["cam_trans"]),
        K=fov_to_intrinsics(fov, (SIZE, SIZE), published["gt_aspect"][..., 0]),
        view_mask=published["view_mask"],
        camera_slots=torch.arange(4).expand(2, 4),
        history=(body,),
        nonfinite=torch.zeros((), dtype=torch.long),
    )


class GivenJoints(Body):
    """Stands in for the licensed model: the joints that it gave."""

    def __init__(self, joints):
        torch.nn.Module.__init__(self)
        self.given = joints

    def joints(self, body):
        return self.given


def inputs_of(published):
    return {name: published[f"pred_{name}"].clone().requires_grad_() for name in (*PARAMETERS, *CAMERAS)}


def check(published, prediction, batch, body, inputs, weights, gradients):
    names = [name for name, weight in weights.items() if weight]
    settings = LossSettings(joint_weights=published["joint_weights"])
    terms = loss_terms(prediction, batch, body, names, settings)
    # The published loss counts the cameras of masked views, whose predictions mean nothing here.
    unmasked = replace(batch, view_mask=torch.ones_like(batch.view_mask))
    values = total_loss(terms | loss_terms(prediction, unmasked, body, CAMERAS, settings), weights)
    for name in names:
        expected = published[f"comp_{name}"].item()  # the published keypoint losses add 1e-8
        assert values[name].item() == pytest.approx(expected, rel=1e-5, abs=1.1e-8), name
    assert values["total"].item() == pytest.approx(published["total"].item(), rel=1e-5)
    values["total"].backward()
    for name in gradients:
        expected = published[f"grad_{name}"]
        torch.testing.assert_close(
            inputs[name].grad,
            expected,
            rtol=1e-3,
            atol=1e-4 * expected.abs().max().item(),
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_terms_and_camera_gradients(published, weights):
    batch, inputs = batch_of(published), inputs_of(published)
    assert torch.allclose(intrinsics_to_fov(batch.K, (SIZE, SIZE))[0], published["gt_fov"][..., 0])
    body = GivenJoints(published["pred_joints_world"])
    check(published, prediction_of(published, inputs), batch, body, inputs, weights, CAMERAS)


def test_gradients_of_all_parameters_through_the_published_model(published, weights, real_data):
    body = Body(read_model(real_data / "models" / "SMILy_STICK.pkl"), placement="mesh_scale")
    batch, inputs = batch_of(published), inputs_of(published)
    prediction = prediction_of(published, inputs)
    torch.testing.assert_close(body.joints(prediction), published["pred_joints_world"], rtol=0, atol=2e-6)
    check(published, prediction, batch, body, inputs, weights, (*PARAMETERS, *CAMERAS))
    plain = Body(body.model).joints(replace(prediction, translation=torch.zeros(2, 3)))
    torch.testing.assert_close(body.vertices(prediction).mean(1).isfinite(), torch.ones(2, 3, dtype=torch.bool))
    assert plain.shape == published["pred_joints_world"].shape
