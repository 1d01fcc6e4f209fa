"""From what the network says to a hand in space: rotations, shape and root become joints and vertices in mm."""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handvit.data.sample import Batch
from handvit.hand import SIZE_RANGE_MM, HandModel
from handvit.hand import hand_size_mm as middle_finger_mm
from handvit.joints import MIDDLE_CHAIN, WRIST
from handvit.model.prediction import HandPrediction

MM = 1000.0


@dataclass(frozen=True)
class PosedHands:
    """Hands in the network's camera frame, in mm."""

    joint_cam_mm: Float[Tensor, "b t 21 3"]
    joint_rel_mm: Float[Tensor, "b t 21 3"]
    """Minus the wrist."""
    vertices_cam_mm: Float[Tensor, "b t 778 3"] | None
    root_mm: Float[Tensor, "b t 3"]
    """The wrist."""
    hand_size_mm: Float[Tensor, "b t"]
    """Length of the middle finger: what a root in hand sizes is multiplied with."""
    size_valid: Bool[Tensor, "b t"]
    """The root has a meaning: it is in mm, or the hand size is plausible."""

    @property
    def vertices_rel_mm(self) -> Float[Tensor, "b t 778 3"] | None:
        """Vertices minus the wrist."""
        return None if self.vertices_cam_mm is None else self.vertices_cam_mm - self.root_mm[..., None, :]


def pose_hands(
    hand: HandModel,
    prediction: HandPrediction,
    *,
    norm_by_hand: bool,
    hand_size_mm: Float[Tensor, "b t"] | None = None,
    detach_shape: bool = False,
    with_vertices: bool = False,
) -> PosedHands:
    """Joints (and vertices) of a prediction, in the hand model's precision whatever autocast says.

    The root is the wrist: joint 0 of the canonical order, also where joints are regressed from the mesh.

    Args:
        norm_by_hand: The root is in hand sizes.
        hand_size_mm: The true size (training, oracle scale); None: that of the predicted shape in rest pose.
        detach_shape: No gradient reaches the shape.
    """
    with torch.autocast(device_type=prediction.betas.device.type, enabled=False):
        rotations, betas, root = (
            _full(x) for x in (prediction.rotations, prediction.betas, prediction.translation.root)
        )
        betas = betas.detach() if detach_shape else betas
        posed = hand(rotations, betas, joints_only=not with_vertices)
        size = hand.rest_size_mm(betas) if hand_size_mm is None else hand_size_mm.to(root)
        plausible = plausible_size(size)
        root_mm = root * size[..., None] if norm_by_hand else root
        wrist = posed.joints_m[..., WRIST : WRIST + 1, :]
        joint_rel = (posed.joints_m - wrist) * MM
        vertices = posed.vertices_m
        return PosedHands(
            joint_cam_mm=joint_rel + root_mm[..., None, :],
            joint_rel_mm=joint_rel,
            vertices_cam_mm=None if vertices is None else (vertices - wrist) * MM + root_mm[..., None, :],
            root_mm=root_mm,
            hand_size_mm=size,
            size_valid=plausible if norm_by_hand else torch.ones_like(plausible),
        )


def true_hand_size_mm(batch: Batch) -> Float[Tensor, "b t"]:
    """Length of the labelled middle finger; 0 (implausible) where one of its four joints is not valid."""
    known = (batch.joint_3d_valid[..., list(MIDDLE_CHAIN)] > 0).all(-1)
    joints = torch.where(known[..., None, None], batch.joint_cam_mm, 0)
    return torch.where(known, middle_finger_mm(joints), 0)


def plausible_size(size_mm: Float[Tensor, "*batch"]) -> Bool[Tensor, "*batch"]:
    low, high = SIZE_RANGE_MM
    return (size_mm > low) & (size_mm < high)


def last_frames(batch: Batch, t: int) -> Batch:
    """The last t frames of every clip: the targets of a network that answers for those.

    Raises:
        ValueError: The clips are shorter.
    """
    length = batch.timestamp_ms.shape[1]
    if not 1 <= t <= length:
        raise ValueError(f"{t} frames asked of clips of {length}")
    if t == length:
        return batch
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    clips = {name: x for name, x in values.items() if isinstance(x, Tensor) and x.ndim > 1}
    return replace(batch, **{name: x[:, length - t :] for name, x in clips.items()})  # type: ignore[arg-type]


def last_prediction(prediction: HandPrediction) -> HandPrediction:
    """What a network that answers for all frames says of the last one."""
    cut: HandPrediction = _last_of(prediction)
    return cut


def _last_of(value: Any) -> Any:
    """Tensors (b t ...) and what holds them, to t = 1; centres of bins (n) stay."""
    if isinstance(value, Tensor):
        return value[:, -1:] if value.ndim > 1 else value
    if isinstance(value, tuple):
        return tuple(_last_of(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _last_of(getattr(value, field.name)) for field in fields(value)})
    return value


def _full(values: Tensor) -> Tensor:
    """bf16 has a resolution of 4 mm at 910 mm, and over the hand model it costs 1.5 mm."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
