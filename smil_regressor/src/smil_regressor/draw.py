"""One sheet a sample: each view with its labels, the predicted skeleton and the predicted mesh, side by side."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from posecore.draw import (
    PREDICTION,
    TRUTH,
    Picture,
    draw_mask_outline,
    draw_mesh_overlay,
    draw_skeleton,
    tile,
)
from posecore.rendering import Backend, rasterize, shade_raster
from smil_regressor.data.augmentation import to_float
from smil_regressor.data.sample import Batch
from smil_regressor.model.body import Body, project_joints, to_cameras
from smil_regressor.model.prediction import Prediction

SHEET_SIDE = 192
MESH_COLOR = (0.95, 0.65, 0.3)


def prediction_sheet(
    batch: Batch,
    prediction: Prediction,
    body: Body,
    index: int,
    camera_names: tuple[str, ...] = (),
    backend: Backend = "warp",
    views: Tensor | None = None,
) -> UInt8[np.ndarray, "h w 3"]:
    """A row for each of the views (default: all valid ones) of a sample: labels, predicted skeleton, predicted mesh."""
    views = torch.nonzero(batch.view_mask[index]).flatten() if views is None else views
    joints = body.joints(prediction)
    pixels, in_front = project_joints(joints, prediction)
    images = _enlarged(to_float(batch.images[index, views]))
    grow = SHEET_SIDE / batch.images.shape[2]
    meshes, covers = mesh_pictures(prediction, body, index, views, SHEET_SIDE, batch.images.shape[2], backend)
    parents = body.model.parents.tolist()
    cells: list[Picture] = []
    captions: list[str] = []
    for row, view in enumerate(views.tolist()):
        labelled = _np(batch.visibility[index, view] > 0)
        truth_px = _grown(_np(batch.keypoints_px[index, view]), grow)
        found_px = _grown(_np(pixels[index, view]), grow)
        cells.append(draw_skeleton(images[row], truth_px, parents, labelled, TRUTH))
        cells.append(draw_skeleton(images[row], found_px, parents, _np(in_front[index, view]), PREDICTION))
        overlay = draw_mesh_overlay(images[row], meshes[row], covers[row])
        cells.append(draw_mask_outline(overlay, covers[row] > 0.5))
        slot = int(batch.camera_slots[index, view])
        name = camera_names[slot] if 0 <= slot < len(camera_names) else f"view {slot}"
        both = labelled & _np(in_front[index, view])
        error = np.linalg.norm(found_px - truth_px, axis=-1)[both] / grow
        captions += [f"{name}: labels", f"predicted {error.mean():.1f} px" if both.any() else "predicted", "mesh"]
    return tile(cells, captions, columns=3)


def mesh_pictures(
    prediction: Prediction, body: Body, index: int, views: Tensor, side: int, input_side: int, backend: Backend = "warp"
) -> tuple[Float[np.ndarray, "k s s 3"], Float[np.ndarray, "k s s"]]:
    """The predicted mesh of one sample, shaded, in the given views, and where it covers."""
    with torch.no_grad():
        vertices = to_cameras(body.vertices(prediction), prediction.cam_from_world)[index, views]
        K = prediction.K[index, views].clone()
        grow = side / input_side
        K[:, :2, :2] *= grow
        K[:, :2, 2] = (K[:, :2, 2] + 0.5) * grow - 0.5
        colors = torch.tensor(MESH_COLOR, device=vertices.device).expand(1, vertices.shape[1], 3)
        raster = rasterize(vertices, body.model.faces, K, (side, side), backend)
        rgb = shade_raster(raster, vertices, body.model.faces, colors)
    return _np(rgb), _np((raster.face_ids >= 0).float())


def _enlarged(images: Tensor) -> list[Picture]:
    """Pictures in 0..1 at the sheet's size, uint8."""
    grown = torch.nn.functional.interpolate(images.permute(0, 3, 1, 2), (SHEET_SIDE, SHEET_SIDE), mode="bilinear")
    pictures = (grown.permute(0, 2, 3, 1).clamp(0, 1) * 255).round().byte()
    return list(pictures.cpu().numpy())


def _grown(points: Float[np.ndarray, "j 2"], factor: float) -> Float[np.ndarray, "j 2"]:
    """Pixels of an enlarged picture; pixel centres are integers."""
    return (points + 0.5) * factor - 0.5


def _np(value: Tensor) -> np.ndarray:
    array: np.ndarray = value.detach().cpu().numpy()
    return array
