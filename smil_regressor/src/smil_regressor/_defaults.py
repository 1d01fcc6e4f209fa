"""Default values of the original configuration, and the few rules that follow from a backbone's name."""

import difflib
from collections.abc import Mapping
from typing import Any

LR_SCHEDULE: dict[int, float] = {
    0: 5e-05,
    10: 3e-05,
    20: 2e-05,
    60: 1e-05,
    100: 1e-05,
    150: 2e-06,
    200: 2e-06,
    250: 1e-06,
    300: 1e-05,
    350: 1e-06,
    400: 1e-05,
    475: 1e-06,
    490: 5e-07,
    500: 5e-06,
    550: 1e-06,
    718: 1e-05,
}
"""Learning rate from each epoch on."""

BASE_WEIGHTS: dict[str, float] = {
    "betas": 0.0005,
    "betas_trans": 0.0005,
    "cam_rot": 0.01,
    "cam_trans": 0.01,
    "fov": 0.001,
    "global_rot": 0.0,
    "joint_angle_regularization": 0.001,
    "joint_rot": 0.001,
    "keypoint_2d": 0.1,
    "keypoint_3d": 0.25,
    "limb_scale_regularization": 0.01,
    "limb_trans_regularization": 1.0,
    "log_beta_scales": 0.0005,
    "silhouette": 0.0,
    "trans": 0.0005,
}
"""Loss weights from epoch 0."""

CURRICULUM_STAGES: dict[int, dict[str, float]] = {
    1: {"joint_angle_regularization": 0.01, "limb_scale_regularization": 0.1, "limb_trans_regularization": 1.0},
    10: {
        "joint_angle_regularization": 0.005,
        "keypoint_2d": 0.1,
        "limb_scale_regularization": 0.05,
        "limb_trans_regularization": 1.0,
    },
    25: {
        "joint_angle_regularization": 0.0025,
        "keypoint_2d": 0.2,
        "limb_scale_regularization": 0.02,
        "limb_trans_regularization": 1.0,
    },
    35: {
        "joint_angle_regularization": 0.001,
        "keypoint_3d": 1.0,
        "limb_scale_regularization": 0.01,
        "limb_trans_regularization": 1.0,
    },
    45: {
        "joint_angle_regularization": 0.0001,
        "keypoint_3d": 1.0,
        "limb_scale_regularization": 0.005,
        "limb_trans_regularization": 1.0,
    },
    50: {
        "joint_angle_regularization": 5e-05,
        "keypoint_3d": 2.0,
        "limb_scale_regularization": 0.001,
        "limb_trans_regularization": 0.5,
    },
    100: {
        "joint_angle_regularization": 1e-05,
        "keypoint_2d": 0.2,
        "keypoint_3d": 2.0,
        "limb_scale_regularization": 1e-07,
        "limb_trans_regularization": 0.1,
    },
    300: {
        "cam_rot": 1e-08,
        "cam_trans": 1e-08,
        "fov": 1e-07,
        "joint_angle_regularization": 1e-05,
        "keypoint_2d": 0.2,
        "keypoint_3d": 2.0,
        "limb_scale_regularization": 1e-07,
        "limb_trans_regularization": 0.1,
    },
    400: {
        "cam_rot": 1e-08,
        "cam_trans": 1e-08,
        "fov": 1e-07,
        "joint_angle_regularization": 0.0001,
        "keypoint_2d": 0.4,
        "keypoint_3d": 2.0,
        "limb_scale_regularization": 1e-05,
        "limb_trans_regularization": 0.1,
    },
    460: {
        "cam_rot": 1e-08,
        "cam_trans": 1e-08,
        "fov": 1e-07,
        "joint_angle_regularization": 1e-05,
        "keypoint_2d": 0.2,
        "keypoint_3d": 2.0,
        "limb_scale_regularization": 0.001,
        "limb_trans_regularization": 0.1,
    },
    490: {
        "cam_rot": 1e-08,
        "cam_trans": 1e-08,
        "fov": 1e-07,
        "joint_angle_regularization": 1e-06,
        "keypoint_2d": 0.2,
        "keypoint_3d": 2.0,
        "limb_scale_regularization": 0.0001,
        "limb_trans_regularization": 0.1,
    },
    500: {
        "cam_rot": 1e-07,
        "cam_trans": 1e-07,
        "fov": 1e-06,
        "joint_angle_regularization": 1e-07,
        "keypoint_2d": 0.2,
        "keypoint_3d": 20.0,
        "limb_scale_regularization": 1e-05,
        "limb_trans_regularization": 0.1,
    },
    560: {
        "cam_rot": 1e-07,
        "cam_trans": 1e-07,
        "fov": 1e-06,
        "joint_angle_regularization": 1e-07,
        "keypoint_2d": 0.2,
        "keypoint_3d": 20.0,
        "limb_scale_regularization": 0.001,
        "limb_trans_regularization": 1.0,
    },
    575: {
        "cam_rot": 1e-07,
        "cam_trans": 1e-07,
        "fov": 1e-06,
        "joint_angle_regularization": 1e-07,
        "keypoint_2d": 0.2,
        "keypoint_3d": 20.0,
        "limb_scale_regularization": 0.0025,
        "limb_trans_regularization": 1.0,
    },
}
"""Changes of the loss weights from each epoch on."""

LOSS_TERMS: tuple[str, ...] = (*BASE_WEIGHTS, "triangulation_consistency", "ief_intermediate")
"""Every term that a weight may name."""

MULTIVIEW_ONLY = (
    "num_views_to_use",
    "min_views_per_sample",
    "cross_attention_layers",
    "cross_attention_heads",
    "cross_attention_dropout",
)
"""Top-level fields that only the multi-view model has."""

OUTPUT_BY_MODE: dict[object, dict[str, str | int]] = {
    "singleview": {},
    "multiview": {
        "checkpoint_dir": "multiview_checkpoints",
        "visualizations_dir": "multiview_visualizations",
        "num_visualization_samples": 3,
    },
}
"""Where the defaults of `output` depend on the mode."""


def hidden_width(backbone_name: str, hidden_dim: int) -> int:
    """Width of the heads: dictated by backbones of known width, else as configured."""
    name = backbone_name.lower().partition(".")[0]
    if name.startswith("unet_"):
        return 256 if "mobilenet" in name else 512
    if name.startswith("vit_base"):
        return 768
    if name.startswith("vit_large"):
        return 1024
    return 2048 if name.startswith("resnet") and name[6:] in ("50", "101", "152") else hidden_dim


def input_resolution(backbone_name: str) -> int:
    """Side of the square input in pixels where the configuration does not say."""
    if backbone_name == "tiny_vit":
        return 64
    return 224 if backbone_name.startswith("vit") else 512


def check_terms(where: str, weights: Mapping[str, float]) -> None:
    """Raise ValueError for a weight that names no loss term."""
    for name in weights:
        if name not in LOSS_TERMS:
            close = difflib.get_close_matches(name, LOSS_TERMS, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(LOSS_TERMS)}"
            raise ValueError(f"{where}.{name}: no such loss term{hint}")


def without_nulls(data: dict[str, Any]) -> dict[str, Any]:
    """The same nested dict without the keys whose value is None."""
    kept = {key: value for key, value in data.items() if value is not None}
    return {key: without_nulls(value) if isinstance(value, dict) else value for key, value in kept.items()}
