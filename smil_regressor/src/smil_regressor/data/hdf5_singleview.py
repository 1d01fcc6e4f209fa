"""The optimized single-view HDF5 layout: writer. `singleview_file` reads ours and SMILify's.

Cameras are written twice: as `fov`, `cam_rot`, `cam_trans` (PyTorch3D) for readers of the original layout, which
drop the principal point, and as `camera_intrinsics` (origin as in `pixels`) with everything.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from posecore.cameras import intrinsics_to_fov, opencv_to_pytorch3d
from posecore.data.hdf5 import Hdf5Writer
from posecore.data.images import encode_jpeg
from smil_regressor.data.hdf5_multiview import LAYOUT_VERSION
from smil_regressor.data.pixels import intrinsics_to_file, points_to_file, resize_intrinsics
from smil_regressor.data.sample import Sample


class SingleViewWriter:
    """Writes samples of one view in order; the file appears whole when `with` ends without an error.

    Args:
        joint_names: Of the body model, in the order of the samples' joints.
        target_resolution: Side of the square pictures in pixels.
        world_scale: Metres per unit of the samples' lengths; None: unknown.
        metadata: Further attributes, such as `backbone_name` or `min_visible_keypoints`.
    """

    def __init__(
        self,
        path: Path,
        *,
        joint_names: Sequence[str],
        num_betas: int,
        target_resolution: int,
        world_scale: float | None = None,
        smal_sha256: str | None = None,
        jpeg_quality: int = 95,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.joint_names, self.num_betas, self.resolution = tuple(joint_names), num_betas, target_resolution
        self.jpeg_quality = jpeg_quality
        optional = {"world_scale": world_scale, "smal_sha256": smal_sha256}
        self._metadata: dict[str, Any] = {
            "target_resolution": target_resolution,
            "backbone_name": "",
            "rotation_representation": "axis_angle",
            "silhouette_threshold": 0.0,
            "min_visible_keypoints": 0,
            "chunk_size": 8,
            "jpeg_quality": jpeg_quality,
            "jpeg_channels": "rgb",
            "layout_version": LAYOUT_VERSION,
            "joint_names": json.dumps(self.joint_names),
            **{name: value for name, value in optional.items() if value is not None},
            **(metadata or {}),
        }
        self._table = Hdf5Writer(path, blobs="vlen")

    def add(self, sample: Sample, jpegs: Sequence[bytes] | None = None) -> None:
        """Append a sample; `jpegs` holds its picture where it is encoded already.

        Raises:
            ValueError: The sample's sizes are not those of the file.
        """
        found = (*sample.images.shape[:3], sample.keypoints_px.shape[1], sample.betas.shape[0])
        expected = (1, self.resolution, self.resolution, len(self.joint_names), self.num_betas)
        if found != expected:
            raise ValueError(f"{sample.key}: views, height, width, joints, betas are {found}, the file has {expected}")
        jpeg = jpegs[0] if jpegs is not None else encode_jpeg(sample.images[0], self.jpeg_quality)
        self._table.append(
            {"images/rgb_jpeg": jpeg} | self._view_columns(sample) | _camera_columns(sample) | _body_columns(sample)
        )

    def __enter__(self) -> "SingleViewWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        rows = self._table.num_rows
        with self._table:  # leaves nothing behind where it is not finished
            if kind is None:
                self._table.finish(self._metadata | {"total_samples": rows, "statistics": {"processed_samples": rows}})

    def _view_columns(self, sample: Sample) -> dict[str, Any]:
        stored = np.full(2, float(self.resolution))
        return {
            "images/silhouette_masks": sample.masks.astype(np.uint8),
            "keypoints/keypoints_2d": points_to_file(sample.keypoints_px[0], stored).astype(np.float32),
            "keypoints/keypoint_visibility": sample.visibility[0].astype(np.float32),
            "auxiliary/has_mask": sample.has_mask[0],
            "auxiliary/image_size": np.round(sample.native_size_wh[0]).astype(np.int32),
            "auxiliary/original_paths": sample.key,
            "auxiliary/session_name": sample.session,
            "auxiliary/frame_idx": np.int32(sample.frame),
            "auxiliary/silhouette_coverage": np.float32(sample.masks.mean()),
            "auxiliary/visible_keypoints": np.int32((sample.visibility > 0).sum()),
        }


def _camera_columns(sample: Sample) -> dict[str, Any]:
    known = bool(sample.has_camera[0])
    size_wh = sample.native_size_wh[0].round().astype(np.float64)
    side = np.full(2, float(sample.images.shape[1]))
    K = resize_intrinsics(sample.K[0], side, size_wh) if known else np.eye(3)
    R_p3d, T_p3d = opencv_to_pytorch3d(torch.from_numpy(sample.cam_from_world[0]).double())
    fov_deg = 0.0
    if known:
        fov, _ = intrinsics_to_fov(torch.from_numpy(K), (int(size_wh[1]), int(size_wh[0])))
        fov_deg = float(fov)
    return {
        "parameters/camera_intrinsics": (intrinsics_to_file(K) if known else K).astype(np.float32),
        "parameters/fov": np.array([fov_deg], np.float32),
        "parameters/cam_rot": R_p3d.numpy().astype(np.float32),
        "parameters/cam_trans": T_p3d.numpy().astype(np.float32),
        "auxiliary/has_camera": np.bool_(known),
    }


def _body_columns(sample: Sample) -> dict[str, Any]:
    axis_angles = Rotation.from_matrix(sample.rotations).as_rotvec().astype(np.float32)
    known = sample.has_keypoints_world
    return {
        "keypoints/keypoints_3d": np.where(known[:, None], sample.keypoints_world, 0).astype(np.float32),
        "keypoints/has_keypoints_3d": known,
        "parameters/global_rot": axis_angles[0],
        "parameters/joint_rot": axis_angles[1:],
        "parameters/betas": sample.betas.astype(np.float32),
        "parameters/trans": sample.translation.astype(np.float32),
        "parameters/scale_weights": sample.log_scales.astype(np.float32),
        "parameters/trans_weights": sample.joint_offsets.astype(np.float32),
        "auxiliary/has_root_rotation": np.bool_(sample.has_root_rotation),
        "auxiliary/has_joint_rotations": np.bool_(sample.has_joint_rotations),
        "auxiliary/has_betas": np.bool_(sample.has_betas),
        "auxiliary/has_translation": np.bool_(sample.has_translation),
        "auxiliary/has_log_beta_scales": np.bool_(sample.has_log_scales),
        "auxiliary/has_betas_trans": np.bool_(sample.has_joint_offsets),
    }
