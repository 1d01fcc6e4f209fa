"""From a configuration to the three sources of a run: one file, or several mixed by weight."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from posecore.bodymodel import BodyModel
from posecore.data.mixed import MixedSource
from posecore.errors import InputError
from smil_regressor.config import MixedDataset, SmilConfig
from smil_regressor.data.files import open_file
from smil_regressor.data.labels import ALL_LABELS, LabelRules
from smil_regressor.data.multiview_file import MultiViewFile
from smil_regressor.data.pose_file import PoseFile, WorldFrame
from smil_regressor.data.sample import Sample
from smil_regressor.data.source import MultiViewSource, PoseSource, SingleViewSource, canonical_camera_order
from smil_regressor.data.splits import PARTS, Split, Subset, split_source

logger = logging.getLogger(__name__)


class MixedPoses(MixedSource):
    """Several sources one after the other, drawn in proportion to their weights.

    Sessions are named `name/session`, so that equal names in two data sets stay two sessions.
    """

    def __init__(self, names: Sequence[str], sources: Sequence[PoseSource], weights: Sequence[float]) -> None:
        super().__init__(sources, weights)
        self.poses = list(sources)
        shared = {(source.resolution, source.camera_order) for source in sources}
        if len(shared) > 1:
            raise ValueError(f"sources differ in resolution or camera order: {shared}")
        ((self.resolution, self.camera_order),) = shared
        scales = {source.world_scale for source in sources}
        self.world_scale = scales.pop() if len(scales) == 1 else None
        frames: set[WorldFrame] = {source.world_frame for source in sources}
        if len(frames) > 1:
            told = ", ".join(f"{name} {source.world_frame}" for name, source in zip(names, sources, strict=True))
            logger.warning("data sets have different frames (%s); prediction will take calibrations as they are", told)
        self.world_frame: WorldFrame = frames.pop() if len(frames) == 1 else "world"
        self.view_slots = max(source.view_slots for source in sources)
        self.sessions = [f"{name}/{s}" for name, source in zip(names, sources, strict=True) for s in source.sessions]
        self.frames: Int[np.ndarray, " n"] = np.concatenate([source.frames for source in sources])

    def labels(self, index: int) -> Sample:
        """The sample without pictures."""
        which, own = self.locate(index)
        return self.poses[which].labels(own)


@dataclass(frozen=True)
class RunData:
    """The sources of a run."""

    whole: PoseSource
    """All samples, before splitting; the split's indices refer to it."""
    split: Split
    train: Subset
    validation: Subset
    test: Subset
    train_weights: Float[np.ndarray, " n"] | None
    """Sampling weight of each training sample; None: all alike."""


def open_run_data(config: SmilConfig, body: BodyModel, camera_order: Sequence[str] | None = None) -> RunData:
    """Open the configured files and split them.

    Args:
        camera_order: Of a checkpoint that goes on training; None: the sorted union of the files' cameras.

    Raises:
        InputError: A file is missing, damaged, or does not fit the model or the configuration.
    """
    whole, weights = open_data(config, body, camera_order)
    split = _split(config, whole)
    parts = {part: Subset(whole, getattr(split, part)) for part in PARTS}
    return RunData(whole, split, **parts, train_weights=None if weights is None else weights[split.train])


def open_data(
    config: SmilConfig, body: BodyModel, camera_order: Sequence[str] | None = None
) -> tuple[PoseSource, Float[np.ndarray, " n"] | None]:
    """The configured samples, and their sampling weights where several data sets are mixed."""
    if not config.multi_dataset.enabled:
        if config.dataset.data_path is None:
            raise InputError("dataset.data_path: missing; name an HDF5 file, or give --data-path")
        file = open_file(config.dataset.data_path, body=body)
        return _source(config, file, body, ALL_LABELS, camera_order or file.camera_order, None), None
    chosen = [dataset for dataset in config.multi_dataset.datasets if dataset.enabled]
    files = [_open_typed(dataset, body) for dataset in chosen]
    order = tuple(camera_order or canonical_camera_order(files))
    slots = None if config.mode == "singleview" else max(_slots(config, file) for file in files)
    sources = [
        _source(config, file, body, _available(dataset.available_labels.model_dump()), order, slots)
        for file, dataset in zip(files, chosen, strict=True)
    ]
    mixed = MixedPoses([d.name for d in chosen], sources, [d.weight for d in chosen])
    return mixed, np.array(mixed.sample_weights())


