"""What a training set looks like in numbers: where a network starts from, and the best answer that sees no picture."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from smil_regressor.data.sample import Sample
from smil_regressor.data.source import PoseSource

ENOUGH = 512
"""Samples that settle a median to a few per cent."""


@dataclass(frozen=True)
class DatasetStatistics:
    """Medians and means over training samples, each over the samples that have it; None where none has.

    Lengths are in the world's unit, pixels those of the square input.
    """

    num_samples: int
    fov_y_deg: float | None
    """Median vertical field of view."""
    camera_distance: float | None
    """Median distance from a camera to the middle of the 3D keypoints (to the world's origin where there are none)."""
    rig_scale: float | None
    """Median distance of a rig's cameras from their centre; 0 with one camera."""
    body_extent: float | None
    """Median diagonal of the box around a sample's 3D keypoints."""
    translation: Float[np.ndarray, " 3"] | None
    """Median place of the body."""
    rotations: Float[np.ndarray, "j 3 3"] | None
    """Mean local rotations, root first (chordal mean)."""
    betas: Float[np.ndarray, " c"] | None
    log_scales: Float[np.ndarray, "j 3"] | None
    joint_offsets: Float[np.ndarray, "j 3"] | None


@dataclass(frozen=True)
class ConstantAnswer:
    """The mean of the training labels: what a network must beat.

    Joints that no sample has are NaN, and so are views that none has in `keypoints_01`.
    """

    keypoints_world: Float[np.ndarray, "j 3"]
    """Mean 3D keypoints, in the world's frame and unit."""
    keypoints_01: Float[np.ndarray, "s j 2"]
    """Mean x, y of each canonical view slot in shares of the picture, from its corner."""

    def keypoints_px(
        self, camera_slots: Int[np.ndarray, "*batch v"], resolution: int
    ) -> Float[np.ndarray, "*batch v j 2"]:
        """The constant 2D answer for these view slots in input pixels."""
        return np.asarray(self.keypoints_01[camera_slots] * resolution - 0.5)


def sampled_labels(source: PoseSource, limit: int = ENOUGH) -> list[Sample]:
    """Labels of at most `limit` samples, evenly spread over the source."""
    count = len(source)
    chosen = np.unique(np.linspace(0, count - 1, min(limit, count)).round().astype(int))
    return [source.labels(int(index)) for index in chosen]


def dataset_statistics(source: PoseSource, limit: int = ENOUGH) -> DatasetStatistics:
    """Statistics over at most `limit` samples, evenly spread."""
    samples = sampled_labels(source, limit)
    return DatasetStatistics(
        num_samples=len(samples),
        fov_y_deg=_median([fov for s in samples for fov in _fields_of_view(s, source.resolution)]),
        camera_distance=_median([d for s in samples for d in _distances(s)]),
        rig_scale=_median([_rig_radius(s) for s in samples if s.has_camera.any()]),
        body_extent=_median([_extent(s) for s in samples if s.has_keypoints_world.sum() > 1]),
        translation=_middle([s.translation for s in samples if s.has_translation]),
        rotations=_mean_rotations(samples),
        betas=_mean([s.betas for s in samples if s.has_betas]),
        log_scales=_mean([s.log_scales for s in samples if s.has_log_scales]),
        joint_offsets=_mean([s.joint_offsets for s in samples if s.has_joint_offsets]),
    )


def constant_answer(source: PoseSource, limit: int = ENOUGH) -> ConstantAnswer:
    """Means of 2D and 3D keypoints over at most `limit` samples, evenly spread.

    Raises:
        InputError: No sample has a labelled keypoint.
    """
    samples = sampled_labels(source, limit)
    joints = samples[0].keypoints_world.shape[0]
    points, known = np.stack([s.keypoints_world for s in samples]), np.stack([s.has_keypoints_world for s in samples])
    cells = (len(source.camera_order), joints)
    flat, seen = np.zeros((*cells, 2)), np.zeros(cells, dtype=np.int64)
    for sample in samples:
        labelled = (sample.visibility > 0) & sample.view_mask[:, None]
        shares = (sample.keypoints_px + 0.5) / source.resolution
        np.add.at(flat, sample.camera_slots, np.where(labelled[..., None], shares, 0))
        np.add.at(seen, sample.camera_slots, labelled)
    if not seen.any() and not known.any():
        raise InputError(
            "the training set has neither 2D nor 3D keypoints, so there is no constant answer to compare with"
        )
    return ConstantAnswer(
        keypoints_world=_share(np.where(known[..., None], points, 0).sum(0), known.sum(0)),
        keypoints_01=_share(flat, seen),
    )


def _share(total: Float[np.ndarray, "*shape d"], count: Int[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape d"]:
    counted: Bool[np.ndarray, "*shape 1"] = (count > 0)[..., None]
    return np.where(counted, total / np.maximum(count, 1)[..., None], np.nan)


def _fields_of_view(sample: Sample, resolution: int) -> list[float]:
    focal = sample.K[sample.has_camera, 1, 1].astype(np.float64)
    return list(np.degrees(2 * np.arctan(resolution / (2 * focal))))


def _centres(sample: Sample) -> Float[np.ndarray, "k 3"]:
    cameras = sample.cam_from_world[sample.has_camera].astype(np.float64)
    return np.asarray(-np.einsum("kji,kj->ki", cameras[:, :3, :3], cameras[:, :3, 3]))


def _distances(sample: Sample) -> list[float]:
    known = sample.has_keypoints_world
    middle = sample.keypoints_world[known].mean(0) if known.any() else np.zeros(3)
    return list(np.linalg.norm(_centres(sample) - middle, axis=1))


def _rig_radius(sample: Sample) -> float:
    centres = _centres(sample)
    return float(np.linalg.norm(centres - centres.mean(0), axis=1).mean())


def _extent(sample: Sample) -> float:
    return float(np.linalg.norm(np.ptp(sample.keypoints_world[sample.has_keypoints_world], axis=0)))


def _mean_rotations(samples: list[Sample]) -> Float[np.ndarray, "j 3 3"] | None:
    """Root and other joints are averaged over the samples that have them; a part that none has is the identity."""
    posed = [s.rotations[1:] for s in samples if s.has_joint_rotations]
    rooted = [s.rotations[:1] for s in samples if s.has_root_rotation]
    if not posed and not rooted:
        return None
    mean = np.tile(np.eye(3), (samples[0].rotations.shape[0], 1, 1))
    if posed:
        mean[1:] = _chordal_mean(np.stack(posed))
    if rooted:
        mean[:1] = _chordal_mean(np.stack(rooted))
    return mean


def _chordal_mean(rotations: Float[np.ndarray, "n j 3 3"]) -> Float[np.ndarray, "j 3 3"]:
    joints = rotations.shape[1]
    return np.stack([Rotation.from_matrix(rotations[:, j]).mean().as_matrix() for j in range(joints)])


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def _middle(values: list[Float[np.ndarray, "..."]]) -> Float[np.ndarray, "..."] | None:
    return np.median(np.stack(values), axis=0) if values else None


def _mean(values: list[Float[np.ndarray, "..."]]) -> Float[np.ndarray, "..."] | None:
    return np.stack(values).mean(0) if values else None
