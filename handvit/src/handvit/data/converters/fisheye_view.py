"""Pinhole views into the pictures of FISHEYE624 cameras (Project Aria, Quest 3): with the same f and c, or on a hand.

A view shares the camera's centre; `view_from_cam_rot` turns it. Pixel centres at integers, in both pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from handvit.data.converters.annotation_json import entry, numbers, whole_number
from handvit.data.geometry import intrinsics_matrix, inverse_intrinsics, project, turn_to_box
from posecore.cameras import distort_pixels, undistort_pixels
from posecore.errors import InputError
from posecore.rotations import quaternion_wxyz_to_matrix

OUTSIDE = -10.0
"""Where nothing of the picture is: views are black there."""


@dataclass(frozen=True)
class FisheyeCamera:
    """As calibrated; pixels and metres."""

    size_wh: tuple[int, int]
    focal: Float[np.ndarray, "2"]
    princpt: Float[np.ndarray, "2"]
    lens: Float[np.ndarray, "12"]
    """k0..k5, p0, p1, s0..s3 of `posecore.cameras`' model fisheye624."""
    world_from_cam_rot: Float[np.ndarray, "3 3"]
    position_m: Float[np.ndarray, "3"]
    """Of its centre, in the world."""

    def to_cam_mm(self, points_world_mm: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return np.asarray((points_world_mm - self.position_m * 1000.0) @ self.world_from_cam_rot)

    def see(self, points_cam: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        """Pixels of the picture as it is; NaN for points beyond the lens's field."""
        ideal = project(np.where(points_cam[:, 2:] > 0, points_cam, [0.0, 0.0, 1.0]), self.focal, self.princpt)
        seen = distort_pixels(torch.from_numpy(ideal), *self._model(), "fisheye624").numpy()
        angle = np.arctan2(np.linalg.norm(points_cam[:, :2], axis=1), points_cam[:, 2])
        return np.asarray(np.where(angle[:, None] < field_limit(self.lens), seen, np.nan))

    def rays(self, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """(x, y) at depth 1 of what lies behind pixels of the picture; NaN where the lens sends nothing there."""
        ideal = undistort_pixels(torch.from_numpy(pixels), *self._model(), "fisheye624").numpy()
        return np.asarray((ideal - self.princpt) / self.focal)

    def _model(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.from_numpy(intrinsics_matrix(self.focal, self.princpt)), torch.from_numpy(self.lens)


@dataclass(frozen=True)
class PinholeView:
    """An ideal camera at the same place."""

    size_wh: tuple[int, int]
    focal: Float[np.ndarray, "2"]
    princpt: Float[np.ndarray, "2"]
    view_from_cam_rot: Float[np.ndarray, "3 3"]


@dataclass(frozen=True)
class HandCentred:
    """A square view turned to the middle of the hand's box, in each frame anew."""

    fov_deg: float = 60.0
    """Across the picture; a hand of 190 mm spans 50 degrees at 200 mm."""
    size: int = 512
    """Side, px."""

    def __post_init__(self) -> None:
        if not 0 < self.fov_deg < 170 or self.size < 16:
            raise InputError(
                f"hand-centred view: fov_deg {self.fov_deg}, size {self.size}; expected 0 < fov_deg < 170, size >= 16"
            )


def read_camera(content: Any, where: str) -> FisheyeCamera:
    """A stream's entry of FRAME.cameras.json.

    Raises:
        InputError: An entry is missing, or the lens is another model; names `where`.
    """
    calibration = entry(content, "calibration", where)
    pose = entry(content, "T_world_from_camera", where)
    model = str(entry(calibration, "projection_model_type", f"{where}.calibration"))
    if model.rpartition(".")[2] != "FISHEYE624":
        raise InputError(f"{where}.calibration.projection_model_type: {model!r}; expected CameraModelType.FISHEYE624")
    values = _parameters(entry(calibration, "projection_params", f"{where}.calibration"), where)
    quaternion = numbers(
        entry(pose, "quaternion_wxyz", f"{where}.T_world_from_camera"), (4,), f"{where}: quaternion_wxyz"
    )
    if abs(np.linalg.norm(quaternion) - 1) > 1e-3:
        raise InputError(
            f"{where}.T_world_from_camera.quaternion_wxyz: has length {np.linalg.norm(quaternion):.4g}, not 1"
        )
    width, height = (
        whole_number(entry(calibration, name, f"{where}.calibration"), f"{where}.calibration.{name}")
        for name in ("image_width", "image_height")
    )
    position = entry(pose, "translation_xyz", f"{where}.T_world_from_camera")
    return FisheyeCamera(
        size_wh=(width, height),
        focal=values[:2],
        princpt=values[2:4],
        lens=values[4:],
        world_from_cam_rot=quaternion_wxyz_to_matrix(torch.from_numpy(quaternion)).numpy(),
        position_m=numbers(position, (3,), f"{where}.T_world_from_camera.translation_xyz"),
    )


def _parameters(value: Any, where: str) -> Float[np.ndarray, "16"]:
    """fu, fv, cx, cy and the lens; files have one focal length or two."""
    count = len(value) if isinstance(value, Sequence) else 0
    if count not in (15, 16):
        raise InputError(f"{where}.calibration.projection_params: has {count} numbers; FISHEYE624 has 15 or 16")
    values = numbers(value, (count,), f"{where}.calibration.projection_params")
    return np.asarray(values if count == 16 else np.concatenate([values[:1], values]))


def field_limit(lens: Float[np.ndarray, "12"]) -> float:
    """Angle from the axis, radians, up to which rays farther out are seen farther out; the lens model ends there."""
    angle = np.linspace(0.0, np.pi / 2, 1800, endpoint=False)
    slope = 1.0 + sum((2 * i + 3) * k * angle ** (2 * i + 2) for i, k in enumerate(lens[:6]))
    folded = np.flatnonzero(slope <= 0)
    return float(angle[folded[0]] if len(folded) else angle[-1])


def same_view(camera: FisheyeCamera) -> PinholeView:
    """The picture without the lens: same size, f and c. What lies far from the axis gets lost."""
    return PinholeView(camera.size_wh, camera.focal, camera.princpt, np.eye(3))


def view_of_box(camera: FisheyeCamera, box: Float[np.ndarray, "4"], options: HandCentred) -> PinholeView | None:
    """The view whose axis goes through the box's middle; None where the lens sees nothing there."""
    middle = camera.rays(((box[:2] + box[2:]) / 2)[None])[0]
    if not np.isfinite(middle).all():
        return None
    rotation = turn_to_box(np.concatenate([middle, middle]), np.ones(2), np.zeros(2))
    focal = options.size / 2 / np.tan(np.radians(options.fov_deg) / 2)
    centre = (options.size - 1) / 2
    return PinholeView((options.size, options.size), np.full(2, focal), np.full(2, centre), rotation)


def source_map(camera: FisheyeCamera, view: PinholeView) -> Float[np.ndarray, "h w 2"]:
    """For each pixel of the view the place in the camera's picture that it shows, float32."""
    width, height = view.size_wh
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    pixels = np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3)
    rays_cam = pixels @ inverse_intrinsics(view.focal, view.princpt).T @ view.view_from_cam_rot
    seen = np.nan_to_num(camera.see(rays_cam), nan=OUTSIDE)
    return np.asarray(seen.reshape(height, width, 2), np.float32)


def look(
    picture: UInt8[np.ndarray, "h w *c"], source: Float[np.ndarray, "y x 2"], shrink: float
) -> UInt8[np.ndarray, "y x *c"]:
    """What the view shows. `shrink`: pixels of the picture a pixel of the view; above 2 they are smoothed first."""
    if shrink > 2:
        picture = cv2.GaussianBlur(picture, (0, 0), (shrink - 1) / 2)
    return np.asarray(cv2.remap(picture, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))
