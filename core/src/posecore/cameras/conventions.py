"""Cameras of OpenGL and PyTorch3D to OpenCV's and back."""

from jaxtyping import Float
from torch import Tensor

from posecore.cameras.transforms import rigid


def opengl_to_opencv(cam_from_world: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """Turn a camera with y up that looks along -z (OpenGL, Blender) into one with y down that looks along +z.

    The function is its own inverse. Convention: (0, 0, -2) in the OpenGL camera's frame is (0, 0, 2) in the OpenCV
    camera's.
    """
    return cam_from_world * cam_from_world.new_tensor([1.0, -1.0, -1.0, 1.0])[:, None]


def opencv_to_pytorch3d(
    cam_from_world: Float[Tensor, "*batch 4 4"],
) -> tuple[Float[Tensor, "*batch 3 3"], Float[Tensor, "*batch 3"]]:
    """R and T of PyTorch3D, which has x left, y up, z forward and row vectors: `x_view = x_world R + T`."""
    flip = cam_from_world.new_tensor([-1.0, -1.0, 1.0])
    return cam_from_world[..., :3, :3].mT * flip, cam_from_world[..., :3, 3] * flip


def pytorch3d_to_opencv(
    R_p3d: Float[Tensor, "*batch 3 3"], T_p3d: Float[Tensor, "*batch 3"]
) -> Float[Tensor, "*batch 4 4"]:
    """`cam_from_world` of a PyTorch3D camera.

    Its pixel centres are at +0.5: subtract 0.5 from the principal point of its intrinsics in pixels to get our K.
    Convention: R = I, T = (0, 0, 2) is diag(-1, -1, 1) with t = (0, 0, 2).
    """
    flip = R_p3d.new_tensor([-1.0, -1.0, 1.0])
    return rigid((R_p3d * flip).mT, T_p3d * flip)
