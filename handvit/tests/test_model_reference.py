"""Parts of the network against upstream's own outputs."""

import numpy as np
import pytest
import torch

from handvit.config.model import ModelConfig
from handvit.model import depth_prior
from handvit.model.build import build_network
from handvit.model.decoder import HandDecoder
from handvit.model.perspective import PerspCrossAttention, PerspDense
from handvit.model.prediction import HandInput
from handvit.model.rotation_head import pose_to_rotations
from handvit.model.temporal import CausalEncoder, LastFrameEncoder
from handvit.model.translation_heads import ROOT_MEAN_HANDS, ROOT_STD_HANDS, SoftArgmax3d
from posecore.rotations import axis_angle_to_matrix

TOLERANCE = {"rtol": 0, "atol": 1e-5}


def tensors(arrays):
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in arrays.items()}


def no_frames():
    """Cameras of three frames, which this head does not look at."""
    return HandInput(torch.zeros(3, 1, 3, 0, 0), *(torch.zeros(3, 1, n) for n in (4, 4, 2, 2)), torch.zeros(3, 1))


def part(values, prefix):
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_the_ray_embeddings_are_upstreams(reference):
    values = tensors(reference("persp_embed"))
    camera = (values["bbox"], values["focal"], values["princpt"])
    attending, dense = PerspCrossAttention(16, 10).eval(), PerspDense(16, has_cls=True).eval()
    attending.load_state_dict(part(values, "ca."))
    dense.load_state_dict(part(values, "dense."))
    torch.testing.assert_close(attending.context(*camera), values["context_rays_uv"], **TOLERANCE)
    torch.testing.assert_close(attending(values["feats"], *camera), values["out_ca"], **TOLERANCE)
    torch.testing.assert_close(dense(values["feats"], *camera), values["out_dense"], **TOLERANCE)


def test_the_hand_decoder_is_upstreams(reference):
    values = tensors(reference("hand_decoder"))
    head = SoftArgmax3d(24, (24, 24, 32), ROOT_MEAN_HANDS, ROOT_STD_HANDS, nearest_z=None)
    for axis in "xyz":  # published with five digits
        own = getattr(head, f"{axis}_centers")
        torch.testing.assert_close(own, values[f"hd.deccam.{axis}_centers"], rtol=0, atol=3e-4)
    decoder = HandDecoder(24, 24, head, 2, 2, 8, 32, joint_type="axis_angle").eval()
    decoder.load_state_dict(part(values, "hd."))
    token = decoder(values["context"])
    prediction = decoder.read(token[:, None], no_frames())
    torch.testing.assert_close(token, values["token"], **TOLERANCE)
    torch.testing.assert_close(prediction.pose_params[:, 0], values["pose"], **TOLERANCE)
    torch.testing.assert_close(prediction.betas[:, 0], values["shape"], **TOLERANCE)
    torch.testing.assert_close(prediction.translation.root[:, 0], values["trans"], **TOLERANCE)
    for axis, heatmap in zip("xyz", prediction.translation.heatmaps, strict=True):
        torch.testing.assert_close(heatmap.log_probabilities[:, 0], values[f"log_hm_{axis}"], **TOLERANCE)


def test_the_causal_temporal_encoder_is_upstreams(reference):
    values = tensors(reference("temporal"))
    encoder = CausalEncoder(24, 2, 4, 6).eval()
    encoder.load_state_dict(part(values, "te."))
    for all_frames, name in ((True, "out_all"), (False, "out_last")):
        out = encoder(values["token"], values["timestamp_ms"], all_frames)
        torch.testing.assert_close(out, values[name], **TOLERANCE)
    turned = encoder.layers[0][0].fn.pe(values["rope_x"], values["rope_t"])
    torch.testing.assert_close(turned, values["rope_out"], **TOLERANCE)


def test_the_last_frame_encoder_is_upstreams(reference):
    values = tensors(reference("temporal_lastframe"))
    encoder = LastFrameEncoder(24, 2, 4, 6).eval()
    encoder.load_state_dict(part(values, "te."))
    torch.testing.assert_close(encoder(values["token"], values["timestamp_ms"]), values["out_last"], **TOLERANCE)


def tiny_config(**more):
    kwargs = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 14}
    backbone = {"backbone_str": "dinov2", "kwargs": kwargs, "infusion_layer": more.pop("infusion_layer", None)}
    handec = {"num_layer": 2, "num_head": 2, "dim_head": 8, "mlp_dim": 32, "translation": {"num_bins": [24, 24, 32]}}
    embed = {"type": "dense", "num_sample": 4}
    parts = {"backbone": backbone, "handec": handec, "persp_info_embed": embed} | more
    return ModelConfig(img_size=56, joint_type="axis_angle", pose_mean="relative", **parts)


def mean_rotations(reference):
    return axis_angle_to_matrix(torch.from_numpy(reference("mano_model")["hands_mean"]).float().reshape(15, 3))


def frames(values, patches, timestamp_ms):
    box = values["bbox"]
    return HandInput(patches, box, box, values["focal"], values["princpt"], timestamp_ms)


