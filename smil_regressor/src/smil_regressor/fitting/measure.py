"""How good a fit is, and the fit as the poses that are drawn and written."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from posecore.cameras import project
from posecore.metrics import silhouette_iou
from posecore.rendering import Backend
from posecore.rotations import geodesic_distance, matrix_to_axis_angle
from smil_regressor.data.sample import Batch
from smil_regressor.fitting.energy import silhouettes
from smil_regressor.fitting.optimise import Fit
from smil_regressor.model.body import Body, to_cameras
from smil_regressor.model.state import BodyParameters
from smil_regressor.predict import Poses


def measure(fit: Fit, batch: Batch, body: Body, backend: Backend) -> list[dict[str, Any]]:
    """A dictionary a sample: errors before (rest pose, put in place) and after, overlap with the masks, camera changes.

    Pixels are those of the pictures in the file; None where there is nothing to compare with. An error is the mean over
    the labels in calibrated views, in front or not of the camera.
    """
    given = fit.problem.cam_from_world
    before = _mean(*_pixel_errors(fit, body, fit.start, given))
    after, labelled = _pixel_errors(fit, body, fit.body, fit.cam_from_world)
    overlap = [_overlap(fit, body, *seen, backend) for seen in ((fit.start, given), (fit.body, fit.cam_from_world))]
    turned = torch.rad2deg(geodesic_distance(fit.cam_from_world[..., :3, :3], given[..., :3, :3]))
    turned = torch.where(fit.problem.used, turned, 0).amax(1)
    columns = {
        "error_px_before": before,
        "error_px": _mean(after, labelled),
        "error_px_median": torch.where(labelled, after, torch.nan).flatten(1).nanmedian(1).values,
        "iou_before": overlap[0],
        "iou": overlap[1],
        "camera_turned_deg": turned,
        "rotation_error_deg": _rotation_error_deg(fit, batch),
        "mesh_scale": fit.body.mesh_scale,
        "energy": fit.energy,
    }
    rows = [dict.fromkeys(columns) | {"key": key, "views": 0} for key in batch.key]
    for row, views in zip(rows, fit.problem.used.sum(1).tolist(), strict=True):
        row["views"] = views
    for name, column in columns.items():
        assert column is not None  # mesh_scale: fits always have one
        for row, value in zip(rows, column.tolist(), strict=True):
            row[name] = value if value == value else None
    return rows


def fit_poses(fit: Fit, batch: Batch, body: Body, camera_order: tuple[str, ...]) -> Poses:
    """The fit in its cameras, in pixels of the pictures in the file."""
    joints = body.joints(fit.body)
    pixels, in_front = project(to_cameras(joints, fit.cam_from_world), fit.problem.K)
    optional = {"log_scales": fit.body.log_scales, "joint_offsets": fit.body.joint_offsets}
    return Poses(
        joint_names=body.model.joint_names,
        camera_order=camera_order,
        axis_angles=_np(matrix_to_axis_angle(fit.body.rotations)),
        betas=_np(fit.body.betas),
        translation=_np(fit.body.translation),
        **{name: None if value is None else _np(value) for name, value in optional.items()},
        mesh_scale=_np(fit.body.mesh_scale),
        joints_world=_np(joints),
        vertices_world=_np(body.vertices(fit.body)),
        view_mask=_np(fit.problem.used),
        camera_slots=_np(batch.camera_slots),
        K=_np(fit.problem.K),
        cam_from_world=_np(fit.cam_from_world),
        joints_px=_np(pixels),
        in_front=_np(in_front),
    )


def _pixel_errors(
    fit: Fit, body: Body, parameters: BodyParameters, cam_from_world: Tensor
) -> tuple[Float[Tensor, "b v j"], Bool[Tensor, "b v j"]]:
    pixels, _ = project(to_cameras(body.joints(parameters), cam_from_world), fit.problem.K)
    errors = torch.linalg.vector_norm(pixels - fit.problem.pixels, dim=-1)
    return errors, fit.problem.pixel_weights > 0


def _mean(values: Float[Tensor, "b v j"], chosen: Bool[Tensor, "b v j"]) -> Float[Tensor, " b"]:
    """NaN where nothing is chosen."""
    return torch.where(chosen, values, 0).sum((1, 2)) / chosen.sum((1, 2))


def _overlap(
    fit: Fit, body: Body, parameters: BodyParameters, cam_from_world: Tensor, backend: Backend
) -> Float[Tensor, " b"]:
    """Mean intersection over union with the sample's masks; NaN where it has none."""
    rows = fit.problem.mask_rows
    total = fit.energy.new_zeros(len(fit.problem))
    if len(rows[0]):
        alpha = silhouettes(cam_from_world, fit.problem, body, parameters, rows, backend)
        total = total.index_add(0, rows[0], silhouette_iou(alpha > 0.5, fit.problem.masks[rows]).to(total.dtype))
    return total / fit.problem.has_mask.sum(1)


def _rotation_error_deg(fit: Fit, batch: Batch) -> Float[Tensor, " b"]:
    """Median over the joints, against rotations that the file already has; NaN where it has none."""
    angles = torch.rad2deg(geodesic_distance(fit.body.rotations, batch.rotations.to(fit.body.rotations)))
    known = (batch.has_root_rotation & batch.has_joint_rotations).to(angles.device)
    return torch.where(known, angles.median(1).values, torch.nan)


def _np(value: Tensor | None) -> Any:
    return None if value is None else value.detach().cpu().numpy()
