"""Batches whose labels agree with a hand model, and the predictions that meet them exactly."""

from dataclasses import replace

import numpy as np
import torch

from handvit.config.loss import TRANSLATION_TERMS
from handvit.data.sample import Batch
from handvit.hand import HandModel, read_hand
from handvit.joints import MANO_JOINT_NAMES
from handvit.model.depth_prior import encode_depth, rho_prior, z_prior
from handvit.model.prediction import DepthBins, HandPrediction, Heatmap, TranslationPrediction
from handvit.posing import true_hand_size_mm
from posecore.bodymodel import BodyModel
from posecore.bodymodel.arrays import BodyArrays
from posecore.rotations import axis_angle_to_matrix, matrix_to_axis_angle

PATCH = 64
CELLS = 16


def standin(dtype=torch.float32, **options):
    return read_hand(None, dtype=dtype, **options)


def make_batch(hand, b=3, t=2, seed=0, **changes):
    """b clips of t frames about 700 mm away, everything labelled."""
    dtype = hand.dtype
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(b, t, *shape, generator=g, dtype=dtype)

    pose = 0.25 * normal(48)
    pose[..., :3] *= 4
    shape = 0.3 * normal(10)
    root = torch.tensor([20.0, -10.0, 700.0], dtype=dtype) + 30 * normal(3)
    posed = hand(axis_angle_to_matrix(pose.unflatten(-1, (16, 3))), shape, joints_only=True).joints_m * 1000
    joints = posed - posed[..., :1, :] + root[..., None, :]
    focal = torch.tensor([300.0, 320.0], dtype=dtype).expand(b, t, 2)
    princpt = torch.tensor([64.0, 47.0], dtype=dtype).expand(b, t, 2)
    pixels = joints[..., :2] / joints[..., 2:] * focal[..., None, :] + princpt[..., None, :]
    low, high = pixels.amin(-2), pixels.amax(-2)
    half = (high - low).amax(-1, keepdim=True)
    patch_bbox = torch.cat([(low + high) / 2 - half, (low + high) / 2 + half], -1)
    ones = torch.ones(b, t, dtype=dtype)
    batch = Batch(
        key=tuple(f"shard.tar: clip{i}[0]" for i in range(b)),
        data_source=tuple(["DexYCB", "HO3D_v3", "InterHand2.6M"][i % 3] for i in range(b)),
        is_left=torch.tensor([i % 2 == 1 for i in range(b)]),
        regions=torch.zeros(b, t, 3, 4, 4, dtype=torch.uint8),
        patch_from_region=torch.eye(3, dtype=dtype).expand(b, t, 3, 3),
        camera_from_network=torch.eye(3, dtype=dtype).expand(b, t, 3, 3),
        patch_bbox=patch_bbox,
        hand_bbox=torch.cat([low, high], -1),
        focal=focal,
        princpt=princpt,
        joint_img=pixels,
        joint_patch=(pixels - patch_bbox[..., None, :2]) * (PATCH / (2 * half[..., None, :])) - 0.5,
        joint_cam_mm=joints,
        joint_2d_valid=torch.ones(b, t, 21, dtype=dtype),
        joint_3d_valid=torch.ones(b, t, 21, dtype=dtype),
        has_mano=ones,
        has_intr=ones,
        mano_pose=pose,
        mano_shape=shape,
        timestamp_ms=33.0 * torch.arange(t, dtype=dtype).expand(b, t),
        augment_seed=torch.zeros(b, dtype=torch.long),
    )
    return replace(batch, **changes)


def true_prediction(batch, kind="softargmax3d", norm_by_hand=False):
    """What the best network of that head would say."""
    b, t = batch.timestamp_ms.shape
    rotations = axis_angle_to_matrix(batch.mano_pose.unflatten(-1, (16, 3)))
    return HandPrediction(
        rotations=rotations,
        pose_params=rotations[..., :2].mT.reshape(b, t, 96),
        betas=batch.mano_shape,
        translation=true_translation(batch, kind, norm_by_hand),
        tokens=torch.zeros(b, t, 8),
    )


