"""The best answers that look at no picture: what a network has to beat."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from handvit.data.sample import Batch
from handvit.hand import hand_size_mm
from handvit.joints import WRIST
from handvit.model.depth_prior import z_prior
from handvit.posing import PosedHands, plausible_size
from posecore.alignment import procrustes
from posecore.errors import InputError

MAX_SHAPES = 2000
"""Hands that the mean shape is made of."""
ROUNDS = 5
"""Of aligning to the mean and averaging; it settles after two or three."""


@dataclass(frozen=True)
class ConstantHand:
    """Means of the training labels, in the network's frame, mm."""

    joint_rel_mm: Float[np.ndarray, "21 3"]
    """Mean of the joints minus the wrist."""
    root_mm: Float[np.ndarray, " 3"]
    shape_mm: Float[np.ndarray, "21 3"]
    """Mean after every hand was turned and scaled to it: the best constant where errors are measured after alignment."""
    log_depth_ratio: float
    """Mean of log(depth / the depth that the box's size lets expect)."""
    wrist_in_box: Float[np.ndarray, " 2"]
    """Mean place of the wrist from the box's centre, in sides of the box."""

    def answers(self, batch: Batch) -> dict[str, PosedHands]:
        """`mean`: always the same hand at the same place; `box`: the same hand at the box's place, as far as hands of that
        size in pixels are; `shape`: the mean shape at the mean place."""
        frames = batch.timestamp_ms
        root = _like(self.root_mm, frames).expand(*frames.shape, 3)
        return {
            "mean": _posed(_like(self.joint_rel_mm, frames), root),
            "box": _posed(_like(self.joint_rel_mm, frames), self._root_from_box(batch)),
            "shape": _posed(_like(self.shape_mm, frames), root),
        }

    def _root_from_box(self, batch: Batch) -> Float[Tensor, "b t 3"]:
        depth = z_prior(batch.focal, batch.hand_bbox) * float(np.exp(self.log_depth_ratio))
        low, high = batch.hand_bbox[..., :2], batch.hand_bbox[..., 2:]
        pixel = (low + high) / 2 + _like(self.wrist_in_box, depth) * (high - low)
        slopes = (pixel - batch.princpt) / batch.focal
        return torch.cat([slopes, torch.ones_like(slopes[..., :1])], -1) * depth[..., None]


@dataclass
class ConstantFit:
    """Adds up training labels, batch by batch; joints, roots and boxes each from the frames that have them."""

    _joints: np.ndarray = field(default_factory=lambda: np.zeros((21, 3)))
    _joint_counts: np.ndarray = field(default_factory=lambda: np.zeros(21))
    _roots: list[np.ndarray] = field(default_factory=list)
    _ratios: list[np.ndarray] = field(default_factory=list)
    _places: list[np.ndarray] = field(default_factory=list)
    _shapes: list[np.ndarray] = field(default_factory=list)

    def add(self, batch: Batch) -> None:
        joints = batch.joint_cam_mm.double().flatten(0, 1).cpu()
        valid = (batch.joint_3d_valid > 0).flatten(0, 1).cpu()
        known = valid & valid[:, WRIST : WRIST + 1]
        rel = torch.where(known[..., None], joints - joints[:, WRIST : WRIST + 1], 0)
        self._joints += rel.sum(0).numpy()
        self._joint_counts += known.sum(0).numpy()
        self._shapes.append(rel[known.all(-1)].numpy())
        rooted = valid[:, WRIST]
        self._roots.append(joints[rooted, WRIST].numpy())
        self._add_places(batch, rooted & (batch.has_intr > 0).flatten().cpu(), joints[:, WRIST])

    def _add_places(self, batch: Batch, usable: Tensor, root: Float[Tensor, "n 3"]) -> None:
        focal, princpt = (x.double().flatten(0, 1).cpu() for x in (batch.focal, batch.princpt))
        box = batch.hand_bbox.double().flatten(0, 1).cpu()
        usable = usable & (root[:, 2] > 0) & (box[:, 2:] > box[:, :2]).all(-1)
        root, focal, princpt, box = (x[usable] for x in (root, focal, princpt, box))
        pixel = root[:, :2] / root[:, 2:] * focal + princpt
        self._ratios.append((root[:, 2] / z_prior(focal, box)).log().numpy())
        self._places.append(((pixel - (box[:, :2] + box[:, 2:]) / 2) / (box[:, 2:] - box[:, :2])).numpy())

    def answer(self) -> ConstantHand:
        """
        Raises:
            InputError: No frame has all its 3D joints and a camera.
        """
        shapes, ratios = (
            np.concatenate(self._shapes or [np.zeros((0, 21, 3))]),
            np.concatenate(self._ratios or [np.zeros(0)]),
        )
        if not len(shapes) or not len(ratios):
            raise InputError(
                "training labels: no frame has all 21 3D joints and a camera, so there is no constant answer"
            )
        return ConstantHand(
            joint_rel_mm=self._joints / np.maximum(self._joint_counts, 1)[:, None],
            root_mm=np.concatenate(self._roots).mean(0),
            shape_mm=mean_shape(shapes[:: -(-len(shapes) // MAX_SHAPES)]),
            log_depth_ratio=float(ratios.mean()),
            wrist_in_box=np.concatenate(self._places).mean(0),
        )


def mean_shape(joints_mm: Float[np.ndarray, "n 21 3"]) -> Float[np.ndarray, "21 3"]:
    """Generalised Procrustes mean, of the mean size, with its wrist at 0."""
    points = torch.from_numpy(joints_mm)
    mean = points[0]
    for _ in range(ROUNDS):
        mean = procrustes(points, mean.expand_as(points)).apply(points).mean(0)
    size = (points - points.mean(1, keepdim=True)).square().sum((1, 2)).sqrt().mean()
    mean = mean - mean.mean(0)
    mean = mean * size / mean.square().sum().sqrt()
    shape: np.ndarray = (mean - mean[WRIST]).numpy()
    return shape


def best_constant(summaries: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The best of several constant answers for each metric: the smallest error, the largest AUC or F-score.

    Metrics that a constant cannot be good at, because it does not move (acceleration, jitter), are left out.
    """
    names = dict.fromkeys(name for summary in summaries.values() for name in summary)
    best: dict[str, float] = {}
    for name in names:
        values = [summary[name] for summary in summaries.values() if name in summary]
        if name.startswith("auc") or "f@" in name:
            best[name] = max(values)
        elif name.startswith(("mpjpe", "pa_", "rte", "depth_abs", "error_2d", "mrrpe")):
            best[name] = min(values)
    return best


def _posed(joint_rel: Float[Tensor, "21 3"], root: Float[Tensor, "b t 3"]) -> PosedHands:
    joints = joint_rel.expand(*root.shape[:2], 21, 3)
    size = hand_size_mm(joints)
    return PosedHands(joints + root[..., None, :], joints, None, root, size, plausible_size(size))


def _like(values: np.ndarray, tensor: Tensor) -> Tensor:
    return torch.from_numpy(values).to(tensor)
