"""Poses over pictures: outlines of meshes and axes of objects."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from posecore.draw import PREDICTION, SUBPIXEL, TRUTH, Color, Picture, draw_mask_outline, draw_mesh_overlay, tile
from vpog.draw.canvas import Sheet
from vpog.objects.mesh import Mesh
from vpog.objects.rendering import Z_NEAR_MM, render_scene

AXIS_COLORS: tuple[Color, ...] = ((235, 60, 50), (60, 200, 70), (50, 110, 245))
"""x red, y green, z blue."""


@dataclass(frozen=True, eq=False)
class PosedMesh:
    """An object in a picture."""

    mesh: Mesh
    cam_from_obj_mm: Float[np.ndarray, "4 4"]
    color: Color = PREDICTION


def draw_pose(
    image: UInt8[np.ndarray, "h w 3"],
    posed: PosedMesh,
    K: Float[np.ndarray, "3 3"],
    *,
    axes: bool = True,
    fill: float = 0.0,
) -> Picture:
    """The mesh's outline, and its axes from its origin, half as long as its box is wide.

    Args:
        fill: Opacity of the shaded mesh below the outline, 0..1.
    """
    return draw_poses(image, [posed], K, axes=axes, fill=fill)


def draw_poses(
    image: UInt8[np.ndarray, "h w 3"],
    posed: Sequence[PosedMesh],
    K: Float[np.ndarray, "3 3"],
    *,
    axes: bool = True,
    fill: float = 0.0,
) -> Picture:
    """Several objects: whole outlines and axes, those of the farthest first; of shaded meshes each pixel shows the nearest."""
    canvas = image.copy()
    poses = np.array([each.cam_from_obj_mm for each in posed], np.float64).reshape(-1, 4, 4)
    scene = render_scene([each.mesh for each in posed], poses, K.astype(np.float64), (image.shape[0], image.shape[1]))
    if fill > 0:
        canvas = draw_mesh_overlay(canvas, scene.rgb / 255.0, (scene.instance_ids >= 0).astype(float), fill)
    for place in np.argsort(-poses[:, 2, 3]).tolist():
        canvas = draw_mask_outline(canvas, scene.masks[place], posed[place].color)
        if axes:
            length_mm = float(np.ptp(posed[place].mesh.vertices_mm, axis=0).max()) / 2
            canvas = draw_axes(canvas, poses[place], K, length_mm)
    return canvas


def draw_axes(
    image: UInt8[np.ndarray, "h w 3"],
    cam_from_obj_mm: Float[np.ndarray, "4 4"],
    K: Float[np.ndarray, "3 3"],
    length_mm: float,
) -> Picture:
    """x red, y green, z blue from the object's origin, the farthest first; nothing where an end is behind the camera."""
    canvas = image.copy()
    tips = np.concatenate([np.zeros((1, 3)), np.eye(3) * length_mm])
    points = tips @ cam_from_obj_mm[:3, :3].T + cam_from_obj_mm[:3, 3]
    if points[:, 2].min() < Z_NEAR_MM:
        return canvas
    px = points @ K.T
    px = px[:, :2] / px[:, 2:]
    if not _drawable(px, image.shape):
        return canvas
    origin, *ends = [(x, y) for x, y in (px * 2**SUBPIXEL).round().astype(int).tolist()]
    thickness = max(1, round(min(image.shape[:2]) / 120))
    for axis in np.argsort(-points[1:, 2]).tolist():
        cv2.arrowedLine(canvas, origin, ends[axis], AXIS_COLORS[axis], thickness, cv2.LINE_AA, SUBPIXEL, 0.15)
    return canvas


def draw_case(
    image: UInt8[np.ndarray, "h w 3"],
    mesh: Mesh,
    K: Float[np.ndarray, "3 3"],
    true_mm: Float[np.ndarray, "4 4"],
    estimated_mm: Float[np.ndarray, "4 4"] | None,
    caption: str,
) -> Sheet:
    """A picture, its true pose (green), the estimate (orange) if there is one, and both outlines on one."""
    truth = PosedMesh(mesh, true_mm, TRUTH)
    cells = [image, draw_pose(image, truth, K, fill=0.35)]
    captions = [caption, "truth"]
    if estimated_mm is not None:
        guess = PosedMesh(mesh, estimated_mm)
        cells += [draw_pose(image, guess, K, fill=0.35), draw_poses(image, [truth, guess], K, axes=False)]
        captions += ["estimate", "both"]
    return tile(cells, captions, columns=4)


def _drawable(px: Float[np.ndarray, "n 2"], shape: tuple[int, ...]) -> bool:
    """Near enough to the picture for OpenCV's fixed-point numbers."""
    return bool(np.abs(px).max() < 16 * max(shape[:2]))
