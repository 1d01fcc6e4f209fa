"""Sources of samples for training and evaluation, on top of the files' readers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from posecore.errors import InputError
from smil_regressor.data.labels import LabelRules, close
from smil_regressor.data.pose_file import PoseFile, WorldFrame
from smil_regressor.data.sample import Sample

FrameConvention = Literal["model_centric", "camera_centric"]

TURN = np.diag([-1.0, -1.0, 1.0])
"""Half a turn about the optical axis: OpenCV's x right, y down to PyTorch3D's x left, y up."""


@runtime_checkable
class PoseSource(Protocol):
    """What this package asks of a source beyond loading."""

    sessions: list[str]
    frames: Int[np.ndarray, " n"]
    view_slots: int
    """Views of each sample, absent ones included."""
    camera_order: tuple[str, ...]
    resolution: int
    world_scale: float | None
    world_frame: WorldFrame

    def __len__(self) -> int: ...

    def load(self, index: int, rng: np.random.Generator) -> Sample: ...

    def labels(self, index: int) -> Sample:
        """The sample with all its views and without pictures (images and masks 0 x 0)."""
        ...


class MultiViewSource:
    """Frames with several views.

    Args:
        resolution: Side of the square input in pixels; pictures are stretched to it, K and keypoints with them.
        rules: From `LabelRules.between`.
        camera_order: Canonical names that the network knows, in which the file's cameras are found by name; None: the
            file's own.
        num_views: At most so many views a sample, drawn anew each time; None: all.
        min_views: Frames with fewer valid views are left out; `left_out` counts them.
        view_slots: Views of each sample, absent ones included; None: as many as this source can give.
    """

    def __init__(
        self,
        file: PoseFile,
        resolution: int,
        rules: LabelRules,
        *,
        camera_order: Sequence[str] | None = None,
        num_views: int | None = None,
        min_views: int = 1,
        view_slots: int | None = None,
    ) -> None:
        self.file, self.resolution, self.rules, self.num_views = file, resolution, rules, num_views
        self.world_scale, self.world_frame = file.world_scale, file.world_frame
        self.camera_order = tuple(camera_order or file.camera_order)
        self._slot_of = slot_mapping(str(file.table.path), file.camera_order, self.camera_order)
        valid = file.view_mask.sum(1)
        self.rows: Int[np.ndarray, " n"] = np.flatnonzero(valid >= max(min_views, 1))
        self.left_out = len(valid) - len(self.rows)
        if not len(self.rows):
            raise InputError(f"{file.table.path}: no sample has {min_views} views; lower min_views_per_sample")
        most = int(valid.max())
        self.view_slots = view_slots or (min(most, num_views) if num_views else most)
        self.sessions = [file.sessions[row] for row in self.rows]
        self.frames: Int[np.ndarray, " n"] = file.frames[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def load(self, index: int, rng: np.random.Generator) -> Sample:
        """The sample with its drawn views, in the order of the file, padded to `view_slots`."""
        views = np.flatnonzero(self.file.view_mask[self.rows[index]])
        if self.num_views is not None and len(views) > self.num_views:
            views = np.sort(rng.choice(views, self.num_views, replace=False))
        if len(views) > self.view_slots:
            raise ValueError(f"{len(views)} views do not fit in {self.view_slots} slots; set num_views")
        sample = self._read(index, views, pictures=True)
        return replace(pad_views(sample, self.view_slots), augment_seed=int(rng.integers(2**63)))

    def labels(self, index: int) -> Sample:
        """All valid views without pictures, not padded."""
        return self._read(index, np.flatnonzero(self.file.view_mask[self.rows[index]]), pictures=False)

    def _read(self, index: int, views: Int[np.ndarray, " k"], pictures: bool) -> Sample:
        row = int(self.rows[index])
        sample = self.rules.apply(self.file.read(row, views, self.resolution, pictures, self.rules.uses_masks))
        return replace(sample, camera_slots=self._slot_of[sample.camera_slots])


class SingleViewSource:
    """One view a sample, of a single-view file, or of a multi-view file taken apart.

    Args:
        expand_all_views: Each valid view of a frame is a sample; else only the first one.
        frame_convention: camera_centric puts the world into the camera (y up, x left, as PyTorch3D's identity
            camera has it); samples then need a calibrated camera. Translations place the root joint.
        camera_order: As in `MultiViewSource`; it names the views, a single-view network does not use it.
    """

    view_slots = 1

    def __init__(
        self,
        file: PoseFile,
        resolution: int,
        rules: LabelRules,
        *,
        expand_all_views: bool = True,
        frame_convention: FrameConvention = "model_centric",
        camera_order: Sequence[str] | None = None,
    ) -> None:
        self.file, self.resolution, self.rules = file, resolution, rules
        self.frame_convention = frame_convention
        self.world_scale, self.world_frame = file.world_scale, file.world_frame
        self.camera_order = tuple(camera_order or file.camera_order)
        self._slot_of = slot_mapping(str(file.table.path), file.camera_order, self.camera_order)
        self.items: Int[np.ndarray, "n 2"] = np.argwhere(file.view_mask)
        if not expand_all_views:
            self.items = self.items[np.unique(self.items[:, 0], return_index=True)[1]]
        if not len(self.items):
            raise InputError(f"{file.table.path}: no sample has a view")
        self.sessions = [file.sessions[row] for row in self.items[:, 0]]
        self.frames: Int[np.ndarray, " n"] = file.frames[self.items[:, 0]]

    def __len__(self) -> int:
        return len(self.items)

    def load(self, index: int, rng: np.random.Generator) -> Sample:
        return replace(self._read(index, pictures=True), augment_seed=int(rng.integers(2**63)))

    def labels(self, index: int) -> Sample:
        """The sample without pictures."""
        return self._read(index, pictures=False)

    def _read(self, index: int, pictures: bool) -> Sample:
        row, view = (int(i) for i in self.items[index])
        sample = self.file.read(row, np.array([view]), self.resolution, pictures, self.rules.uses_masks)
        if self.file.view_mask.shape[1] > 1:
            sample = replace(sample, key=f"{sample.key}[view {view}]")
        sample = self.rules.apply(sample)
        sample = replace(sample, camera_slots=self._slot_of[sample.camera_slots])
        return camera_centric(sample) if self.frame_convention == "camera_centric" else sample


def camera_centric(sample: Sample) -> Sample:
    """The same single-view sample with the camera's frame, turned y up, as its world.

    X' = Z (R X + t) and cam_from_world' = Z with Z = diag(-1, -1, 1). The root's rotation turns with the world.

    Raises:
        InputError: The view is not calibrated.
    """
    if not sample.has_camera.all():
        raise InputError(
            f"{sample.key}: no calibrated camera, which frame_convention camera_centric needs; use model_centric"
        )
    R: Float[np.ndarray, "3 3"] = TURN @ sample.cam_from_world[0, :3, :3]
    t = TURN @ sample.cam_from_world[0, :3, 3]
    moved = sample.keypoints_world @ R.T + t
    rotations = np.array(sample.rotations)
    rotations[0] = R @ rotations[0]
    camera = np.eye(4)
    camera[:3, :3] = TURN
    return replace(
        sample,
        cam_from_world=camera[None].astype(np.float32),
        keypoints_world=np.where(sample.has_keypoints_world[:, None], moved, 0).astype(np.float32),
        rotations=rotations.astype(np.float32),
        translation=(R @ sample.translation + t).astype(np.float32),
    )


def slot_mapping(where: str, names: Sequence[str], order: Sequence[str]) -> Int[np.ndarray, " s"]:
    """Index in `order` of each of the file's cameras, by name; the last entry, which -1 finds, is -1.

    Raises:
        InputError: A camera is not in `order`.
    """
    unknown = [name for name in names if name not in order]
    if unknown:
        known = ", ".join(order)
        raise InputError(
            [f"{where}: camera {name!r} is not one of the network's ({known}){close(name, order)}" for name in unknown]
        )
    return np.array([*(list(order).index(name) for name in names), -1], dtype=np.int64)


def canonical_camera_order(files: Sequence[PoseFile]) -> tuple[str, ...]:
    """Sorted union of the cameras' names."""
    return tuple(sorted({name for file in files for name in file.camera_order}))


def pad_views(sample: Sample, slots: int) -> Sample:
    """Append absent views: zeros, identity cameras, slot -1, all flags False."""
    extra = slots - len(sample.view_mask)
    if extra <= 0:
        return sample
    identity = {"K": np.eye(3, dtype=np.float32), "cam_from_world": np.eye(4, dtype=np.float32)}
    padded: dict[str, Any] = {}
    for name in ("images", "view_mask", "K", "cam_from_world", "has_camera", "native_size_wh", "keypoints_px",
                 "visibility", "masks", "has_mask", "camera_slots"):  # fmt: skip
        values: np.ndarray = getattr(sample, name)
        filler: Float[np.ndarray, "..."] | Bool[np.ndarray, "..."] = np.zeros((extra, *values.shape[1:]), values.dtype)
        if name in identity:
            filler = np.tile(identity[name], (extra, 1, 1))
        elif name == "camera_slots":
            filler = np.full(extra, -1, values.dtype)
        padded[name] = np.concatenate([values, filler])
    return replace(sample, **padded)
