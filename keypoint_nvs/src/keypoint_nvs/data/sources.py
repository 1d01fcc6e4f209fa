"""Data sets of a configuration, opened and joined."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keypoint_nvs.config.data import DatasetConfig
from keypoint_nvs.data.batch import ViewSample
from keypoint_nvs.data.clips import ClipSource
from keypoint_nvs.data.images_folder import ImageFolder
from keypoint_nvs.data.pose_check import check_poses
from keypoint_nvs.data.records import Cameras, MultiviewSample
from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.rig import Rig
from posecore.data.loader import Source
from posecore.data.mixed import MixedSource
from posecore.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SourceOptions:
    """What the readers need to know of a run."""

    rig: Rig
    """Of the model."""
    image_px: int
    """Side to which pictures of folders are resized; views of stores stay as they are stored."""
    max_pose_error_deg: float = 5.0
    with_keypoints: bool = True
    """Read ground truth; False for training on sets with different keypoints."""
    frames: int = 1
    """Neighbouring frames of an object that come together, as a tuple (`clips.collate_clips` stacks them); 1: single samples."""


class MultiviewSource:
    """Samples of a store, for a model of some rig.

    Raises:
        InputError: The store is of another rig or number of views, or its pictures are not square.
    """

    def __init__(self, store: MultiviewStore, options: SourceOptions) -> None:
        header, rig, first = store.header, options.rig, store.paths[0]
        if header.rig not in ("free", rig.name):
            raise InputError(
                f"{first}: rig is {header.rig}, model.rig is {rig.name}; set model.rig to the data's, or use other data"
            )
        if header.num_targets != rig.rows * rig.cols:
            raise InputError(
                f"{first}: samples have {header.num_targets} target views, model.rig has {rig.rows * rig.cols}"
            )
        if header.height != header.width:
            raise InputError(f"{first}: pictures are {header.height} x {header.width}; the model needs square ones")
        self.store, self.options = store, options
        self.num_keypoints = store.num_keypoints(0) if options.with_keypoints else 0
        self.image_px = header.height
        self._rig_cameras = Cameras(
            np.asarray(rig.cam_from_world(), np.float32),
            np.repeat(np.asarray(rig.K(header.width), np.float32)[None], header.num_targets, 0),
        )

    def __len__(self) -> int:
        return len(self.store)

    @property
    def sample_ids(self) -> tuple[str, ...]:
        return self.store.sample_ids

    def load(self, index: int, rng: np.random.Generator) -> ViewSample:
        """
        Raises:
            InputError: The sample is damaged, its cameras are far from the rig's, or it has another number of keypoints
                than the first of the store; names it.
        """
        where = self.store.where(index)
        sample = self.store.read(index, with_keypoints=self.options.with_keypoints)
        self._check_keypoints(sample, where)
        check_poses(sample, self.options.rig, self.options.max_pose_error_deg, where)
        cameras = self._rig_cameras if sample.target_cameras is None else sample.target_cameras
        cond, truth = sample.cond_camera, sample.keypoints
        return ViewSample(
            sample_id=sample.sample_id,
            seed=int(rng.integers(2**63)),
            cond_imgs=sample.cond_imgs,
            target_imgs=sample.target_imgs,
            target_cam_from_world=cameras.cam_from_world,
            target_K=cameras.K,
            cond_cam_from_world=None if cond is None else cond.cam_from_world[0],
            cond_K=None if cond is None else cond.K[0],
            keypoints_world=None if truth is None else truth.world,
            keypoints_visible=None if truth is None else truth.visible,
        )

    def _check_keypoints(self, sample: MultiviewSample, where: str) -> None:
        found = 0 if sample.keypoints is None else len(sample.keypoints.world)
        if found != self.num_keypoints:
            first = self.store.where(0)
            raise InputError(
                f"{where}: keypoints_world: has {found} keypoints, {first} has {self.num_keypoints}; samples of a set are alike"
            )


Part = MultiviewSource | ImageFolder


def open_source(datasets: Sequence[DatasetConfig], options: SourceOptions) -> tuple[MixedSource, list[float] | None]:
    """All samples of some data sets one after the other, and how often each is drawn (None: once an epoch).

    Raises:
        InputError: A file is missing or damaged, a store does not fit the rig, or the sets do not fit each other.
    """
    parts = [_opened(dataset, options) for dataset in datasets]
    for dataset, part in zip(datasets, parts, strict=True):
        logger.info("%s: %d samples of %d px", dataset.path, len(part), part.image_px)
    _check_alike(datasets, parts)
    shares = [dataset.weight for dataset in datasets if dataset.weight is not None]
    source = MixedSource(_in_clips(datasets, parts, options.frames), shares or None)
    return source, source.sample_weights()


def _opened(dataset: DatasetConfig, options: SourceOptions) -> Part:
    if dataset.kind == "images":
        return ImageFolder(dataset.path, options.image_px, dataset.fit)
    return MultiviewSource(MultiviewStore(dataset.path), options)


def _in_clips(datasets: Sequence[DatasetConfig], parts: Sequence[Part], frames: int) -> Sequence[Source]:
    if frames == 1:
        return parts
    clips = [ClipSource(part, frames, dataset.path) for dataset, part in zip(datasets, parts, strict=True)]
    for dataset, source in zip(datasets, clips, strict=True):
        logger.info("%s: %d clips of %d frames", dataset.path, len(source), frames)
    return clips


def _check_alike(datasets: Sequence[DatasetConfig], parts: Sequence[Part]) -> None:
    """Samples of all sets must stack."""
    first, size = datasets[0].path, parts[0].image_px
    for dataset, part in zip(datasets, parts, strict=True):
        if part.image_px != size:
            raise InputError(
                f"{dataset.path}: pictures are {part.image_px} px, those of {first} {size}; sets are mixed at one size"
            )
    counts = [p.num_keypoints if isinstance(p, MultiviewSource) else 0 for p in parts]
    known = [(d.path, count) for d, count in zip(datasets, counts, strict=True) if count]
    for path, count in known:
        if count != known[0][1]:
            raise InputError(
                f"{path}: samples have {count} keypoints, those of {known[0][0]} {known[0][1]}; name one of the sets"
            )
