"""Which labels of a file are used, and in which order its joints come."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from posecore.errors import InputError
from smil_regressor.data.sample import Sample

CAMERA_LABELS = frozenset({"fov", "cam_rot", "cam_trans"})
ALL_LABELS = CAMERA_LABELS | {
    *("global_rot", "joint_rot", "betas", "trans", "log_beta_scales", "betas_trans"),
    *("keypoint_2d", "keypoint_3d", "silhouette"),
}
"""The names of `multi_dataset.datasets[].available_labels`."""


@dataclass(frozen=True)
class LabelRules:
    """What becomes of a sample's labels after reading.

    A camera counts as known only if all three of its labels are available.
    """

    order: Int[np.ndarray, " j"] | None
    """File's index of each joint of the model; None: the same order."""
    ignored: Bool[np.ndarray, " j"]
    """Joints whose 2D and 3D labels are dropped, in the model's order."""
    num_betas: int
    """Of the model; betas of another length are unavailable."""
    available: frozenset[str] = ALL_LABELS

    @staticmethod
    def between(
        where: str,
        file_names: tuple[str, ...] | None,
        num_joints: int,
        model_names: Sequence[str],
        num_betas: int,
        ignored: Collection[str] = (),
        available: Collection[str] = ALL_LABELS,
    ) -> "LabelRules":
        """Match a file with a model by the names of joints.

        Args:
            where: The file, for messages.
            file_names: None: the file has no names, and its joints are taken in the model's order.

        Raises:
            InputError: Joints differ, or an ignored one is unknown.
        """
        if file_names is None and num_joints != len(model_names):
            raise InputError(f"{where}: {num_joints} joints, but the body model has {len(model_names)}")
        order = None if file_names is None else match_joints(where, file_names, model_names)
        check_names("ignored_joints.ignored_joint_names", ignored, model_names)
        dropped = np.array([name in ignored for name in model_names], dtype=bool)
        unknown = set(available) - ALL_LABELS
        if unknown:
            raise ValueError(f"no such labels: {sorted(unknown)}; there are {sorted(ALL_LABELS)}")
        return LabelRules(order, dropped, num_betas, frozenset(available))

    @property
    def uses_masks(self) -> bool:
        return "silhouette" in self.available

    def apply(self, sample: Sample) -> Sample:
        """The sample in the model's order of joints, with unavailable labels flagged."""
        ordered = sample if self.order is None else _reordered(sample, self.order)
        has = self.available.__contains__
        kept = ~self.ignored
        betas, has_betas = self._betas(ordered)
        return replace(
            ordered,
            has_camera=ordered.has_camera & (self.available >= CAMERA_LABELS),
            visibility=(ordered.visibility * (kept & has("keypoint_2d"))).astype(np.float32),
            has_mask=ordered.has_mask & has("silhouette"),
            has_keypoints_world=ordered.has_keypoints_world & kept & has("keypoint_3d"),
            has_root_rotation=ordered.has_root_rotation and has("global_rot"),
            has_joint_rotations=ordered.has_joint_rotations and has("joint_rot"),
            betas=betas,
            has_betas=has_betas and has("betas"),
            has_translation=ordered.has_translation and has("trans"),
            has_log_scales=ordered.has_log_scales and has("log_beta_scales"),
            has_joint_offsets=ordered.has_joint_offsets and has("betas_trans"),
        )

    def _betas(self, sample: Sample) -> tuple[Float[np.ndarray, " c"], bool]:
        if len(sample.betas) == self.num_betas:
            return sample.betas, sample.has_betas
        return np.zeros(self.num_betas, np.float32), False


def match_joints(where: str, file_names: Sequence[str], model_names: Sequence[str]) -> Int[np.ndarray, " j"] | None:
    """File's index of each joint of the model; None where the orders agree.

    Raises:
        InputError: A name is on one side only.
    """
    if tuple(file_names) == tuple(model_names):
        return None
    extra = [name for name in file_names if name not in model_names]
    if extra:
        raise InputError(
            [f"{where}: joint {name!r} is not in the body model{close(name, model_names)}" for name in extra]
        )
    lacking = [name for name in model_names if name not in file_names]
    if lacking:
        raise InputError(f"{where}: the body model's joints {', '.join(lacking)} are missing")
    return np.array([list(file_names).index(name) for name in model_names])


def check_names(field: str, names: Collection[str], model_names: Sequence[str]) -> None:
    """Joint names given by a user must be in the model; each unknown one is told with its close matches."""
    unknown = [name for name in names if name not in model_names]
    if unknown:
        raise InputError(
            [f"{field}: no joint {name!r} in the body model{close(name, model_names)}" for name in unknown]
        )


def close(name: str, known: Sequence[str]) -> str:
    """`; did you mean a or b?`, or nothing."""
    matches = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""


def _reordered(sample: Sample, order: Int[np.ndarray, " j"]) -> Sample:
    return replace(
        sample,
        keypoints_px=sample.keypoints_px[:, order],
        visibility=sample.visibility[:, order],
        keypoints_world=sample.keypoints_world[order],
        has_keypoints_world=sample.has_keypoints_world[order],
        rotations=sample.rotations[order],
        log_scales=sample.log_scales[order],
        joint_offsets=sample.joint_offsets[order],
    )
