"""From a configuration to the clips of a run: several data sets, by size, by weight or by depth."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64, Shaped

from handvit.config import HandvitConfig
from handvit.config.data import DatasetConfig, SourceConfig, TrainSourceConfig
from handvit.data.clips import split_clip_range
from handvit.data.preparation import Preparation
from handvit.data.preprocess import PatchSettings
from handvit.data.records import ClipRecord
from handvit.data.source import ClipRules, ClipSource, Origin, segments_to_indices
from handvit.data.token_clips import TokenClips
from handvit.data.token_files import TokenOrigin
from handvit.hand import HandModel
from posecore.data.mixed import MixedSource
from posecore.data.shards import find_shards
from posecore.errors import InputError

logger = logging.getLogger(__name__)

DEPTH_EDGES_MM = (0.0, 500.0, 700.0, 900.0, 1100.0, np.inf)


class MixedClips(MixedSource):
    """The clips of several data sets, one after the other.

    Args:
        weights: Of the data sets; None: each clip once an epoch.
        depth_bins: Weigh clips so that each bin of root depth (`DEPTH_EDGES_MM`; unknown depths are a bin of their own)
            is drawn alike.
    """

    def __init__(
        self, sources: Sequence[ClipSource], weights: Sequence[float] | None = None, *, depth_bins: bool = False
    ) -> None:
        super().__init__(sources, weights)
        if depth_bins and weights is not None:
            raise ValueError("weights of data sets and equal weights of depth bins exclude each other")
        self.datasets, self._depth_bins = list(sources), depth_bins

    def record(self, index: int) -> ClipRecord:
        """The frames of a clip as they are stored."""
        which, own = self.locate(index)
        return self.datasets[which].record(own)

    def origin(self, index: int) -> Origin:
        """Where the clip's last frame comes from."""
        which, own = self.locate(index)
        return self.datasets[which].origin(own)

    @property
    def data_sources(self) -> Shaped[np.ndarray, " n"]:
        """The data set of each clip, as its sample says it."""
        return np.concatenate([source.data_sources for source in self.datasets])

    @property
    def root_depth_mm(self) -> Float[np.ndarray, " n"]:
        """Of each clip; NaN where it is not known."""
        return np.concatenate([source.root_depth_mm for source in self.datasets])

    def sample_weights(self) -> list[float] | None:
        """How often each clip is drawn, relative to the others; None: each once an epoch."""
        if not self._depth_bins:
            return super().sample_weights()
        bins = depth_bin(self.root_depth_mm)
        return (1.0 / np.bincount(bins)[bins]).tolist()  # type: ignore[no-any-return]

    def part(self, rank: int, parts: int) -> "MixedClips":
        """An even share of the clips, cut at (shard, clip); over all ranks each clip once.

        Raises:
            InputError: There are fewer clips than parts, and this one has none.
        """
        counts = [count for source in self.datasets for count in source.shard_clip_counts()]
        return self.select(segments_to_indices(counts, split_clip_range(counts, parts, rank)))

    def select(self, indices: Int64[np.ndarray, " k"]) -> "MixedClips":
        """Some of the clips, in ascending order, without weights.

        Raises:
            InputError: None are chosen.
        """
        if not len(indices):
            raise InputError(f"none of {len(self)} clips is in this part; take fewer parts")
        ends = np.cumsum([len(source) for source in self.datasets])
        chosen = []
        for source, end in zip(self.datasets, ends, strict=True):
            own = np.sort(indices[(indices >= end - len(source)) & (indices < end)]) - (end - len(source))
            if len(own):
                chosen.append(source.select(own))
        return MixedClips(chosen)