def compare(prediction, values):
    torch.testing.assert_close(prediction.pose_params, values["out_mano_pose_pred"], **TOLERANCE)
    torch.testing.assert_close(prediction.betas, values["out_mano_shape_pred"], **TOLERANCE)
    torch.testing.assert_close(prediction.translation.root, values["out_trans_pred"], **TOLERANCE)


def test_a_whole_network_of_stage_1_is_upstreams(reference):
    values, mean = tensors(reference("tiny_posenet")), mean_rotations(reference)
    network = build_network(tiny_config(infusion_layer=[1, 2, 3]), mean_rotations=mean).eval()
    network.load_state_dict(part(values, "net."))  # strict: names and shapes are upstream's
    batch = frames(values, values["image"].float() / 255, torch.zeros(2, 1))
    images = (batch.patches[:, 0] - network.img_mean[:, None, None]) / network.img_std[:, None, None]
    torch.testing.assert_close(network.backbone(images), values["fused_tokens"], **TOLERANCE)
    prediction = network(batch)
    compare(prediction, values)
    hands_mean = torch.from_numpy(reference("mano_model")["hands_mean"]).float()
    angles = values["out_mano_pose_pred"] + torch.cat((torch.zeros(3), hands_mean))
    expected = axis_angle_to_matrix(angles.reshape(2, 1, 16, 3))
    torch.testing.assert_close(prediction.rotations, expected, **TOLERANCE)


def test_a_whole_network_of_stage_2_is_upstreams(reference):
    spatial, values = tensors(reference("tiny_posenet")), tensors(reference("tiny_posenet_stage2"))
    temporal = {"kind": "causal", "num_layer": 1, "num_head": 4, "dim_head": 6}
    config = tiny_config(stage=2, num_frame=7, temporal_encoder=temporal)
    network = build_network(config, mean_rotations=mean_rotations(reference)).eval()
    state = {n: v for n, v in part(spatial, "net.").items() if not n.startswith(("backbone.proj", "backbone.fusion"))}
    network.load_state_dict(state | {f"temporal_encoder.{n}": v for n, v in part(values, "te.").items()})
    compare(network(frames(values, values["image15"].float() / 15, values["timestamp_ms"])), values)


def test_six_numbers_are_the_first_two_columns_of_the_matrix(reference):
    values = tensors(reference("rotations"))
    pose = values["sixd"][:16].flatten()
    torch.testing.assert_close(pose_to_rotations(pose, "6d"), values["matrix_from_6d_csvit"][:16], rtol=0, atol=1e-12)
    angles = values["axis_angle"][:16].flatten()
    torch.testing.assert_close(
        pose_to_rotations(angles, "axis_angle"), values["matrix_from_aa_exact"][:16], rtol=0, atol=1e-12
    )
    quaternions = values["quat_wxyz_from_aa"][:16].flatten()
    torch.testing.assert_close(
        pose_to_rotations(quaternions, "quaternion"), values["matrix_from_aa_exact"][:16], rtol=0, atol=1e-6
    )


def test_depth_priors_and_box_geometry_are_upstreams(reference):
    c = tensors(reference("camera"))
    z = depth_prior.z_prior(c["focal"], c["hand_bbox"])
    rho = depth_prior.rho_prior(c["focal"], c["princpt"], c["hand_bbox"])
    camera = (c["focal"], c["princpt"], c["hand_bbox"])
    pairs = (
        (z, c["z_prior"]),
        (rho, c["rho_prior"]),
        (depth_prior.box_geometry(z.log(), *camera), c["z_geom"]),
        (depth_prior.box_geometry(rho.log(), *camera), c["rho_geom"]),
    )
    for own, expected in pairs:
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)


def test_depth_bins_are_encoded_and_decoded_as_upstream_does(reference):
    c = tensors(reference("camera"))
    index, residual = depth_prior.encode_depth(c["root_z"], c["log_z_prior"], 8)
    assert torch.equal(index, c["enc_bin"])
    torch.testing.assert_close(residual, c["enc_residual"], rtol=0, atol=1e-6)
    depth = depth_prior.decode_depth(c["logits"], c["residuals"], c["log_z_prior"])
    torch.testing.assert_close(depth, c["dec_z"], rtol=1e-6, atol=0)


def test_places_in_the_patch_become_upstreams_rays(reference):
    c = tensors(reference("camera"))
    height, width = c["patch_size"].tolist()
    uv = c["uv_patch"] / torch.tensor([width, height])
    ray = depth_prior.uv_to_unit_ray(uv, c["patch_bbox"], c["focal"], c["princpt"])
    torch.testing.assert_close(ray, c["ray_unit"], rtol=0, atol=1e-9)
    torch.testing.assert_close(c["rho"][..., None] * ray, c["backprojected"], rtol=1e-9, atol=0)
    back = depth_prior.point_to_uv(c["backprojected"], c["patch_bbox"], c["focal"], c["princpt"])
    torch.testing.assert_close(back, uv, rtol=0, atol=1e-9)
