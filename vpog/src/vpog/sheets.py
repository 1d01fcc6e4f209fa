"""Pictures for the training log: groups, labels, matches and poses of some samples."""

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from posecore.draw import tile
from vpog.data.sample import PoseBatch
from vpog.draw.groups import Group, draw_group, group_of_batch
from vpog.draw.matches import draw_label_check, draw_matching
from vpog.draw.poses import draw_axes
from vpog.labels.records import FlowLabels
from vpog.model.prediction import Prediction

Picture = UInt8[np.ndarray, "h w 3"]


def batch_figures(
    batch: PoseBatch,
    labels: FlowLabels,
    prediction: Prediction,
    poses_mm: Float[Tensor, "b 4 4"],
    patch_size: int,
) -> dict[str, Picture]:
    """The groups, the labels of each sample's nearest template, the network's matches, and poses as axes."""
    groups = [group_of_batch(batch, index) for index in range(len(batch.images))]
    probabilities = prediction.matching.logits.float().softmax(-1).cpu().numpy()
    patch_cls = labels.patch_cls.cpu().numpy()
    found = poses_mm.double().cpu().numpy()
    return {
        "groups": _rows([draw_group(group, patch_size=patch_size) for group in groups]),
        "labels": _rows([draw_label_check(group, labels, index, 0) for index, group in enumerate(groups)]),
        "matches": _rows([draw_matching(group, probabilities[i], patch_cls[i]) for i, group in enumerate(groups)]),
        "poses": tile(
            [_poses(group, batch, i, found[i]) for i, group in enumerate(groups)],
            [_caption(group, found[i]) for i, group in enumerate(groups)],
        ),
    }


def _rows(pictures: list[Picture]) -> Picture:
    return tile(pictures, columns=1)


def _poses(group: Group, batch: PoseBatch, index: int, found_mm: Float[np.ndarray, "4 4"]) -> Picture:
    """True axes and, beside them, the network's."""
    K = batch.K[index, 0].double().cpu().numpy()
    length = float(batch.diameter_mm[index]) / 2
    true = draw_axes(group.pictures[0], group.cam_from_obj_mm[0], K, length)
    if not np.isfinite(found_mm).all():
        return np.concatenate([true, group.pictures[0]], 1)
    return np.concatenate([true, draw_axes(group.pictures[0], found_mm, K, length)], 1)


def _caption(group: Group, found_mm: Float[np.ndarray, "4 4"]) -> str:
    if not np.isfinite(found_mm).all():
        return "truth, no pose"
    turn = found_mm[:3, :3] @ group.cam_from_obj_mm[0, :3, :3].T
    angle = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    return f"truth, network: {angle:.0f} deg off"
