"""Drawing the views of a mesh, a few at a time."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Float64

from posecore.errors import InputError
from posecore.rendering import Backend, Light
from vpog.objects.mesh import Mesh
from vpog.objects.rendering import Rendering, render
from vpog.templates.camera import Z_NEAR_MM, nearest_vertex_mm

VIEWS_AT_ONCE = 8
"""Whole pictures of 640 x 480 px in memory: 8 are 20 MB."""


def draw_views(
    mesh: Mesh,
    cam_from_obj_mm: Float64[np.ndarray, "v 4 4"],
    K: Float[np.ndarray, "3 3"],
    size_hw: tuple[int, int],
    *,
    light: Light | None = None,
    device: str = "cpu",
    backend: Backend = "warp",
) -> Iterator[tuple[int, Rendering]]:
    """The first view's number and the pictures of some views, until all are drawn.

    Raises:
        InputError: A view does not hold the whole mesh.
    """
    check_views_hold(mesh, cam_from_obj_mm, K, size_hw)
    for first in range(0, len(cam_from_obj_mm), VIEWS_AT_ONCE):
        poses = cam_from_obj_mm[first : first + VIEWS_AT_ONCE]
        cameras = np.tile(K, (len(poses), 1, 1))
        yield first, render(mesh, poses, cameras, size_hw, light=light, device=device, backend=backend)


def check_views_hold(
    mesh: Mesh, cam_from_obj_mm: Float64[np.ndarray, "v 4 4"], K: Float[np.ndarray, "3 3"], size_hw: tuple[int, int]
) -> None:
    """
    Raises:
        InputError: The mesh leaves a picture, or is too near to the camera.
    """
    vertices = mesh.vertices_mm.astype(np.float64)
    too_near = np.flatnonzero(nearest_vertex_mm(mesh, cam_from_obj_mm) < Z_NEAR_MM)
    if len(too_near):
        raise InputError(
            f"template view {too_near[0]}: the camera is inside the mesh; put it farther away (distance_mm)"
        )
    for view, pose in enumerate(cam_from_obj_mm):
        homogeneous = (vertices @ pose[:3, :3].T + pose[:3, 3]) @ np.asarray(K, np.float64).T
        pixels = homogeneous[:, :2] / homogeneous[:, 2:]
        low, high = pixels.min(0), pixels.max(0)
        if (low < -0.5).any() or (high > (size_hw[1] - 0.5, size_hw[0] - 0.5)).any():
            span = f"x {low[0]:.0f}..{high[0]:.0f}, y {low[1]:.0f}..{high[1]:.0f}"
            raise InputError(
                f"template view {view}: the mesh ({span} px) leaves the picture of {size_hw[1]} x {size_hw[0]} px; "
                "put the camera farther away (distance_mm), or leave the distance out: it then fits"
            )
