import pytest
import torch

from posecore.rotations import rotation_6d_to_matrix
from smil_regressor.model.camera_head import CameraHeads, FovCameras
from smil_regressor.model.decoder import DecoderHead
from smil_regressor.model.fusion import ViewFusion
from smil_regressor.model.mlp_head import MLPHead
from smil_regressor.model.state import StateLayout, StateReader


def tensors(arrays, prefix):
    return {k.removeprefix(prefix): torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)}


def tiny_decoder(**options):
    layout = StateLayout(num_joints=4, num_betas=3, limb_dim=12, mesh_scale="log")
    sizes = {"hidden_dim": 16, "depth": 2, "num_heads": 2, "dim_head": 4, "mlp_dim": 32}
    return DecoderHead(layout, context_dim=10, **sizes, **options).eval()


def test_the_decoder_head_computes_what_the_published_one_does(reference):
    arrays = reference("decoder_head")
    layout = StateLayout(55, 5, rot6d_layout="rows", limb_dim=165, has_camera=True, mesh_scale="log")
    head = DecoderHead(layout, context_dim=24, hidden_dim=32, depth=2, num_heads=4, dim_head=8, mlp_dim=64).eval()
    head.load_state_dict(tensors(arrays, "param/"))
    history, nonfinite = head(torch.from_numpy(arrays["context"]))
    assert nonfinite == 0
    for i, state in enumerate(history):
        for name, value in state.items():
            expected = torch.from_numpy(arrays[f"hist{i}/{name}"]).float()
            torch.testing.assert_close(value, expected, rtol=0, atol=2e-5)
    body = StateReader(layout, "separate")(history[-1])
    out = {name: value.float() for name, value in tensors(arrays, "out/").items()}
    torch.testing.assert_close(body.rotation_params[:, 1:], out["joint_rot"], rtol=0, atol=2e-5)
    torch.testing.assert_close(body.log_scales, out["log_beta_scales"], rtol=0, atol=2e-5)
    torch.testing.assert_close(body.joint_offsets, out["betas_trans"], rtol=0, atol=2e-5)
    torch.testing.assert_close(body.mesh_scale[:, None], out["mesh_scale"], rtol=0, atol=2e-5)
    camera = rotation_6d_to_matrix(history[-1]["cam_rot"], "rows")
    torch.testing.assert_close(camera, out["cam_rot"], rtol=0, atol=2e-5)


def test_the_correction_depends_on_the_state_that_is_fed_back():
    torch.manual_seed(0)
    head, context = tiny_decoder(), torch.randn(2, 5, 10)
    before = head(context)[0][0]["pose"] - head.init_pose
    head.init_betas += 1.0
    after = head(context)[0][0]["pose"] - head.init_pose
    assert (after - before).abs().max() > 1e-6


def test_masked_context_tokens_have_no_influence_whatever_they_hold():
    torch.manual_seed(0)
    head, context = tiny_decoder(), torch.randn(2, 5, 10)
    mask = torch.tensor([[True] * 3 + [False] * 2, [True] + [False] * 4])
    changed = torch.where(mask[..., None], context, 100.0)
    torch.testing.assert_close(head(context, mask)[0][-1]["pose"], head(changed, mask)[0][-1]["pose"])
    alone = head(context[1:, :1])[0][-1]["pose"]
    torch.testing.assert_close(head(context, mask)[0][-1]["pose"][1:], alone)


def test_values_that_are_not_finite_are_counted_and_left_out():
    head = tiny_decoder(iterations=2)
    context = torch.zeros(1, 3, 10)
    assert head(context)[1] == 0
    history, nonfinite = head(context.fill_(float("nan")))
    assert nonfinite == 2 * (head.layout.dim + 1)
    assert torch.equal(history[-1]["pose"], head.init_pose)


def test_the_decoder_stays_in_float32_under_autocast():
    head, context = tiny_decoder(), torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0))
    exact = head(context)[0][-1]["pose"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(context)[0][-1]["pose"], exact)


@pytest.mark.parametrize("layout_name", ["rows", "columns", "interleaved"])
@pytest.mark.parametrize("rotation", ["6d", "axis_angle"])
def test_the_initial_pose_is_the_identity(rotation, layout_name):
    layout = StateLayout(3, 2, rotation, layout_name)
    body = StateReader(layout)(layout.initial())
    torch.testing.assert_close(body.rotations, torch.eye(3).expand(1, 3, 3, 3))
    assert torch.autograd.functional.jacobian(layout.to_matrix, body.rotation_params[0, 0]).abs().max() < 10


def test_the_mlp_head_starts_at_the_initial_state_and_counts_what_is_not_finite():
    layout = StateLayout(3, 2, has_camera=True, mesh_scale="log")
    head = MLPHead(layout, feature_dim=8, hidden_dim=16, initial=layout.initial(mesh_scale=2.0)).eval()
    (state,), nonfinite = head(torch.randn(2, 8, generator=torch.Generator().manual_seed(0)))
    assert nonfinite == 0
    assert (state["fov"] - 8).abs().max() < 0.5
    assert (StateReader(layout)(state).mesh_scale - 2).abs().max() < 0.5
    assert head(torch.full((2, 8), float("nan")))[1] == 2 * (layout.dim + 1)


def test_fusion_computes_what_the_published_one_does(reference):
    arrays = reference("view_fusion")
    fusion = ViewFusion(16, num_layers=2, num_heads=4).eval()
    fusion.load_state_dict(tensors(arrays, "param/"))
    fused = fusion(torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["view_mask"]))
    torch.testing.assert_close(fused, torch.from_numpy(arrays["fused"]), rtol=0, atol=1e-5)


