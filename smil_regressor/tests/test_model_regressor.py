from dataclasses import fields, replace

import pytest
import torch

from posecore.cameras import opencv_to_pytorch3d
from smil_regressor.losses import LossSettings, loss_terms, total_loss
from smil_regressor.model.backbone import create_backbone
from smil_regressor.model.body import Body, project_joints
from smil_regressor.model.build import BodySpec, HeadSpec, build_multi_view, build_single_view
from smil_regressor.model.camera_head import FovCameras
from smil_regressor.model.prediction import Views

HEAD = HeadSpec(hidden_dim=64, depth=1, num_heads=4, dim_head=16, mlp_dim=64, iterations=2)


def multi_view(insect, body=None, head=HEAD, **options):
    torch.manual_seed(0)
    body = body or BodySpec(insect.num_joints, insect.num_betas, limb_mode="separate")
    return build_multi_view(create_backbone("tiny_vit", 64), body, head, num_slots=3, **options)


def loosen(model):
    """Heads start with tiny weights; here they must show what they depend on."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and ("_head" in name or "layers.8" in name):
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


BODY_VALUES = ("rotations", "betas", "translation", "log_scales", "joint_offsets")
CAMERA_VALUES = ("fov_deg", "cam_from_world", "K")


@pytest.mark.parametrize("options", [{}, {"decoder_context": "patches"}, {"camera_delta": False}])
def test_permuting_the_views_permutes_the_cameras_and_leaves_the_body(truth, insect, options):
    batch, _ = truth(b=2, v=3, size=64)
    model = loosen(multi_view(insect, **options))
    order = torch.tensor([2, 0, 1])
    names = ("images", "view_mask", "camera_slots", "K", "cam_from_world", "has_camera", "native_size_wh")
    plain, moved = model(batch), model(replace(batch, **{name: getattr(batch, name)[:, order] for name in names}))
    for name in BODY_VALUES:
        torch.testing.assert_close(getattr(moved, name), getattr(plain, name), rtol=0, atol=1e-5)
    seen = batch.view_mask[:, order]
    for name in CAMERA_VALUES:
        a, b = getattr(moved, name)[seen], getattr(plain, name)[:, order][seen]
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", [HEAD, HeadSpec(kind="mlp", hidden_dim=32)])
@pytest.mark.parametrize("context", ["fused", "patches"])
def test_what_a_masked_view_shows_changes_nothing(truth, insect, head, context):
    batch, _ = truth(b=2, v=3, size=64)
    model = loosen(multi_view(insect, head=head, decoder_context=context))
    images = torch.where(batch.view_mask[..., None, None, None], batch.images, 255)
    plain, other = model(batch), model(replace(batch, images=images))
    for name in (*BODY_VALUES, *CAMERA_VALUES):
        a, b = getattr(plain, name), getattr(other, name)
        if name in CAMERA_VALUES:
            a, b = a[batch.view_mask], b[batch.view_mask]
        torch.testing.assert_close(a, b)
    changed = model(replace(batch, images=batch.images.flip(2)))
    assert (changed.betas - plain.betas).abs().max() > 1e-6


@pytest.mark.parametrize("context", ["fused", "patches"])
def test_padding_with_masked_views_changes_nothing(truth, insect, context):
    batch, _ = truth(b=2, v=3, size=64)
    model = loosen(multi_view(insect, decoder_context=context))
    names = ("images", "view_mask", "camera_slots", "K", "cam_from_world", "has_camera", "native_size_wh")
    for views in (1, 2):
        mask = batch.view_mask & (torch.arange(3) < views)
        padded = model(replace(batch, view_mask=mask, camera_slots=torch.where(mask, batch.camera_slots, -1)))
        cut = model(replace(batch, **{name: getattr(batch, name)[:, :views] for name in names}))
        for name in (*BODY_VALUES, *CAMERA_VALUES):
            value = getattr(padded, name)[:, :views] if name in CAMERA_VALUES else getattr(padded, name)
            torch.testing.assert_close(value, getattr(cut, name), rtol=1e-5, atol=1e-5)


def test_a_sample_without_a_valid_view_is_finite(truth, insect):
    batch, _ = truth(b=2, v=3, size=64)
    none = torch.zeros_like(batch.view_mask)
    prediction = multi_view(insect)(replace(batch, view_mask=none, camera_slots=torch.full((2, 3), -1)))
    assert all(getattr(prediction, name).isfinite().all() for name in (*BODY_VALUES, *CAMERA_VALUES))
    assert prediction.nonfinite == 0


def test_known_cameras_are_refined_and_keep_their_principal_point_and_aspect(truth, insect):
    batch, _ = truth(b=2, v=3, size=64)
    prediction = multi_view(insect).eval()(batch)
    seen = batch.view_mask
    torch.testing.assert_close(prediction.K[seen][:, :2, 2], batch.K[seen][:, :2, 2])
    aspect = prediction.K[seen][:, 0, 0] / prediction.K[seen][:, 1, 1]
    torch.testing.assert_close(aspect, batch.K[seen][:, 0, 0] / batch.K[seen][:, 1, 1])
    assert (prediction.cam_from_world - batch.cam_from_world)[seen].abs().max() < 0.5


def test_without_calibration_the_axis_is_central_and_native_pixels_are_square(insect):
    images = torch.randint(0, 256, (1, 2, 64, 64, 3), dtype=torch.uint8)
    views = replace(Views.uncalibrated(images), native_size_wh=torch.tensor([[[200.0, 100.0], [64.0, 64.0]]]))
    K = multi_view(insect).eval()(views).K[0]
    assert (K[:, :2, 2] == 31.5).all()
    torch.testing.assert_close(K[:, 1, 1] / K[:, 0, 0], torch.tensor([2.0, 1.0]))


def test_single_view_models_predict_or_keep_the_camera(truth, insect):
    batch, _ = truth(b=2, v=1, size=64)
    body = BodySpec(insect.num_joints, insect.num_betas, rotation="axis_angle", fov_deg=30.0, camera_distance=6.0)
    model = build_single_view(create_backbone("tiny_vit", 64), body, HEAD)
    prediction = model.eval()(batch)
    assert (prediction.fov_deg - 30).abs().max() < 1
    assert (prediction.cam_from_world[..., 2, 3] - 6).abs().max() < 1
    known = build_single_view(create_backbone("tiny_vit", 64), body, HEAD, camera="known").eval()(batch)
    assert torch.equal(known.cam_from_world, batch.cam_from_world)
    assert torch.equal(known.K, batch.K)
    with pytest.raises(ValueError, match="one view a sample, got 3"):
        model(truth(b=1, v=3, size=64)[0])


@pytest.mark.parametrize("mode", ["ignore", "separate", "entangled_with_betas"])
@pytest.mark.parametrize("by_components", [False, True])
def test_limb_modes_give_what_the_body_model_takes(truth, insect, mode, by_components):
    body = BodySpec(insect.num_joints, insect.num_betas, limb_mode=mode, pca_model=insect if by_components else None)
    if mode == "entangled_with_betas" and not by_components:
        with pytest.raises(ValueError, match="needs the body model"):
            multi_view(insect, body)
        return
    prediction = multi_view(insect, body)(truth(b=2, v=3, size=64)[0])
    assert (prediction.log_scales is None) == (mode == "ignore")
    if mode != "ignore":
        assert prediction.log_scales.shape == prediction.joint_offsets.shape == (2, insect.num_joints, 3)
    assert Body(insect).joints(prediction).isfinite().all()


def test_outputs_carry_the_published_names_and_convention(truth, insect):
    batch, _ = truth(b=2, v=3, size=64)
    body = BodySpec(insect.num_joints, insect.num_betas, limb_mode="separate", mesh_scale="log")
    prediction = multi_view(insect, body)(batch)
    out = prediction.to_dict()
    j = insect.num_joints
    shapes = {name: tuple(value.shape) for name, value in out.items() if isinstance(value, torch.Tensor)}
    assert shapes == {
        "global_rot": (2, 6),
        "joint_rot": (2, j - 1, 6),
        "betas": (2, insect.num_betas),
        "trans": (2, 3),
        "fov": (2, 1),
        "cam_rot": (2, 3, 3),
        "cam_trans": (2, 3),
        "log_beta_scales": (2, j, 3),
        "betas_trans": (2, j, 3),
        "mesh_scale": (2, 1),
        "view_mask": (2, 3),
        "camera_indices": (2, 3),
    }
    assert out["num_views"] == len(out["fov_per_view"]) == len(out["cam_trans_per_view"]) == 3
    assert len(out["iteration_history"]) == 2
    R, _ = opencv_to_pytorch3d(prediction.cam_from_world)
    assert torch.equal(out["cam_rot_per_view"][1], R[:, 1])


@pytest.mark.parametrize("placement", ["plain", "unreal", "mesh_scale"])
def test_joints_are_placed_as_the_vertices_they_are_regressed_from(truth, insect, placement):
    _, prediction = truth()
    prediction = replace(prediction, mesh_scale=torch.tensor([0.5, 2.0]))
    body = Body(insect, placement)
    regressed = torch.einsum("jv,bvk->bjk", insect.joint_regressor, body.vertices(prediction))
    torch.testing.assert_close(regressed, body.joints(prediction), rtol=1e-4, atol=1e-4)
    if placement != "plain":
        torch.testing.assert_close(body.joints(prediction)[:, 0], prediction.translation)
    pixels, in_front = project_joints(Body(insect).joints(prediction), prediction)
    assert pixels.shape == (2, 3, insect.num_joints, 2)
    assert in_front.all()


NAMES = ("keypoint_2d", "keypoint_3d", "joint_rot", "global_rot", "betas", "trans", "cam_rot", "fov", "cam_trans")


def loss_of(model, batch, insect, names=NAMES):
    terms = loss_terms(model(batch), batch, Body(insect), names, LossSettings())
    return total_loss(terms, dict.fromkeys(names, 1.0))["total"]


@pytest.mark.parametrize("options", [{}, {"decoder_context": "patches"}, {"head": HeadSpec(kind="mlp", hidden_dim=64)}])
def test_every_parameter_gets_a_gradient_and_a_frozen_trunk_does_not_move(truth, insect, options):
    batch, _ = truth(b=2, v=3, size=64)
    everything = replace(batch, view_mask=torch.ones(2, 3, dtype=torch.bool), camera_slots=torch.arange(3).expand(2, 3))
    model = loosen(multi_view(insect, **options)).train()
    loss_of(model, everything, insect).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # Attention does not change when all keys shift by the same amount.
    assert all(name.endswith("k_proj.bias") for name in missing), missing
    model.zero_grad()
    model.backbone.freeze()
    loss_of(model, everything, insect).backward()
    assert all(p.grad is None for p in model.backbone.trunk.parameters())
    assert model.view_embeddings.weight.grad is not None


def test_one_batch_is_learned_by_heart(truth, insect):
    """Two samples, three views: 2D and 3D errors fall by a factor of ten in a few seconds."""
    batch, _ = truth(b=2, v=3, size=64)
    model = multi_view(insect, BodySpec(insect.num_joints, insect.num_betas), fusion_dropout=0.0)
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    before = loss_of(model.eval(), batch, insect, NAMES[:2]).item()
    model.train()
    for _ in range(40):
        optimiser.zero_grad()
        loss_of(model, batch, insect, NAMES[:2]).backward()
        optimiser.step()
    assert loss_of(model.eval(), batch, insect, NAMES[:2]).item() < before / 10


def test_heads_started_from_a_rig_see_the_animal(truth, insect):
    batch, _ = truth(b=1, v=2, size=64)
    model = multi_view(insect, camera_delta=False).eval()
    R, T = opencv_to_pytorch3d(batch.cam_from_world[0])
    R, T = (torch.cat([x, x[:1]]) for x in (R, T))
    model.camera_heads.start_from(FovCameras(torch.full((3,), 33.0), R, T))
    cameras = model(batch).cam_from_world[0]
    assert (cameras - batch.cam_from_world[0]).abs().max() < 1


def test_a_batch_may_stay_float_and_integer_images_mean_the_same(truth, insect):
    batch, _ = truth(b=1, v=2, size=64)
    model = multi_view(insect).eval()
    a, b = model(batch), model(replace(batch, images=batch.images.float() / 255))
    assert all(
        torch.allclose(getattr(a, f.name), getattr(b, f.name), atol=1e-5) for f in fields(a) if f.name in BODY_VALUES
    )
