"""A prediction beside its targets, with what several losses need computed once."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from handvit.config.loss import LossConfig
from handvit.data.sample import Batch
from handvit.hand import HandModel
from handvit.losses.distances import Norm, project_mm
from handvit.model.prediction import HandPrediction
from handvit.posing import MM, PosedHands, last_frames, plausible_size, pose_hands, true_hand_size_mm
from posecore.rotations import axis_angle_to_matrix


@dataclass(frozen=True)
class LossSettings:
    """How the terms are computed; the meaning of each field is told in `handvit.config.loss`."""

    norm_by_hand: bool
    patch_size: int
    """Pixels, square."""
    heatmap_sigma: float
    frames: Literal["last", "all"] = "last"
    detach_shape: bool = True
    pose_error: Literal["axis_angle", "geodesic"] = "axis_angle"
    parameter_norm: Norm = "l1"
    joint_norm: Norm = "l1"
    reprojection_norm: Literal["l1", "robust"] = "robust"
    reprojection_delta_px: float = 84.0
    reprojection_space: Literal["image", "patch"] = "image"
    heatmap_target: Literal["normalised", "upstream"] = "normalised"
    uv_sigma_cells: float = 1.0
    residual_beta: float = 0.1

    @classmethod
    def of(cls, config: LossConfig, norm_by_hand: bool, patch_size: int) -> "LossSettings":
        """From the configuration of a run; `patch_size` is the side of the network's input."""
        sigma = config.heatmap_sigma
        if sigma is None:
            sigma = 0.09 if norm_by_hand else 2.0
        shared = {field.name for field in fields(cls)} & set(type(config).model_fields)
        values = {name: getattr(config, name) for name in shared}
        return cls(**values | {"norm_by_hand": norm_by_hand, "patch_size": patch_size, "heatmap_sigma": sigma})


def supervised(batch: Batch, settings: LossSettings) -> Batch:
    """The frames that the losses look at."""
    return last_frames(batch, 1) if settings.frames == "last" else batch


@dataclass(frozen=True)
class Scene:
    """The frames of a prediction that are supervised, and their targets: both (b t ...), the same b and t."""

    prediction: HandPrediction
    batch: Batch
    hand: HandModel
    settings: LossSettings

    def __post_init__(self) -> None:
        predicted, wanted = self.prediction.betas.shape[:2], self.batch.timestamp_ms.shape
        if predicted != wanted:  # (b 1) against (b t) would broadcast
            raise ValueError(
                f"the prediction has (clips, frames) {tuple(predicted)}, the targets have {tuple(wanted)}; "
                f"losses look at {self.settings.frames} frames"
            )

    @cached_property
    def true_size_mm(self) -> Float[Tensor, "b t"]:
        return true_hand_size_mm(self.batch)

    @cached_property
    def posed(self) -> PosedHands:
        """Joints alone, with the true hand size."""
        return self._pose(with_vertices=False, detach_shape=self.settings.detach_shape)

    @cached_property
    def posed_mesh(self) -> PosedHands:
        """Joints and vertices that teach the shape."""
        return self._pose(with_vertices=True, detach_shape=False)

    @cached_property
    def true_vertices_rel_mm(self) -> Float[Tensor, "b t 778 3"]:
        """The labelled parameters' mesh, minus its wrist."""
        with torch.no_grad(), torch.autocast(device_type=self.batch.mano_pose.device.type, enabled=False):
            known = (self.batch.has_mano > 0)[..., None]
            pose = torch.where(known, self.batch.mano_pose, 0).reshape(*known.shape[:-1], 16, 3)
            posed = self.hand(axis_angle_to_matrix(pose), torch.where(known, self.batch.mano_shape, 0))
            assert posed.vertices_m is not None
            mesh: Tensor = (posed.vertices_m - posed.joints_m[..., :1, :]) * MM
            return mesh

    def pixels(self, points_mm: Float[Tensor, "b t n 3"]) -> Float[Tensor, "b t n 2"]:
        """In the network's image."""
        return project_mm(points_mm, self.batch.focal, self.batch.princpt)

    def _pose(self, *, with_vertices: bool, detach_shape: bool) -> PosedHands:
        return pose_hands(
            self.hand,
            self.prediction,
            norm_by_hand=self.settings.norm_by_hand,
            hand_size_mm=self.true_size_mm,
            detach_shape=detach_shape,
            with_vertices=with_vertices,
        )


def root_scale_weight(batch: Batch, settings: LossSettings) -> Float[Tensor, "b t"]:
    """1 where a root in the network's unit can be told from the labels."""
    if not settings.norm_by_hand:
        return torch.ones_like(batch.timestamp_ms)
    return plausible_size(true_hand_size_mm(batch)).to(batch.timestamp_ms)
