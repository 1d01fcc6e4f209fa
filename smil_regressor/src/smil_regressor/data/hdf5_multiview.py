"""The multi-view HDF5 layout: writer, and reader of our files and of those made by SMILify.

Names, axes and dtypes are SMILify's; see `pixels` for the origin of its picture coordinates. Ours add masks, which
views are calibrated, which 3D joints are known, limb parameters and, in `metadata`, `layout_version`, `joint_names`,
`world_scale`, `world_frame`, `smal_sha256` and `rot6d_convention`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.spatial.transform import Rotation

from posecore.data.hdf5 import Hdf5Writer
from posecore.data.images import encode_jpeg
from smil_regressor.data.pictures import encode_mask
from smil_regressor.data.pixels import intrinsics_to_file, points_to_file, resize_intrinsics
from smil_regressor.data.pose_file import WorldFrame
from smil_regressor.data.sample import Sample

LAYOUT_VERSION = 2
"""1: SMILify's own files, which do not say so."""
DATASET_TYPE = "sleap_multiview"

Rot6dConvention = Literal["interleaved", "rows", "columns"]


class MultiViewWriter:
    """Writes samples in order; the file appears whole when `with` ends without an error.

    Args:
        joint_names: Of the body model, in the order of the samples' joints.
        max_views: View slots of a sample.
        canonical_camera_order: Names that `Sample.camera_slots` points into.
        target_resolution: Side of the square pictures in pixels.
        world_scale: Metres per unit of the samples' lengths; None: unknown.
        world_frame: See `pose_file.WorldFrame`.
        smal_sha256: Of the body model's file.
        metadata: Further attributes, such as `crop_mode` or `frame_skip`.
    """

    def __init__(
        self,
        path: Path,
        *,
        joint_names: Sequence[str],
        num_betas: int,
        max_views: int,
        canonical_camera_order: Sequence[str],
        target_resolution: int,
        world_scale: float | None = None,
        world_frame: WorldFrame = "world",
        smal_sha256: str | None = None,
        rot6d_convention: Rot6dConvention = "interleaved",
        jpeg_quality: int = 95,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if any("," in name for name in canonical_camera_order):
            raise ValueError(f"camera names must hold no comma, the layout joins them by it: {canonical_camera_order}")
        self.joint_names, self.camera_order = tuple(joint_names), tuple(canonical_camera_order)
        self.num_betas, self.max_views, self.resolution = num_betas, max_views, target_resolution
        self.jpeg_quality, self.world_frame = jpeg_quality, world_frame
        self._any_camera, self._any_3d, self._sessions = False, False, set[str]()
        self._metadata = self._static_metadata(world_scale, smal_sha256, rot6d_convention) | dict(metadata or {})
        self._table = Hdf5Writer(path, blobs="vlen")

    def add(self, sample: Sample, jpegs: Sequence[bytes] | None = None) -> None:
        """Append a sample; `jpegs` are its views' pictures where they are encoded already (empty where there is none).

        Raises:
            ValueError: The sample's sizes are not those of the file.
        """
        self._check(sample)
        if jpegs is None:
            jpegs = [
                encode_jpeg(image, self.jpeg_quality) if present else b""
                for image, present in zip(sample.images, sample.view_mask, strict=True)
            ]
        masks = [encode_mask(m) if h else b"" for m, h in zip(sample.masks, sample.has_mask, strict=True)]
        row = {f"multiview_images/image_jpeg_view_{v}": jpeg for v, jpeg in enumerate(jpegs)}
        row |= {f"multiview_images/mask_png_view_{v}": mask for v, mask in enumerate(masks)}
        self._table.append(row | self._view_columns(sample) | _body_columns(sample))
        self._any_camera |= bool(sample.has_camera.any())
        self._any_3d |= bool(sample.has_keypoints_world.any())
        self._sessions.add(sample.session)

    def __enter__(self) -> "MultiViewWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        with self._table:  # leaves nothing behind where it is not finished
            if kind is None:
                self._table.finish(self._metadata | self._final_metadata())

    def _check(self, sample: Sample) -> None:
        found = (*sample.images.shape[:3], sample.keypoints_px.shape[1], sample.betas.shape[0])
        expected = (self.max_views, self.resolution, self.resolution, len(self.joint_names), self.num_betas)
        if found != expected:
            raise ValueError(f"{sample.key}: views, height, width, joints, betas are {found}, the file has {expected}")
        if sample.camera_slots.max(initial=-1) >= len(self.camera_order):
            raise ValueError(f"{sample.key}: camera slots {sample.camera_slots} exceed {self.camera_order}")

    def _view_columns(self, sample: Sample) -> dict[str, Any]:
        native = np.round(sample.native_size_wh).astype(np.float64)
        stored = np.full_like(native, self.resolution)
        K = intrinsics_to_file(resize_intrinsics(sample.K, stored, native))
        K = np.where(sample.has_camera[:, None, None], K, np.eye(3))
        names = [self.camera_order[slot] for slot in sample.camera_slots if slot >= 0]
        return {
            "multiview_images/view_mask": sample.view_mask,
            "multiview_keypoints/keypoints_2d": points_to_file(sample.keypoints_px, stored).astype(np.float32),
            "multiview_keypoints/keypoint_visibility": sample.visibility.astype(np.float32),
            "multiview_keypoints/camera_indices": sample.camera_slots.astype(np.int32),
            "multiview_keypoints/camera_intrinsics": K.astype(np.float32),
            "multiview_keypoints/camera_extrinsics_R": sample.cam_from_world[:, :3, :3].astype(np.float32),
            "multiview_keypoints/camera_extrinsics_t": sample.cam_from_world[:, :3, 3].astype(np.float32),
            "multiview_keypoints/image_sizes": native.astype(np.int32),
            "auxiliary/has_camera": sample.has_camera,
            "auxiliary/num_views": np.int32(sample.view_mask.sum()),
            "auxiliary/camera_names": ",".join(names),
        }

    def _static_metadata(self, world_scale: float | None, sha256: str | None, convention: str) -> dict[str, Any]:
        optional = {"world_scale": world_scale, "smal_sha256": sha256}
        return {
            "max_views": self.max_views,
            "n_joints": len(self.joint_names),
            "n_pose": len(self.joint_names) - 1,
            "n_betas": self.num_betas,
            "target_resolution": self.resolution,
            "backbone_name": "",
            "jpeg_quality": self.jpeg_quality,
            "crop_mode": "default",
            "dataset_type": DATASET_TYPE,
            "is_multiview": True,
            "min_views_per_sample": 1,
            "frame_skip": 1,
            "canonical_camera_order": json.dumps(self.camera_order),
            "undistort_images": True,
            "used_reprojections": False,
            "keypoints_3d_joint_order": "smal",
            "layout_version": LAYOUT_VERSION,
            "joint_names": json.dumps(self.joint_names),
            "world_frame": self.world_frame,
            "rot6d_convention": convention,
            **{name: value for name, value in optional.items() if value is not None},
        }

    def _final_metadata(self) -> dict[str, Any]:
        return {
            "num_samples": self._table.num_rows,
            "has_camera_parameters": self._any_camera,
            "has_3d_keypoints": self._any_3d,
            "load_3d_data": self._any_3d,
            "statistics": json.dumps({"sessions": len(self._sessions), "samples": self._table.num_rows}),
        }


def _body_columns(sample: Sample) -> dict[str, Any]:
    axis_angles = Rotation.from_matrix(sample.rotations).as_rotvec().astype(np.float32)
    known = sample.has_keypoints_world
    return {
        "multiview_keypoints/keypoints_3d": np.where(known[:, None], sample.keypoints_world, 0).astype(np.float32),
        "multiview_keypoints/has_keypoints_3d": known,
        "parameters/global_rot": axis_angles[0],
        "parameters/joint_rot": axis_angles,
        "parameters/betas": sample.betas.astype(np.float32),
        "parameters/trans": sample.translation.astype(np.float32),
        "parameters/log_beta_scales": sample.log_scales.astype(np.float32),
        "parameters/betas_trans": sample.joint_offsets.astype(np.float32),
        "auxiliary/session_name": sample.session,
        "auxiliary/frame_idx": np.int32(sample.frame),
        "auxiliary/has_3d_data": np.bool_(known.any()),
        "auxiliary/has_ground_truth_betas": np.bool_(sample.has_betas),
        "auxiliary/has_ground_truth_pose": np.bool_(sample.has_joint_rotations),
        "auxiliary/has_root_rotation": np.bool_(sample.has_root_rotation),
        "auxiliary/has_translation": np.bool_(sample.has_translation),
        "auxiliary/has_log_beta_scales": np.bool_(sample.has_log_scales),
        "auxiliary/has_betas_trans": np.bool_(sample.has_joint_offsets),
    }