def true_translation(batch, kind, norm_by_hand):
    root = batch.joint_cam_mm[..., 0, :]
    distance = root.norm(dim=-1)
    if kind == "softargmax3d":
        root = root / true_hand_size_mm(batch)[..., None] if norm_by_hand else root
        return TranslationPrediction(root, heatmaps=heatmaps(root, 3))
    if kind == "xy_rootz_multibin":
        log_prior = z_prior(batch.focal, batch.hand_bbox).log()
        return TranslationPrediction(root, heatmaps=heatmaps(root, 2), bins=true_bins(root[..., 2], log_prior, False))
    log_prior = rho_prior(batch.focal, batch.princpt, batch.hand_bbox).log()
    uv = (batch.joint_patch[..., 0, :] + 0.5) / PATCH
    cells = (torch.arange(CELLS, dtype=root.dtype) + 0.5) / CELLS
    x, y = (uv[..., i, None] - cells for i in (0, 1))
    log_uv = -(x[..., None, :] ** 2 + y[..., :, None] ** 2) * CELLS**2 / 2
    log_uv = log_uv.flatten(-2).log_softmax(-1).reshape(log_uv.shape)
    shared = {"uv_log_probabilities": log_uv, "patch_uv": uv}
    if kind == "patch_uv_rho_multibin":
        return TranslationPrediction(root, bins=true_bins(distance, log_prior, True), **shared)
    return TranslationPrediction(root, log_depth=distance.log() - log_prior, log_prior=log_prior, **shared)


def heatmaps(root, count, bins=64):
    maps = []
    for axis in range(count):
        middle, spread = root[..., axis].mean(), root[..., axis].std() + 1e-3
        centers = torch.linspace(-6, 6, bins, dtype=root.dtype) * spread + middle
        scores = -((centers - root[..., axis, None]) ** 2) / (2 * (0.3 * spread) ** 2)
        maps.append(Heatmap(scores.log_softmax(-1), centers.detach()))
    return tuple(maps)


def true_bins(length, log_prior, is_distance):
    index, residual = encode_depth(length, log_prior, 8)
    logits = 10.0 * torch.nn.functional.one_hot(index, 8).to(length)
    return DepthBins(logits, residual[..., None].expand(*residual.shape, 8), log_prior, is_distance)


def perturbed(prediction, amount=0.05, seed=1):
    """Off by a little in everything, with gradients: the prediction and its leaves."""
    g = torch.Generator().manual_seed(seed)

    def off(value):
        noise = torch.randn(value.shape, generator=g, dtype=value.dtype)
        return (value.detach() + amount * noise * (1 + value.detach().abs().mean() * 0.1)).requires_grad_()

    turns = matrix_to_axis_angle(prediction.rotations).detach()
    turns = (turns + amount * torch.randn(turns.shape, generator=g, dtype=turns.dtype)).requires_grad_()
    old, leaves = (
        prediction.translation,
        {"turns": turns, "betas": off(prediction.betas), "root": off(prediction.translation.root)},
    )
    changes = {"root": leaves["root"]}
    if old.heatmaps:
        raw = [off(h.log_probabilities) for h in old.heatmaps]
        leaves |= {f"map{i}": x for i, x in enumerate(raw)}
        changes["heatmaps"] = tuple(
            replace(h, log_probabilities=x.log_softmax(-1)) for h, x in zip(old.heatmaps, raw, strict=True)
        )
    if old.bins is not None:
        leaves |= {"logits": off(old.bins.logits), "residuals": off(old.bins.residuals)}
        changes["bins"] = replace(old.bins, logits=leaves["logits"], residuals=leaves["residuals"])
    if old.log_depth is not None:
        leaves["log_depth"] = changes["log_depth"] = off(old.log_depth)
    if old.uv_log_probabilities is not None:
        leaves["uv"] = off(old.uv_log_probabilities)
        flat = leaves["uv"].flatten(-2).log_softmax(-1)
        changes["uv_log_probabilities"] = flat.reshape(leaves["uv"].shape)
    changed = replace(
        prediction,
        rotations=axis_angle_to_matrix(turns),
        betas=leaves["betas"],
        translation=replace(old, **changes),
    )
    return changed, leaves


def kind_of(term):
    """A translation head that has what the term needs."""
    return next((kind for kind, terms in TRANSLATION_TERMS.items() if term in terms), "softargmax3d")


def reference_hand(arrays, **options):
    """The reference vectors' hand in float64."""
    body = BodyArrays(
        template=arrays["v_template"].astype(float),
        faces=arrays["f"].astype(int),
        weights=arrays["weights"].astype(float),
        parents=np.array([-1, *arrays["kintree_table"][0, 1:].astype(int)]),
        joint_names=MANO_JOINT_NAMES,
        shapedirs=arrays["shapedirs"].astype(float),
        posedirs=arrays["posedirs"].astype(float),
        joint_regressor=arrays["J_regressor"].astype(float),
        hands_components=arrays["hands_components"].astype(float),
        hands_mean=arrays["hands_mean"].astype(float),
    )
    return HandModel(BodyModel(body, torch.float64), **options)
