"""Calibrated cameras of a rig, and the `calibration.toml` that Anipose and SLEAP write."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int16, UInt8, UInt16

from posecore.cameras import undistort_pixels
from posecore.errors import InputError

Maps = tuple[Int16[np.ndarray, "h w 2"], UInt16[np.ndarray, "h w"]]
"""Where each pixel of an undistorted picture comes from: whole pixels, and 32nds of a pixel as OpenCV packs them."""


@dataclass(frozen=True)
class RigCamera:
    """One camera. OpenCV axes, pixel centres at integers, lengths in the unit of the calibration file."""

    name: str
    size_wh: tuple[int, int]
    K: Float[np.ndarray, "3 3"]
    distortion: Float[np.ndarray, " d"]
    """OpenCV's k1, k2, p1, p2, k3; for a fisheye lens k1..k4."""
    cam_from_world: Float[np.ndarray, "4 4"]
    fisheye: bool = False

    @property
    def projection(self) -> Float[np.ndarray, "3 4"]:
        """World points to undistorted homogeneous pixels."""
        return np.asarray(self.K @ self.cam_from_world[:3])

    @property
    def centre_world(self) -> Float[np.ndarray, " 3"]:
        """Position of the camera in the world."""
        return np.asarray(-self.cam_from_world[:3, :3].T @ self.cam_from_world[:3, 3])

    def project(self, points_world: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        """Undistorted pixels; NaN for points that are missing (NaN) or not in front of the camera."""
        homogeneous = points_world @ self.projection[:, :3].T + self.projection[:, 3]
        depth = np.where(homogeneous[:, 2:] > 0, homogeneous[:, 2:], np.nan)
        return np.asarray(homogeneous[:, :2] / depth)

    def undistort_points(self, pixels: Float[np.ndarray, "*batch 2"]) -> Float[np.ndarray, "*batch 2"]:
        """Where the points of the recorded picture lie in the undistorted one (same K).

        NaN stays NaN. NaN too where no ray hits the pixel: a radial polynomial reaches only so far out,
        and beyond it (the corners of some wide lenses) the calibration says nothing.
        """
        K = torch.tensor(self.K, dtype=torch.float64)
        skew = float(K[0, 1])
        K[0, 1] = 0  # OpenCV's lenses know no skew, its undistorted pictures have that of K
        flat = torch.from_numpy(pixels.reshape(-1, 2)).double()
        distortion = torch.from_numpy(self.distortion).double()
        straight = undistort_pixels(flat, K, distortion, "fisheye" if self.fisheye else "polynomial").numpy()
        straight[:, 0] += skew * (straight[:, 1] - self.K[1, 2]) / self.K[1, 1]
        return np.asarray(straight.reshape(pixels.shape))

    def undistortion_maps(self) -> Maps:
        """Maps for `undistort_image`; costly, so made once for each camera."""
        identity = np.eye(3)
        if self.fisheye:
            maps = cv2.fisheye.initUndistortRectifyMap(
                self.K, self.distortion, identity, self.K, self.size_wh, cv2.CV_16SC2
            )
        else:
            maps = cv2.initUndistortRectifyMap(self.K, self.distortion, identity, self.K, self.size_wh, cv2.CV_16SC2)
        return maps[0], maps[1]


def undistort_image(image: UInt8[np.ndarray, "h w 3"], maps: Maps) -> UInt8[np.ndarray, "h w 3"]:
    """The picture as a pinhole camera with the same K would have taken it; black where nothing was recorded."""
    return np.asarray(cv2.remap(image, maps[0], maps[1], cv2.INTER_LINEAR), dtype=np.uint8)


def read_calibration(path: Path) -> list[RigCamera]:
    """Cameras in the order of the file. All problems of the file are told at once."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a calibration.toml of Anipose or SLEAP is expected") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file ({error})") from None
    cameras: list[RigCamera] = []
    problems: list[str] = []
    for key, table in tables.items():
        if key == "metadata":
            continue
        try:
            cameras.append(_camera(f"{path}: {key}", table))
        except InputError as error:
            problems += error.problems
    names = [camera.name for camera in cameras]
    problems += [f"{path}: name: two cameras are called {name!r}" for name in set(names) if names.count(name) > 1]
    if not cameras and not problems:
        problems.append(f"{path}: no camera in it; tables [cam_0], [cam_1], ... are expected")
    if problems:
        raise InputError(problems)
    return cameras


def write_calibration(cameras: Sequence[RigCamera], path: Path) -> None:
    """Write cameras in the layout that `read_calibration` and Anipose read."""
    lines = []
    for index, camera in enumerate(cameras):
        rotation = cv2.Rodrigues(camera.cam_from_world[:3, :3])[0].ravel()
        name = camera.name.replace("\\", "\\\\").replace('"', '\\"')
        lines += [
            f"[cam_{index}]",
            f'name = "{name}"',
            f"size = {list(camera.size_wh)}",
            f"matrix = {camera.K.tolist()}",
            f"distortions = {camera.distortion.tolist()}",
            f"rotation = {rotation.tolist()}",
            f"translation = {camera.cam_from_world[:3, 3].tolist()}",
            *(["fisheye = true"] if camera.fisheye else []),
            "",
        ]
    path.write_text("\n".join([*lines, "[metadata]", ""]), encoding="utf-8")


def _camera(where: str, table: Any) -> RigCamera:
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: a table with name, size, matrix, ... is expected, this is {table!r}")
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}.name: a text is expected, this is {name!r}")
    fisheye = bool(table.get("fisheye", False))
    size = _numbers(f"{where}.size", table.get("size"), [(2,)])
    K = _numbers(f"{where}.matrix", table.get("matrix"), [(3, 3)])
    shapes: list[tuple[int, ...]] = [(4,)] if fisheye else [(4,), (5,), (8,), (12,), (14,)]
    distortion = _numbers(f"{where}.distortions", table.get("distortions"), shapes)
    rotation = _numbers(f"{where}.rotation", table.get("rotation"), [(3,)])
    translation = _numbers(f"{where}.translation", table.get("translation"), [(3,)])
    if min(size) < 1 or np.any(size != np.round(size)):
        raise InputError(f"{where}.size: [width, height] in whole pixels is expected, this is {size.tolist()}")
    if K[0, 0] <= 0 or K[1, 1] <= 0 or not np.array_equal(K[2], [0, 0, 1]):
        raise InputError(f"{where}.matrix: focal lengths above 0 and a last row [0, 0, 1] are expected: {K.tolist()}")
    cam_from_world = np.eye(4)
    cam_from_world[:3, :3] = cv2.Rodrigues(rotation)[0]
    cam_from_world[:3, 3] = translation
    return RigCamera(name, (int(size[0]), int(size[1])), K, distortion, cam_from_world, fisheye)


def _numbers(where: str, value: Any, shapes: list[tuple[int, ...]]) -> Float[np.ndarray, "..."]:
    expected = " or ".join("x".join(map(str, shape)) for shape in shapes)
    if value is None:
        raise InputError(f"{where}: missing; {expected} numbers are expected")
    try:
        numbers = np.array(value, dtype=np.float64)
    except (ValueError, TypeError):
        raise InputError(f"{where}: {expected} numbers are expected, this is {value!r}") from None
    if numbers.shape not in shapes or not np.isfinite(numbers).all():
        raise InputError(f"{where}: {expected} finite numbers are expected, this is {value!r}")
    return numbers
