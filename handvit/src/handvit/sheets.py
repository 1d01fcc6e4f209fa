"""From batches and predictions to what `handvit.draw` draws."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from handvit.data.sample import Batch
from handvit.draw import PREDICTION, TRUTH, Case, Figure, case_sheet
from handvit.hand import HandModel
from handvit.posing import MM, PosedHands
from posecore.draw import Picture
from posecore.rotations import axis_angle_to_matrix


def batch_sheet(batch: Batch, posed: PosedHands, hand: HandModel) -> Picture:
    """The last frames of a batch: patch, truth, prediction and both from the side."""
    return case_sheet(cases_of(batch, posed, hand), hand.faces.cpu().numpy())


def cases_of(batch: Batch, posed: PosedHands, hand: HandModel) -> list[Case]:
    """The last frame of each clip, in the network's frame (left hands mirrored)."""
    assert batch.patches is not None
    patch_K = _patch_intrinsics(batch)
    true_mesh = _true_vertices_mm(batch, hand)
    cases = []
    for row, key in enumerate(batch.key):
        truth = Figure(_np(batch.joint_cam_mm[row, -1]), TRUTH, None if true_mesh is None else _np(true_mesh[row]))
        found_mesh = None if posed.vertices_cam_mm is None else _np(posed.vertices_cam_mm[row, -1])
        found = Figure(_np(posed.joint_cam_mm[row, -1]), PREDICTION, found_mesh)
        valid = _np(batch.joint_3d_valid[row, -1] > 0)
        error = np.linalg.norm(found.joints_mm - truth.joints_mm, axis=-1)[valid]
        rel = np.linalg.norm(
            (found.joints_mm - truth.joints_mm)[valid] - (found.joints_mm - truth.joints_mm)[0], axis=-1
        )
        text = f"{error.mean():.0f} mm, rel {rel.mean():.0f} mm" if valid.any() else "no 3D label"
        patch = (_np(batch.patches[row, -1]).transpose(1, 2, 0) * 255).round().astype(np.uint8)
        cases.append(Case(key, patch, _np(patch_K[row]).astype(np.float64), truth, found, text))
    return cases


def _patch_intrinsics(batch: Batch) -> Tensor:
    """K of the last frame's patch: A K."""
    assert batch.patches is not None
    side = batch.patches.shape[-1]
    low, high = batch.patch_bbox[:, -1, :2], batch.patch_bbox[:, -1, 2:]
    scale = side / (high - low)
    focal = batch.focal[:, -1] * scale
    centre = (batch.princpt[:, -1] - low) * scale - 0.5
    K = torch.zeros(len(batch), 3, 3, device=focal.device)
    K[:, 0, 0], K[:, 1, 1], K[:, 2, 2] = focal[:, 0], focal[:, 1], 1
    K[:, :2, 2] = centre
    return K


def _true_vertices_mm(batch: Batch, hand: HandModel) -> Tensor | None:
    """The labelled mesh with its wrist on the labelled wrist; None where some frame has no label."""
    if not bool((batch.has_mano[:, -1] > 0).all()):
        return None
    with torch.no_grad():
        pose = batch.mano_pose[:, -1].reshape(-1, 16, 3)
        posed = hand(axis_angle_to_matrix(pose), batch.mano_shape[:, -1])
        assert posed.vertices_m is not None
        mesh: Tensor = (posed.vertices_m - posed.joints_m[:, :1]) * MM + batch.joint_cam_mm[:, -1, :1]
        return mesh


def _np(value: Tensor) -> Any:
    return value.detach().cpu().numpy()