def depth_bin(depth_mm: Float[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    """Which bin of `DEPTH_EDGES_MM`; one more for unknown depths."""
    unknown = len(DEPTH_EDGES_MM) - 1
    return np.where(np.isnan(depth_mm), unknown, np.digitize(depth_mm, DEPTH_EDGES_MM[1:-1]))


def open_sources(
    config: HandvitConfig,
    part: Literal["train", "val", "test"],
    hand: HandModel,
    folders: Sequence[Path] = (),
    tokens_of: TokenOrigin | None = None,
) -> tuple[MixedClips, list[float] | None]:
    """The clips of one part of a configuration, and their sampling weights (None: each clip once an epoch).

    Clips are augmented for `train` only.

    Args:
        folders: Where relative paths are looked for after the working folder.
        tokens_of: Read the tokens of this network instead of pictures.

    Raises:
        InputError: No data sets are named, shards are missing or damaged, or no clip passes the filter.
    """
    source: SourceConfig = getattr(config.data, part)
    settings = PatchSettings(
        patch_size=config.model.img_size,
        expansion=config.train.expansion_ratio,
        turn_camera=config.train.turn_camera,
    )
    is_training = part == "train"
    augmentation = config.train.augmentation if is_training else None
    prepare = Preparation(settings, augmentation, sample_patches=is_training)
    field = f"data.{part}"
    hands_mean = hand.hands_mean.detach().cpu().numpy()
    mixed = open_part(source, prepare, config.model.num_frame, hands_mean, folders, field=field, tokens_of=tokens_of)
    if config.model.norm_by_hand:
        _refuse_made_up_cameras(mixed, source, field)
    return mixed, mixed.sample_weights()


def open_part(
    config: SourceConfig,
    prepare: Preparation,
    num_frames: int,
    hands_mean: Float[np.ndarray, "45"] | None = None,
    folders: Sequence[Path] = (),
    *,
    field: str,
    tokens_of: TokenOrigin | None = None,
) -> MixedClips:
    """The clips of a section of a configuration.

    Args:
        tokens_of: Read the tokens of this network instead of pictures.

    Raises:
        InputError: As `open_sources`.
    """
    if not config.datasets:
        raise InputError(f"{field}.datasets: names no shards; give a folder of .tar files")
    rules = ClipRules(
        num_frames=num_frames,
        stride=config.stride,
        frame_step=config.frame_step,
        per_sequence=None if config.sampling == "dense" else config.clips_per_sequence,
        filter=config.filter,
    )
    sources = []
    for dataset in config.datasets:
        shards = find_dataset(dataset, folders, f"{field}.datasets.{dataset.name}")
        if tokens_of is None:
            source = ClipSource(shards, prepare, rules, pose_mean=dataset.pose_mean, hands_mean=hands_mean)
        else:
            source = TokenClips(
                shards, prepare.settings, rules, tokens_of, pose_mean=dataset.pose_mean, hands_mean=hands_mean
            )
        logger.info("%s: %d clips an epoch in %d shards; %s", dataset.name, len(source), len(shards), source.dropped)
        sources.append(source)
    if not isinstance(config, TrainSourceConfig):
        return MixedClips(sources)
    weights = config.weights()
    return MixedClips(sources, weights, depth_bins=config.depth_bins)


def find_dataset(dataset: DatasetConfig, folders: Sequence[Path], field: str) -> list[Path]:
    """The shards of a data set, in their order.

    Raises:
        InputError: There are none; or two places name the same.
    """
    places = [dataset.shards] if isinstance(dataset.shards, str) else dataset.shards
    shards = [shard for place in places for shard in _find(place, folders, f"{field}.shards")]
    double = next((shard for shard in shards if shards.count(shard) > 1), None)
    if double is not None:
        raise InputError(f"{field}.shards: {double} is named twice")
    if not shards:
        raise InputError(f"{field}.shards: the list is empty; give a folder of .tar files")
    return shards


def _find(place: str, folders: Sequence[Path], field: str) -> list[Path]:
    candidates = [Path(place), *(folder / place for folder in folders if not Path(place).is_absolute())]
    problems = []
    for candidate in dict.fromkeys(candidates):
        try:
            return find_shards(candidate)
        except InputError as error:
            problems.append(str(error))
    raise InputError([f"{field}: {problem}" for problem in problems])


def _refuse_made_up_cameras(mixed: MixedClips, config: SourceConfig, field: str) -> None:
    """A root in hand sizes follows from real intrinsics only."""
    for source, dataset in zip(mixed.datasets, config.datasets, strict=True):
        if (source.table.intr_type == "fixed_virtual").any():
            raise InputError(
                f"{field}.datasets.{dataset.name}: has intr_type fixed_virtual, which model.norm_by_hand excludes; "
                "set model.norm_by_hand to false, or leave the data set out"
            )