def test_a_sample_without_any_valid_view_stays_finite_and_so_do_gradients():
    torch.manual_seed(0)
    fusion, features = ViewFusion(16, num_heads=4).eval(), torch.randn(2, 3, 16, requires_grad=True)
    mask = torch.tensor([[True, True, False], [False] * 3])
    fused = fusion(features, mask)
    fused.sum().backward()
    assert fused.isfinite().all()
    assert features.grad.isfinite().all()
    torch.testing.assert_close(fused[:1], fusion(features[:1], mask[:1]))


def camera_heads(arrays):
    heads = CameraHeads(3, 16, hidden_dim=32).eval()
    state = tensors(arrays, "param/layers.")
    for slot in range(3):  # slot 1 holds the published weights, the others something else
        for name, value in state.items():
            stacked = heads.layers.get_parameter(name)
            stacked.data[slot] = value if slot == 1 else torch.randn_like(value)
    return heads


def test_camera_heads_compute_what_the_published_one_does(reference):
    arrays = {k: torch.from_numpy(v) for k, v in reference("camera_head").items()}
    heads = camera_heads({k: v.numpy() for k, v in arrays.items()})
    features = torch.stack([torch.randn(4, 16), arrays["features"]], dim=1)
    slots, mask = torch.tensor([[2, 1]]).expand(4, 2), torch.ones(4, 2, dtype=torch.bool)
    base = FovCameras(
        arrays["base_fov"].expand(4, 2),
        arrays["base_rot"][:, None].expand(4, 2, 3, 3),
        arrays["base_trans"][:, None].expand(4, 2, 3),
    )
    for name, cameras in {
        "abs": heads(features, slots, mask),
        "delta": heads(features, slots, mask, base, torch.ones_like(mask)),
    }.items():
        torch.testing.assert_close(cameras.fov_deg[:, 1:], arrays[f"{name}_fov"], rtol=0, atol=1e-5)
        torch.testing.assert_close(cameras.R[:, 1], arrays[f"{name}_cam_rot"], rtol=0, atol=1e-5)
        torch.testing.assert_close(cameras.T[:, 1], arrays[f"{name}_cam_trans"], rtol=0, atol=1e-5)


def test_views_without_a_base_camera_are_predicted_absolutely():
    torch.manual_seed(0)
    heads, features = CameraHeads(2, 8, hidden_dim=16).eval(), torch.randn(1, 2, 8)
    slots, mask = torch.tensor([[1, 0]]), torch.ones(1, 2, dtype=torch.bool)
    base = FovCameras(torch.full((1, 2), 30.0), torch.eye(3).expand(1, 2, 3, 3), torch.ones(1, 2, 3))
    mixed = heads(features, slots, mask, base, torch.tensor([[True, False]]))
    assert mixed.T[0, 1].equal(heads(features, slots, mask).T[0, 1])
    assert (mixed.T[0, 0] - 1).abs().max() <= 0.25


def test_slots_are_checked_never_indexed_out_of_range():
    heads, features = CameraHeads(2, 8, hidden_dim=16).eval(), torch.zeros(1, 2, 8)
    mask = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(RuntimeError, match=r"outside 0\.\.1"):
        heads(features, torch.tensor([[0, 2]]), mask)
    with pytest.raises(RuntimeError, match="same camera slot"):
        heads(features, torch.tensor([[1, 1]]), mask)
    heads(features, torch.tensor([[1, -1]]), torch.tensor([[True, False]]))
    CameraHeads(1, 8, hidden_dim=16)(features, torch.tensor([[5, -1]]), mask)


def test_heads_that_start_from_a_rig_predict_it():
    torch.manual_seed(0)
    heads = CameraHeads(3, 8, hidden_dim=16).eval()
    rotation = torch.linalg.qr(torch.randn(3, 3, 3))[0]
    rotation = rotation * torch.linalg.det(rotation)[:, None, None]
    rig = FovCameras(torch.tensor([20.0, 40.0, 60.0]), rotation, torch.randn(3, 3) * 40)
    heads.start_from(rig)
    for parameter in heads.layers[-1].parameters():
        if parameter.ndim == 3:
            torch.nn.init.zeros_(parameter)
    cameras = heads(torch.randn(1, 3, 8), torch.arange(3)[None], torch.ones(1, 3, dtype=torch.bool))
    torch.testing.assert_close(cameras.fov_deg[0], rig.fov_deg)
    torch.testing.assert_close(cameras.R[0], rig.R)
    torch.testing.assert_close(cameras.T[0], rig.T)
    with pytest.raises(ValueError, match="leave the range"):
        heads.start_from(FovCameras(torch.tensor([2.0, 40.0, 60.0]), rotation, rig.T))


def test_the_offset_factor_scales_the_offsets_of_components_in_mode_separate_alone(insect):
    count = len(insect.scaledirs)
    layout = StateLayout(insect.num_joints, insect.num_betas, limb_dim=count)
    state = layout.initial() | {"scales": torch.randn(1, count), "joint_trans": torch.randn(1, count)}
    plain, doubled = (StateReader(layout, "separate", insect, factor)(state) for factor in (1.0, 2.0))
    torch.testing.assert_close(doubled.joint_offsets, 2 * plain.joint_offsets)
    torch.testing.assert_close(doubled.log_scales, plain.log_scales)
    tied = (StateReader(layout, "entangled_with_betas", insect, factor)(state) for factor in (1.0, 2.0))
    assert torch.equal(*(body.joint_offsets for body in tied))
