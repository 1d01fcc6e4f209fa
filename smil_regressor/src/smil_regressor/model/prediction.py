"""What the networks take and give."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from posecore.cameras import fov_to_intrinsics, intrinsics_to_fov, opencv_to_pytorch3d, pytorch3d_to_opencv
from smil_regressor.model.camera_head import FovCameras
from smil_regressor.model.state import BodyParameters


@runtime_checkable
class ViewInputs(Protocol):
    """The part of a batch that the networks read: `smil_regressor.data.sample.Batch`, or `Views`."""

    @property
    def images(self) -> Tensor: ...
    @property
    def view_mask(self) -> Tensor: ...
    @property
    def camera_slots(self) -> Tensor: ...
    @property
    def K(self) -> Tensor: ...
    @property
    def cam_from_world(self) -> Tensor: ...
    @property
    def has_camera(self) -> Tensor: ...
    @property
    def native_size_wh(self) -> Tensor: ...


@dataclass(frozen=True)
class Views:
    """Inputs without targets; fields as in `smil_regressor.data.sample.Batch`."""

    images: UInt8[Tensor, "b v h w 3"] | Float[Tensor, "b v h w 3"]
    view_mask: Bool[Tensor, "b v"]
    camera_slots: Int[Tensor, "b v"]
    K: Float[Tensor, "b v 3 3"]
    cam_from_world: Float[Tensor, "b v 4 4"]
    has_camera: Bool[Tensor, "b v"]
    native_size_wh: Float[Tensor, "b v 2"]

    @classmethod
    def uncalibrated(
        cls, images: Tensor, view_mask: Tensor | None = None, camera_slots: Tensor | None = None
    ) -> "Views":
        """Images alone: all views valid, slots in order, square pixels."""
        b, v, h, w = images.shape[:4]
        where = images.device
        return cls(
            images=images,
            view_mask=torch.ones(b, v, dtype=torch.bool, device=where) if view_mask is None else view_mask,
            camera_slots=torch.arange(v, device=where).expand(b, v) if camera_slots is None else camera_slots,
            K=torch.eye(3, device=where).expand(b, v, 3, 3),
            cam_from_world=torch.eye(4, device=where).expand(b, v, 4, 4),
            has_camera=torch.zeros(b, v, dtype=torch.bool, device=where),
            native_size_wh=torch.tensor([w, h], dtype=torch.float32, device=where).expand(b, v, 2),
        )


@dataclass(frozen=True)
class Prediction(BodyParameters):
    """Body and cameras of b animals in v views. Values of masked views have no meaning, but are finite."""

    fov_deg: Float[Tensor, "b v"]
    """Vertical field of view."""
    cam_from_world: Float[Tensor, "b v 4 4"]
    K: Float[Tensor, "b v 3 3"]
    view_mask: Bool[Tensor, "b v"]
    camera_slots: Int[Tensor, "b v"]
    history: tuple[BodyParameters, ...]
    """The body after each IEF iteration; the last is this prediction's."""
    nonfinite: Int[Tensor, ""]
    """How many predicted values were not finite and were left at their previous value; anything but 0 is a fault."""

    def to_dict(self) -> dict[str, Any]:
        """The published model's output names, with cameras in PyTorch3D's convention."""
        R, T = opencv_to_pytorch3d(self.cam_from_world)
        num_views = self.fov_deg.shape[1]
        out = body_to_dict(self) | {"fov": self.fov_deg[:, :1], "cam_rot": R[:, 0], "cam_trans": T[:, 0]}
        if num_views > 1:
            out |= {
                "fov_per_view": [self.fov_deg[:, i : i + 1] for i in range(num_views)],
                "cam_rot_per_view": list(R.unbind(1)),
                "cam_trans_per_view": list(T.unbind(1)),
                "num_views": num_views,
                "view_mask": self.view_mask,
                "camera_indices": self.camera_slots,
            }
        return out | {"iteration_history": [body_to_dict(body) for body in self.history]}


def body_to_dict(body: BodyParameters) -> dict[str, Any]:
    out = {
        "global_rot": body.rotation_params[:, 0],
        "joint_rot": body.rotation_params[:, 1:],
        "betas": body.betas,
        "trans": body.translation,
    }
    limbs = {"log_beta_scales": body.log_scales, "betas_trans": body.joint_offsets}
    mesh_scale = None if body.mesh_scale is None else body.mesh_scale[:, None]
    return out | {name: value for name, value in (limbs | {"mesh_scale": mesh_scale}).items() if value is not None}


def known_cameras(views: ViewInputs) -> FovCameras:
    """The given cameras in the heads' convention; meaningless where `has_camera` is False."""
    R, T = opencv_to_pytorch3d(views.cam_from_world)
    fov, _ = intrinsics_to_fov(views.K, (views.images.shape[2], views.images.shape[3]))
    return FovCameras(fov, R, T)


def place_cameras(cameras: FovCameras, views: ViewInputs) -> tuple[Tensor, Tensor]:
    """OpenCV extrinsics and K. The pixels' aspect and the principal point are those of the known K; without one the
    pixels were square before the picture was resized, and the axis goes through the centre."""
    size = (views.images.shape[2], views.images.shape[3])
    _, known_aspect = intrinsics_to_fov(views.K, size)
    native = views.native_size_wh
    aspect = torch.where(views.has_camera, known_aspect, native[..., 0] / native[..., 1])
    K = fov_to_intrinsics(cameras.fov_deg, size, aspect)
    centre = torch.where(views.has_camera[..., None], views.K[..., :2, 2], K[..., :2, 2])
    K = torch.cat([torch.cat([K[..., :2, :2], centre[..., None]], dim=-1), K[..., 2:, :]], dim=-2)
    return pytorch3d_to_opencv(cameras.R, cameras.T), K
