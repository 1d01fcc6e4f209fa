"""Frames of a Skel4D file: free views of one moving object at one moment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import torch
from jaxtyping import Float64, UInt8

from keypoint_nvs.data.clips import natural
from posecore.cameras import opengl_to_opencv
from posecore.errors import InputError

Up = Literal["y", "z"]
IMAGE = "_image"
Y_UP_FROM_Z_UP = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64)


@dataclass(frozen=True)
class Skel4DFrame:
    """All views of one group OBJECT/FRAME."""

    views: tuple[str, ...]
    """Names, in natural order."""
    cam_from_world: Float64[np.ndarray, "n 4 4"]
    """OpenCV axes, z up, the file's unit."""
    joints_world: Float64[np.ndarray, "j 3"] | None


class Skel4DFile:
    """`<view>_image` (H, W, 4) float RGBA 0..1 and `<view>_camera` (3, 4) OpenGL world to camera, of each frame.

    Raises:
        InputError: No HDF5 file, or one without groups OBJECT/FRAME.
    """

    def __init__(self, path: Path, up: Up = "z") -> None:
        self.path, self.up = path, up
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise InputError(f"{path}: not a whole HDF5 file ({str(error).splitlines()[0]})") from None
        self.ids = tuple(
            f"{name}/{frame}"
            for name, item in self._file.items()
            if _is_group(item, f"{path}: {name}")
            for frame in sorted(item, key=natural)
        )
        if not self.ids:
            raise InputError(f"{path}: has no groups OBJECT/FRAME")

    def read(self, index: int, *, with_joints: bool = False) -> Skel4DFrame:
        """Cameras of a frame.

        Raises:
            InputError: A key is missing or of another shape; names frame and key.
        """
        group, where = self._group(index)
        views = tuple(sorted((key.removesuffix(IMAGE) for key in group if key.endswith(IMAGE)), key=natural))
        if not views:
            raise InputError(f"{where}: has no <view>_image")
        cameras = np.stack([_array(group, f"{view}_camera", (3, 4), where) for view in views])
        joints = _joints(group, where) if with_joints else None
        padded = np.concatenate([cameras, np.broadcast_to(np.array([[[0.0, 0, 0, 1]]]), (len(views), 1, 4))], 1)
        poses = opengl_to_opencv(torch.from_numpy(padded)).numpy()
        if self.up == "y":
            poses = poses @ Y_UP_FROM_Z_UP
            joints = None if joints is None else joints @ Y_UP_FROM_Z_UP[:3, :3]
        return Skel4DFrame(views, poses, joints)

    def picture(self, index: int, view: str) -> UInt8[np.ndarray, "4 h w"]:
        """A view as bytes.

        Raises:
            InputError: Not (H, W, 4), or values beyond 0..1; names frame and key.
        """
        group, where = self._group(index)
        key = f"{view}{IMAGE}"
        rgba = np.asarray(group[key][()])
        if rgba.ndim != 3 or rgba.shape[2] != 4 or rgba.dtype.kind != "f":
            raise InputError(f"{where}: {key}: is {rgba.dtype} {rgba.shape}, expected floats (height, width, 4)")
        if not (np.isfinite(rgba).all() and rgba.min() >= 0 and rgba.max() <= 1):
            raise InputError(f"{where}: {key}: values go from {rgba.min():g} to {rgba.max():g}, expected 0 to 1")
        return np.ascontiguousarray(np.rint(rgba * 255.0).astype(np.uint8).transpose(2, 0, 1))

    def _group(self, index: int) -> tuple[Any, str]:
        where = f"{self.path}: {self.ids[index]}"
        group = self._file[self.ids[index]]
        _is_group(group, where)
        return group, where


def _array(group: Any, key: str, shape: tuple[int, ...], where: str) -> Float64[np.ndarray, "*shape"]:
    if key not in group:
        raise InputError(f"{where}: {key} is missing")
    values = np.asarray(group[key][()], np.float64)
    if values.shape != shape or not np.isfinite(values).all():
        raise InputError(f"{where}: {key}: shape is {values.shape}, expected {shape} of finite numbers")
    return values


def _joints(group: Any, where: str) -> Float64[np.ndarray, "j 3"]:
    if "joints" not in group:
        raise InputError(f"{where}: joints is missing")
    joints = np.asarray(group["joints"][()], np.float64)
    if joints.ndim != 2 or joints.shape[1] != 3 or not len(joints):
        raise InputError(f"{where}: joints: shape is {joints.shape}, expected (joints, 3)")
    return joints


def _is_group(item: Any, where: str) -> bool:
    if not isinstance(item, h5py.Group):
        raise InputError(f"{where}: is a dataset; Skel4D files have groups OBJECT/FRAME")
    return True
