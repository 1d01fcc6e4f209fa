"""Reads optimized single-view HDF5 files: ours and those in SMILify's original layout.

What the original layout does not say is taken as its writer does it: 6D rotations are "rows", cameras are PyTorch3D
with the optical axis in the middle of a square picture, red and blue are swapped in the JPEG (its RGB went to an
encoder for BGR), and every sample has its camera and pose parameters.
"""

from pathlib import Path, PurePosixPath
from typing import Any, cast, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from posecore.bodymodel import BodyModel, pca_limbs
from posecore.cameras import fov_to_intrinsics, pytorch3d_to_opencv
from posecore.data.hdf5 import Hdf5Reader
from posecore.errors import InputError
from posecore.rotations import Layout, axis_angle_to_matrix, rotation_6d_to_matrix
from smil_regressor.data.pictures import read_picture, stretch_mask
from smil_regressor.data.pixels import intrinsics_from_file, points_from_file, resize_intrinsics
from smil_regressor.data.pose_file import (
    WorldFrame,
    check_cameras,
    finite,
    joint_names_of,
    known_points,
    labelled_points,
    world_scale_of,
)
from smil_regressor.data.sample import Sample

ALIASES = {
    "rgb": ("images/rgb_jpeg", "images/image_jpeg"),
    "masks": ("images/silhouette_masks", "images/mask"),
    "log_scales": ("parameters/scale_weights", "parameters/log_beta_scales"),
    "joint_offsets": ("parameters/trans_weights", "parameters/betas_trans"),
    "paths": ("auxiliary/original_paths", "auxiliary/original_path"),
}


