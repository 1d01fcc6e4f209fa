"""Reads multi-view HDF5 files: ours and those in SMILify's original layout (`hdf5_multiview` has the names)."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from posecore.data.hdf5 import Hdf5Reader
from posecore.errors import InputError
from smil_regressor.data.pictures import read_mask, read_picture
from smil_regressor.data.pixels import intrinsics_from_file, points_from_file, resize_intrinsics
from smil_regressor.data.pose_file import (
    WorldFrame,
    check_cameras,
    finite,
    joint_names_of,
    json_list,
    known_points,
    labelled_points,
    world_frame_of,
    world_scale_of,
)
from smil_regressor.data.sample import Sample

FRAME_SAMPLES = 32
"""So many samples tell the frame of a file that does not say it."""
IMAGES, KEYPOINTS = "multiview_images", "multiview_keypoints"


class MultiViewFile:
    """A multi-view file of n samples; shapes are checked here, numbers when a sample is read.

    Original files tell neither which views are calibrated nor the unit: a view with K = I counts as uncalibrated,
    and lengths stay in the file's unit unless `world_scale` (metres per unit) is given.
    """

    def __init__(self, path: Path, world_scale: float | None = None) -> None:
        self.table = table = Hdf5Reader(path)
        self.view_mask: Bool[np.ndarray, "n v"] = self._small(f"{IMAGES}/view_mask", (None, None)).astype(bool)
        n, v = self.view_mask.shape
        _, _, self.num_joints, _ = table.shape(table.require(f"{KEYPOINTS}/keypoints_2d", shape=(n, v, None, 2)))
        _, self.num_betas = table.shape(table.require("parameters/betas", shape=(n, None)))
        self._require_columns(n, v)
        self.joint_names = joint_names_of(table, self.num_joints)
        self.world_scale = world_scale_of(table, world_scale)
        self.camera_order = self._camera_order()
        self.slots: Int[np.ndarray, "n v"] = self._slots(n, v)
        self.sessions = table.texts(table.require("auxiliary/session_name", shape=(n,)))
        self.frames: Int[np.ndarray, " n"] = self._small("auxiliary/frame_idx", (n,)).astype(np.int64)
        self.sizes_wh: Int[np.ndarray, "n v 2"] = self._sizes(n, v)
        self.has_masks = f"{IMAGES}/mask_png_view_0" in table
        self.has_3d = f"{KEYPOINTS}/keypoints_3d" in table
        self._flags = {name: self._small(name, shape).astype(bool) for name, shape in self._flag_shapes(n, v).items()
                       if name in table}  # fmt: skip
        self._calibrated = table.attribute("has_camera_parameters") in (True, None)
        self.world_frame: WorldFrame = world_frame_of(table) or self._found_frame()

    def __len__(self) -> int:
        return len(self.view_mask)

    def read(
        self, index: int, views: Int[np.ndarray, " k"], resolution: int, pictures: bool = True, masks: bool = True
    ) -> Sample:
        """These views of a sample at a square resolution; without pictures, images and masks are 0 x 0.

        Without `masks` none is decoded, and `has_mask` is False.

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
            native_size_wh=self.sizes_wh[index, views].astype(np.float32),
            **self._pictures(key, index, views, resolution if pictures else 0, masks),
            **self._cameras(key, index, views, resolution),
            **self._keypoints(index, views, resolution),
            **self._body(key, index),
        )

    def _small(self, name: str, shape: tuple[int | None, ...]) -> Any:
        return self.table.column(self.table.require(name, shape=shape))

    def _require_columns(self, n: int, v: int) -> None:
        j = self.num_joints
        self.table.require(f"{KEYPOINTS}/keypoint_visibility", shape=(n, v, j))
        self.table.require(f"{KEYPOINTS}/camera_intrinsics", shape=(n, v, 3, 3))
        self.table.require(f"{KEYPOINTS}/camera_extrinsics_R", shape=(n, v, 3, 3))
        self.table.require(f"{KEYPOINTS}/camera_extrinsics_t", shape=(n, v, 3))
        self.table.require("parameters/global_rot", shape=(n, 3))
        self.table.require("parameters/joint_rot", shape=(n, j, 3))
        self.table.require("parameters/trans", shape=(n, 3))
        if f"{KEYPOINTS}/keypoints_3d" in self.table:
            self.table.require(f"{KEYPOINTS}/keypoints_3d", shape=(n, j, 3))
        for view in range(v):
            self.table.require(f"{IMAGES}/image_jpeg_view_{view}", shape=(n,))

    def _flag_shapes(self, n: int, v: int) -> dict[str, tuple[int, ...]]:
        """Which labels a sample has: small columns that are kept in memory."""
        names = ("has_ground_truth_pose", "has_root_rotation", "has_ground_truth_betas", "has_translation",
                 "has_log_beta_scales", "has_betas_trans")  # fmt: skip
        return {f"auxiliary/{name}": (n,) for name in names} | {
            "auxiliary/has_camera": (n, v),
            f"{KEYPOINTS}/has_keypoints_3d": (n, self.num_joints),
        }

    def _camera_order(self) -> tuple[str, ...]:
        text = self.table.attribute("canonical_camera_order")
        if text is None:
            raise InputError(f"{self.table.path}: metadata.canonical_camera_order: missing; views cannot be named")
        return tuple(json_list(self.table, "canonical_camera_order", text))

    def _slots(self, n: int, v: int) -> Int[np.ndarray, "n v"]:
        slots = self._small(f"{KEYPOINTS}/camera_indices", (n, v)).astype(np.int64)
        wrong = self.view_mask & ((slots < 0) | (slots >= len(self.camera_order)))
        if wrong.any():
            sample, view = (int(i) for i in np.argwhere(wrong)[0])
            raise InputError(
                f"{self.table.path}[{sample}]: {KEYPOINTS}/camera_indices: view {view} has {slots[sample, view]}, "
                f"but canonical_camera_order has {len(self.camera_order)} names"
            )
        return np.where(self.view_mask, slots, -1)

    def _sizes(self, n: int, v: int) -> Int[np.ndarray, "n v 2"]:
        sizes: Int[np.ndarray, "n v 2"] = self._small(f"{KEYPOINTS}/image_sizes", (n, v, 2)).astype(np.int64)
        wrong = self.view_mask & (sizes <= 0).any(-1)
        if wrong.any():
            sample, view = (int(i) for i in np.argwhere(wrong)[0])
            raise InputError(
                f"{self.table.path}[{sample}]: {KEYPOINTS}/image_sizes: view {view} has "
                f"{sizes[sample, view].tolist()}, width and height must be positive"
            )
        return sizes

    def _pictures(
        self, key: str, index: int, views: Int[np.ndarray, " k"], resolution: int, with_masks: bool
    ) -> dict[str, Any]:
        images = np.zeros((len(views), resolution, resolution, 3), np.uint8)
        masks = np.zeros((len(views), resolution, resolution), bool)
        has_mask = np.zeros(len(views), bool)
        for slot, view in enumerate(views):
            name = f"{IMAGES}/image_jpeg_view_{view}"
            if resolution and self.view_mask[index, view]:
                images[slot] = read_picture(self.table.blob(name, index), f"{key}: {name}", resolution)
            if self.has_masks and with_masks:
                name = f"{IMAGES}/mask_png_view_{view}"
                data = self.table.blob(name, index)
                has_mask[slot] = len(data) > 0
                if resolution and has_mask[slot]:
                    masks[slot] = read_mask(data, f"{key}: {name}", resolution)
        return {"images": images, "masks": masks, "has_mask": has_mask}

    def _cameras(self, key: str, index: int, views: Int[np.ndarray, " k"], resolution: int) -> dict[str, Any]:
        row = self.table.row
        K = row(f"{KEYPOINTS}/camera_intrinsics", index)[views].astype(np.float64)
        R = row(f"{KEYPOINTS}/camera_extrinsics_R", index)[views].astype(np.float64)
        t = row(f"{KEYPOINTS}/camera_extrinsics_t", index)[views].astype(np.float64)
        known = self._known(index, views, K)
        check_cameras(f"{key}: {KEYPOINTS}", K[known], R[known], t[known])
        sizes = np.maximum(self.sizes_wh[index, views], 1).astype(np.float64)
        K = resize_intrinsics(intrinsics_from_file(K), sizes, np.full_like(sizes, resolution))
        cameras = np.tile(np.eye(4), (len(views), 1, 1))
        cameras[known, :3, :3] = R[known]
        cameras[known, :3, 3] = t[known] * (self.world_scale or 1.0)
        K = np.where(known[:, None, None], K, np.eye(3))
        return {"K": K.astype(np.float32), "cam_from_world": cameras.astype(np.float32), "has_camera": known}

    def _known(self, index: int, views: Int[np.ndarray, " k"], K: Float[np.ndarray, "k 3 3"]) -> Bool[np.ndarray, " k"]:
        """Which of these views are calibrated."""
        placeholder = (np.eye(3) == K).all((1, 2))
        known = self.view_mask[index, views] & ~placeholder & self._calibrated
        if "auxiliary/has_camera" in self._flags:
            known &= self._flags["auxiliary/has_camera"][index, views]
        return np.asarray(known)

    def _found_frame(self) -> WorldFrame:
        """Original files do not say their frame: it is that of the first view where its camera always is the identity."""
        row, views = self.table.row, np.arange(self.view_mask.shape[1])
        found = []
        for index in np.unique(np.linspace(0, len(self) - 1, min(len(self), FRAME_SAMPLES)).round().astype(int)):
            known = self._known(index, views, row(f"{KEYPOINTS}/camera_intrinsics", index))
            if known.any():
                R, t = (row(f"{KEYPOINTS}/camera_extrinsics_{part}", index)[known.argmax()] for part in ("R", "t"))
                found.append(np.abs(R - np.eye(3)).max() < 1e-5 and np.abs(t).max() < 1e-5)
        return "first_view" if found and all(found) else "world"

    def _keypoints(self, index: int, views: Int[np.ndarray, " k"], resolution: int) -> dict[str, Any]:
        row = self.table.row
        yx01 = row(f"{KEYPOINTS}/keypoints_2d", index)[views].astype(np.float64)
        visibility = row(f"{KEYPOINTS}/keypoint_visibility", index)[views] * self.view_mask[index, views][:, None]
        visibility = labelled_points(yx01, visibility)
        pixels = points_from_file(yx01, np.full((len(views), 2), float(resolution)))
        points, known = np.zeros((self.num_joints, 3)), np.zeros(self.num_joints, bool)
        if self.has_3d:
            flags = self._flags.get(f"{KEYPOINTS}/has_keypoints_3d")
            points = row(f"{KEYPOINTS}/keypoints_3d", index)
            points, known = known_points(points, None if flags is None else flags[index])
        return {
            "keypoints_px": np.where(np.isfinite(yx01), pixels, 0.0).astype(np.float32),
            "visibility": visibility.astype(np.float32),
            "keypoints_world": (points * (self.world_scale or 1.0)).astype(np.float32),
            "has_keypoints_world": known,
        }

    def _body(self, key: str, index: int) -> dict[str, Any]:
        pose = self._flag("has_ground_truth_pose", index)
        rooted = self._flag("has_root_rotation", index, pose)
        flags = {
            "betas": self._flag("has_ground_truth_betas", index),
            "translation": self._flag("has_translation", index, pose),
            "log_scales": self._flag("has_log_beta_scales", index),
            "joint_offsets": self._flag("has_betas_trans", index),
        }
        columns = {
            "betas": "betas",
            "translation": "trans",
            "log_scales": "log_beta_scales",
            "joint_offsets": "betas_trans",
        }
        limbs = (self.num_joints, 3)
        sizes = {"betas": (self.num_betas,), "translation": (3,), "log_scales": limbs, "joint_offsets": limbs}
        values = {
            name: self._parameter(key, columns[name], index) if flags[name] else np.zeros(size, np.float32)
            for name, size in sizes.items()
        }
        values["translation"] = values["translation"] * np.float32(self.world_scale or 1.0)
        return {
            "rotations": self._rotations(key, index, rooted, pose),
            "has_root_rotation": rooted,
            "has_joint_rotations": pose,
            **values,
            **{f"has_{name}": flag for name, flag in flags.items()},
        }

    def _rotations(self, key: str, index: int, rooted: bool, posed: bool) -> Float[np.ndarray, "j 3 3"]:
        axis_angles = np.zeros((self.num_joints, 3))
        if posed:
            axis_angles[1:] = self._parameter(key, "joint_rot", index)[1:]
        if rooted:
            axis_angles[0] = self._parameter(key, "global_rot", index)
        return np.asarray(Rotation.from_rotvec(axis_angles).as_matrix(), np.float32)

    def _parameter(self, key: str, name: str, index: int) -> Float[np.ndarray, "..."]:
        return np.asarray(finite(key, f"parameters/{name}", self.table.row(f"parameters/{name}", index)), np.float32)

    def _flag(self, name: str, index: int, otherwise: bool = False) -> bool:
        column = self._flags.get(f"auxiliary/{name}")
        return otherwise if column is None else bool(column[index])