def _open_typed(dataset: MixedDataset, body: BodyModel) -> PoseFile:
    """Open one of several data sets; its file must be of the kind that `type` says.

    Raises:
        InputError: It is of the other kind, or cannot be read.
    """
    file = open_file(dataset.path, body=body)
    is_multi_view = isinstance(file, MultiViewFile)
    if (dataset.type == "sleap" and not is_multi_view) or (dataset.type == "optimized_hdf5" and is_multi_view):
        found = "multi-view" if is_multi_view else "single-view"
        raise InputError(
            f"multi_dataset.datasets.{dataset.name}: {dataset.path} is a {found} file, but type is {dataset.type}; use auto"
        )
    return file


def _source(
    config: SmilConfig,
    file: PoseFile,
    body: BodyModel,
    available: frozenset[str],
    order: Sequence[str],
    slots: int | None,
) -> PoseSource:
    path, dataset = file.table.path, config.dataset
    if config.model.rgb_only:
        available = available - {"silhouette"}
    ignored = config.ignored_joints.ignored_joint_names
    if ignored and config.ignored_joints.verbose:
        logger.info("%s: the labels of %s are dropped", path, ", ".join(ignored))
    rules = LabelRules.between(
        str(path), file.joint_names, file.num_joints, body.joint_names, body.num_betas, ignored, available
    )
    _check_kind(config, path, isinstance(file, MultiViewFile))
    if config.mode == "singleview":
        return SingleViewSource(
            file, config.model.resolution, rules, expand_all_views=dataset.expand_all_views,
            frame_convention=dataset.frame_convention, camera_order=order,
        )  # fmt: skip
    return MultiViewSource(
        file, config.model.resolution, rules, camera_order=order, num_views=config.num_views_to_use,
        min_views=config.min_views_per_sample, view_slots=slots,
    )  # fmt: skip


def _check_kind(config: SmilConfig, path: Path, is_multi_view: bool) -> None:
    if config.mode == "multiview" and not is_multi_view:
        raise InputError(f"{path}: a single-view file, but mode is multiview; set mode to singleview")
    if config.mode == "singleview" and is_multi_view and not config.dataset.from_multiview:
        raise InputError(
            f"{path}: a multi-view file, but mode is singleview; set dataset.from_multiview to true, or mode to multiview"
        )


def _slots(config: SmilConfig, file: PoseFile) -> int:
    most = int(file.view_mask.sum(1).max())
    return min(most, config.num_views_to_use) if config.num_views_to_use else most


def _available(labels: dict[str, bool]) -> frozenset[str]:
    return frozenset(name for name, is_available in labels.items() if is_available)


def _split(config: SmilConfig, whole: PoseSource) -> Split:
    """Over all samples, or of each data set by itself (`validation_split_strategy`)."""
    d, seed = config.dataset, config.training.seed
    ratios = (d.train_ratio, d.val_ratio, d.test_ratio)
    if not isinstance(whole, MixedPoses) or config.multi_dataset.validation_split_strategy == "combined":
        return split_source(whole, ratios, d.split_by, seed)
    starts = np.cumsum([0, *(len(source) for source in whole.sources)])
    splits = [split_source(source, ratios, d.split_by, seed, f"multi_dataset.datasets.{number}")
              for number, source in enumerate(whole.poses)]  # fmt: skip
    return Split(*(
        np.concatenate([getattr(split, part) + start for split, start in zip(splits, starts, strict=False)])
        for part in PARTS
    ))  # fmt: skip