class SingleViewFile:
    """A single-view file of n samples; shapes are checked here, numbers when a sample is read.

    Args:
        world_scale: Metres per unit of the file's lengths, where the file does not say it.
        body: Turns PCA weights of limbs (n, c), as original files hold them, into scales and offsets of joints;
            without it, or with another number of components, they count as unavailable.
    """

    camera_order: tuple[str, ...] = ("camera",)
    world_frame: WorldFrame = "world"

    def __init__(self, path: Path, world_scale: float | None = None, body: BodyModel | None = None) -> None:
        self.table = table = Hdf5Reader(path)
        n, self.num_joints, _ = table.shape(table.require("keypoints/keypoints_2d", shape=(None, None, 2)))
        _, self.num_betas = table.shape(table.require("parameters/betas", shape=(n, None)))
        self._rgb = table.require(*ALIASES["rgb"], shape=(n,))
        self._masks = table.find(*ALIASES["masks"])
        self._limbs = {name: table.find(*ALIASES[name]) for name in ("log_scales", "joint_offsets")}
        self._require_columns(n)
        self._rotation_width = table.shape("parameters/joint_rot")[2]
        self._layout = _rot6d_layout(table)
        self.body = body
        self.is_original = table.attribute("layout_version") is None
        self.joint_names = joint_names_of(table, self.num_joints)
        self.world_scale = world_scale_of(table, world_scale)
        self.view_mask: Bool[np.ndarray, "n 1"] = np.ones((n, 1), bool)
        self.slots: Int[np.ndarray, "n 1"] = np.zeros((n, 1), np.int64)
        self.sessions, self.frames = self._sessions(n), self._frames(n)

    def __len__(self) -> int:
        return len(self.view_mask)

    def read(
        self, index: int, views: Int[np.ndarray, " k"], resolution: int, pictures: bool = True, masks: bool = True
    ) -> Sample:
        """The sample at a square resolution; `views` is [0]. Without pictures, images and masks are 0 x 0.

        Without `masks` none is read, and `has_mask` is False.

        Raises:
            InputError: The sample is damaged.
        """
        key = f"{self.table.path}[{index}]"
        return Sample(
            key=key,
            session=self.sessions[index],
            frame=int(self.frames[index]),
            view_mask=self.view_mask[index, views],
            camera_slots=self.slots[index, views],
            **self._picture(key, index, resolution if pictures else 0, masks),
            **self._camera(key, index, resolution),
            **self._keypoints(index, resolution),
            **self._pose(key, index),
            **self._limb_values(key, index),
        )

    def _require_columns(self, n: int) -> None:
        require, j = self.table.require, self.num_joints
        require("keypoints/keypoint_visibility", shape=(n, j))
        require("keypoints/keypoints_3d", shape=(n, j, 3))
        width = self.table.shape(require("parameters/joint_rot", shape=(n, j - 1, None)))[2]
        if width not in (3, 6):
            raise InputError(f"{self.table.path}: parameters/joint_rot: 3 or 6 numbers a joint, found {width}")
        require("parameters/global_rot", shape=(n, width))
        for name, shape in (("fov", (n, 1)), ("cam_rot", (n, 3, 3)), ("cam_trans", (n, 3)), ("trans", (n, 3))):
            require(f"parameters/{name}", shape=shape)
        if self._masks is not None:
            require(self._masks, shape=(n, 1, None, None))

    def _sessions(self, n: int) -> list[str]:
        """Original files have none: the folder that a sample came from stands for it."""
        if "auxiliary/session_name" in self.table:
            return self.table.texts("auxiliary/session_name")
        paths = self.table.find(*ALIASES["paths"])
        if paths is None:
            return [self.table.path.stem] * n
        return [str(PurePosixPath(p.replace("\\", "/")).parent) for p in self.table.texts(paths)]

    def _frames(self, n: int) -> Int[np.ndarray, " n"]:
        name = "auxiliary/frame_idx"
        return np.asarray(self.table.column(name)) if name in self.table else np.arange(n)

    def _picture(self, key: str, index: int, resolution: int, with_mask: bool) -> dict[str, Any]:
        image = np.zeros((resolution, resolution, 3), np.uint8)
        mask = np.zeros((resolution, resolution), bool)
        if resolution:
            image = read_picture(self.table.blob(self._rgb, index), f"{key}: {self._rgb}", resolution)
            if self.is_original and self.table.attribute("jpeg_channels") is None:
                image = np.ascontiguousarray(image[..., ::-1])
        has_mask = False
        if self._masks is not None and with_mask:
            stored = self.table.row(self._masks, index)[0] > 0
            has_mask = self._flag("has_mask", index, bool(stored.any()))
            if resolution and has_mask:
                mask = stretch_mask(stored, resolution)
        return {"images": image[None], "masks": mask[None], "has_mask": np.array([has_mask])}

    def _camera(self, key: str, index: int, resolution: int) -> dict[str, Any]:
        known = self._flag("has_camera", index, True)
        R_p3d = np.asarray(self.table.row("parameters/cam_rot", index), np.float64)
        T_p3d = np.asarray(self.table.row("parameters/cam_trans", index), np.float64)
        native, K = self._intrinsics(index, resolution) if known else (self._native(index, resolution), np.eye(3))
        camera = np.eye(4)
        if known:
            check_cameras(f"{key}: parameters", K[None], R_p3d[None], T_p3d[None])
            camera = pytorch3d_to_opencv(torch.from_numpy(R_p3d), torch.from_numpy(T_p3d)).numpy().copy()
            camera[:3, 3] *= self.world_scale or 1.0
            K = resize_intrinsics(K, native, np.full(2, float(resolution)))
        return {
            "K": K[None].astype(np.float32),
            "cam_from_world": camera[None].astype(np.float32),
            "has_camera": np.array([known]),
            "native_size_wh": native[None].astype(np.float32),
        }

    def _native(self, index: int, resolution: int) -> Float[np.ndarray, " 2"]:
        name = "auxiliary/image_size"
        if name in self.table:
            return np.asarray(self.table.row(name, index), np.float64)
        return np.full(2, float(self.table.attribute("target_resolution") or resolution))

    def _intrinsics(self, index: int, resolution: int) -> tuple[Float[np.ndarray, " 2"], Float[np.ndarray, "3 3"]]:
        native, name = self._native(index, resolution), "parameters/camera_intrinsics"
        if name in self.table:
            return native, intrinsics_from_file(np.asarray(self.table.row(name, index), np.float64))
        fov_deg = torch.as_tensor(float(self.table.row("parameters/fov", index)[0]), dtype=torch.float64)
        return native, fov_to_intrinsics(fov_deg, (int(native[1]), int(native[0]))).numpy()

    def _keypoints(self, index: int, resolution: int) -> dict[str, Any]:
        row = self.table.row
        yx01 = row("keypoints/keypoints_2d", index).astype(np.float64)
        visibility = labelled_points(yx01, row("keypoints/keypoint_visibility", index))
        pixels = points_from_file(yx01, np.full(2, float(resolution)))
        flags = "keypoints/has_keypoints_3d"
        points, known = known_points(
            row("keypoints/keypoints_3d", index), row(flags, index) if flags in self.table else None
        )
        return {
            "keypoints_px": np.where(np.isfinite(yx01), pixels, 0.0).astype(np.float32)[None],
            "visibility": visibility.astype(np.float32)[None],
            "keypoints_world": (points * (self.world_scale or 1.0)).astype(np.float32),
            "has_keypoints_world": known,
        }

    def _pose(self, key: str, index: int) -> dict[str, Any]:
        row = self.table.row
        stored = np.concatenate([row("parameters/global_rot", index)[None], row("parameters/joint_rot", index)])
        rotations = self._matrices(finite(key, "parameters/joint_rot", stored.astype(np.float64)))
        betas = finite(key, "parameters/betas", row("parameters/betas", index))
        translation = finite(key, "parameters/trans", row("parameters/trans", index)) * (self.world_scale or 1.0)
        return {
            "rotations": rotations.astype(np.float32),
            "has_root_rotation": self._flag("has_root_rotation", index, True),
            "has_joint_rotations": self._flag("has_joint_rotations", index, True),
            "betas": betas.astype(np.float32),
            "has_betas": self._flag("has_betas", index, True),
            "translation": translation.astype(np.float32),
            "has_translation": self._flag("has_translation", index, True),
        }

    def _matrices(self, stored: Float[np.ndarray, "j d"]) -> Float[np.ndarray, "j 3 3"]:
        values = torch.from_numpy(stored)
        if self._rotation_width == 3:
            return np.asarray(axis_angle_to_matrix(values).numpy())
        return np.asarray(rotation_6d_to_matrix(values, self._layout).numpy())

    def _limb_values(self, key: str, index: int) -> dict[str, Any]:
        """Scales and offsets as (j, 3), or from PCA weights through the body model; all zero means no label."""
        stored = {name: None if path is None else np.asarray(self.table.row(path, index), np.float32)
                  for name, path in self._limbs.items()}  # fmt: skip
        direct = (self.num_joints, 3)
        if all(value is not None and value.ndim == 1 for value in stored.values()):
            stored = self._from_components(stored)
        values: dict[str, Any] = {}
        for name, flag in (("log_scales", "has_log_beta_scales"), ("joint_offsets", "has_betas_trans")):
            value = stored[name]
            usable = value is not None and value.shape == direct
            kept = finite(key, name, value) if usable else np.zeros(direct, np.float32)
            values |= {name: kept, f"has_{name}": usable and self._flag(flag, index, bool(kept.any()))}
        return values

    def _from_components(self, weights: dict[str, Any]) -> dict[str, Any]:
        body = self.body
        if body is None or body.scaledirs is None or any(len(w) != len(body.scaledirs) for w in weights.values()):
            return dict.fromkeys(weights)
        if not any(w.any() for w in weights.values()):
            return dict.fromkeys(weights)
        scales, offsets = (torch.from_numpy(weights[name])[None] for name in ("log_scales", "joint_offsets"))
        log_scales, joint_offsets = pca_limbs(body, scales, offsets)
        return {"log_scales": log_scales[0].numpy(), "joint_offsets": joint_offsets[0].numpy()}

    def _flag(self, name: str, index: int, otherwise: bool) -> bool:
        path = f"auxiliary/{name}"
        return bool(self.table.row(path, index)) if path in self.table else otherwise


def _rot6d_layout(table: Hdf5Reader) -> Layout:
    stored = table.attribute("rot6d_convention")
    if stored is None:
        return "rows"
    if stored not in get_args(Layout):
        raise InputError(
            f"{table.path}: metadata.rot6d_convention: {stored!r}; {', '.join(get_args(Layout))} are known"
        )
    return cast(Layout, stored)
