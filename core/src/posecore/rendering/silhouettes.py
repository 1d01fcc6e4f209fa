"""Two silhouettes with gradients for mask losses.

`edge_silhouette` is the one to fit with: it is the hard mask with its border at the true place between pixels. The
soft one is what SMAL and SMIL fits were published with; its alpha is above one half outside the outline, so a fit to
a hard mask shrinks the mesh.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from posecore.rendering import _edge, _soft
from posecore.rendering._hard import nearest_faces
from posecore.rendering._screen import Z_NEAR, check_scene, nan_where_broken, project_vertices
from posecore.rendering._topology import topology_of
from posecore.rendering.backends import Backend, check_backend


def soft_silhouette(
    vertices_cam: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    K: Float[Tensor, "b 3 3"],
    size: tuple[int, int],
    sigma: float = 1e-4,
    backend: Backend = "warp",
    *,
    z_near: float = Z_NEAR,
) -> Float[Tensor, "b h w"]:
    """Alpha 0 to 1 with SoftRas's blur (Liu et al., ICCV 2019), as PyTorch3D's SoftSilhouetteShader computes it.

    `sigma` is in squared NDC units (2 NDC = the shorter side): 1e-4 blurs over 3.4 pixels at 224, 7.8 at 512. All
    faces of a pixel count, not only the nearest 50 or 100 (backend "pytorch3d": the nearest 100). Gradients reach the
    vertices within the blur only.
    """
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}, must be above 0")
    check_scene(vertices_cam, faces, K, size)
    check_backend(backend, vertices_cam.dtype)
    pixels, depth = project_vertices(vertices_cam, K, z_near)
    if backend == "warp":
        from posecore.rendering import _warp_ops

        log: Tensor = _warp_ops.soft_log_transparency(pixels, depth.detach(), faces, size[0], size[1], sigma, z_near)
    elif backend == "pytorch3d":
        from posecore.rendering import _pytorch3d

        log = _pytorch3d.soft_log_transparency(pixels, depth, faces, size, sigma, z_near)
    else:
        topology_of(faces, pixels.shape[1])  # checks the indices
        log = _soft.soft_log_transparency(pixels, depth.detach(), faces, size, sigma, z_near)
    return -torch.expm1(log) + nan_where_broken(pixels)[:, None, None]


def edge_silhouette(
    vertices_cam: Float[Tensor, "b v 3"],
    faces: Int64[Tensor, "f 3"],
    K: Float[Tensor, "b 3 3"],
    size: tuple[int, int],
    backend: Backend = "warp",
    *,
    z_near: float = Z_NEAR,
) -> Float[Tensor, "b h w"]:
    """The hard mask, antialiased analytically: a border pixel holds how much of the way to its neighbour is covered.

    Only outline pixels carry gradient. Alpha leaves 0 to 1 a little in gaps of one pixel: clamp it to [eps, 1 - eps]
    for a cross entropy.
    """
    check_scene(vertices_cam, faces, K, size)
    check_backend(backend, vertices_cam.dtype)
    pixels, depth = project_vertices(vertices_cam, K, z_near)
    depth = depth.detach()
    if backend == "warp":
        from posecore.rendering import _warp_ops

        alpha: Tensor = _warp_ops.edge_alpha(pixels, depth, faces, size[0], size[1], z_near)[0]
    else:
        topology_of(faces, pixels.shape[1])  # checks the indices
        if backend == "pytorch3d":
            from posecore.rendering import _pytorch3d

            covered = _pytorch3d.rasterize(pixels.detach(), depth, faces, size, z_near)[0] >= 0
        else:
            covered = nearest_faces(pixels, depth, faces, size, z_near) >= 0
        alpha = _edge.edge_alpha(pixels, depth, faces, covered, z_near)
    return alpha + nan_where_broken(pixels)[:, None, None]
