"""The camera that templates are drawn with, and where it stands."""

import numpy as np
from jaxtyping import Float, Float64

from vpog.objects.mesh import Mesh, mesh_bounds_mm
from vpog.objects.rendering import Z_NEAR_MM

TEMPLATE_K: Float64[np.ndarray, "3 3"] = np.array([[572.4114, 0.0, 320.0], [0.0, 573.57043, 240.0], [0.0, 0.0, 1.0]])
"""Of every template of the public sets, which do not write it down."""
TEMPLATE_SIZE_HW = (480, 640)
DISTANCE_OVER_DIAGONAL = 2.0
"""Of the camera from the centre of the mesh's box, whose sphere then fills six tenths of the picture's height."""


def fit_distance_mm(mesh: Mesh) -> float:
    """From the centre of the mesh's box: twice its diagonal, as for the public templates of GSO and ShapeNet.

    The public templates of BOP all stand at 400 mm, where large objects are cut off.
    """
    low, high = mesh_bounds_mm(mesh)
    return DISTANCE_OVER_DIAGONAL * float(np.linalg.norm(high - low))


def template_poses(
    mesh: Mesh, rotations: Float[np.ndarray, "v 3 3"], distance_mm: float
) -> Float64[np.ndarray, "v 4 4"]:
    """cam_from_obj_mm with the centre of the mesh's box on the optical axis: t = (0, 0, distance) - R centre."""
    low, high = mesh_bounds_mm(mesh)
    poses = np.tile(np.eye(4), (len(rotations), 1, 1))
    poses[:, :3, :3] = rotations
    poses[:, :3, 3] = np.array([0.0, 0.0, distance_mm]) - rotations @ ((low + high) / 2)
    return poses


def nearest_vertex_mm(mesh: Mesh, cam_from_obj_mm: Float[np.ndarray, "v 4 4"]) -> Float64[np.ndarray, " v"]:
    """Least z of the mesh in each view."""
    vertices = mesh.vertices_mm.astype(np.float64)
    return np.array([(vertices @ pose[2, :3]).min() + pose[2, 3] for pose in cam_from_obj_mm])


__all__ = ["TEMPLATE_K", "TEMPLATE_SIZE_HW", "Z_NEAR_MM", "fit_distance_mm", "nearest_vertex_mm", "template_poses"]
