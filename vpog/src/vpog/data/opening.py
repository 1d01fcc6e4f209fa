"""Data sets of a configuration, opened and joined."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from posecore.data.mixed import MixedSource
from posecore.data.shards import find_shards
from posecore.errors import InputError
from vpog.config.data import DataConfig, DatasetConfig
from vpog.data.bop_scenes import BopScenes
from vpog.data.groups import Dataset, GroupRules, GroupSource
from vpog.data.megapose_shards import MegaPoseShards, read_obj_ids
from vpog.data.records import ImageSource
from vpog.data.shards import WebDatasetImages
from vpog.data.template_set import TemplateSet
from vpog.objects.mesh import largest_distance
from vpog.objects.models_info import ModelInfo, read_models_info
from vpog.templates import TemplateStore
from vpog.templates.files import described_file

logger = logging.getLogger(__name__)


def open_dataset(config: DatasetConfig, size: int, cache_mb: int, folders: Sequence[Path] = ()) -> Dataset:
    """
    Raises:
        InputError: A file is missing or damaged; names the data set.
    """
    templates = find_path(config.templates, f"{config.name}: templates", folders)
    store = TemplateStore(templates, size, sigma=config.sigma, cache_mb=cache_mb)
    if config.sigma is None and not described_file(templates, store.objects[0]).exists():
        logger.warning(
            "%s: neither sigma nor templates.json tells how large its templates were rendered; they are taken to be of the "
            "objects' own size (GSO and ShapeNet need sigma 10)",
            config.name,
        )
    models: Mapping[int, ModelInfo] = MeasuredModels(store)
    if config.models_info is not None:
        models = read_models_info(find_path(config.models_info, f"{config.name}: models_info", folders))
    return Dataset(config.name, open_images(config, folders), store, models)


class MeasuredModels(Mapping[int, ModelInfo]):
    """Sizes of objects whose models are not at hand, from the points that their templates show."""

    def __init__(self, store: TemplateStore) -> None:
        self._store = store
        self._known: dict[int, ModelInfo] = {}

    def __getitem__(self, obj_id: int) -> ModelInfo:
        if obj_id not in self._store.objects:
            raise KeyError(obj_id)
        if obj_id not in self._known:
            self._known[obj_id] = info_of_points(seen_points_mm(self._store.load_all(obj_id)))
        return self._known[obj_id]

    def __iter__(self) -> Iterator[int]:
        return iter(self._store.objects)

    def __len__(self) -> int:
        return len(self._store.objects)


def seen_points_mm(templates: TemplateSet, stride: int = 4) -> Float64[np.ndarray, "n 3"]:
    """Points of the object, in its frame, at every so many pixels of all its templates."""
    view, row, column = np.nonzero(templates.depth_mm[:, ::stride, ::stride] > 0)
    row, column = row * stride, column * stride
    depth = templates.depth_mm[view, row, column].astype(np.float64)
    rays = np.linalg.solve(templates.K[view], np.stack([column, row, np.ones_like(row)], -1)[..., None])[..., 0]
    poses = templates.cam_from_obj_mm[view]
    return np.asarray(np.einsum("nji,nj->ni", poses[:, :3, :3], rays * depth[:, None] - poses[:, :3, 3]))


def info_of_points(points_mm: Float[np.ndarray, "n 3"]) -> ModelInfo:
    """Size of a point set, without symmetries."""
    points = np.asarray(points_mm, np.float64)
    low, high = points.min(0), points.max(0)
    return ModelInfo(largest_distance(points), low, high - low)


def find_path(path: Path, field: str, folders: Sequence[Path]) -> Path:
    """A file or folder of a configuration: as it is, or beside the configuration.

    Raises:
        InputError: It is in none of these places; names the field.
    """
    candidates = [path] if path.is_absolute() else [path, *(folder / path for folder in folders)]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None:
        raise InputError(f"{field}: {path} does not exist (looked for {', '.join(map(str, candidates))})")
    return found


def open_sources(
    configs: Sequence[DatasetConfig], data: DataConfig, rules: GroupRules, folders: Sequence[Path] = ()
) -> tuple[MixedSource, list[float] | None]:
    """All samples of some data sets one after the other, and how often each is drawn (None: once an epoch)."""
    parts = []
    for config in configs:
        dataset = open_dataset(config, rules.size, data.templates.cache_mb, folders)
        if data.templates.preload:
            dataset.templates.preload(dataset.templates.objects)
        objects = dataset.templates.objects[: data.max_objects] if data.max_objects else None
        part = GroupSource(
            dataset, rules, min_visib_fract=data.min_visib_fract, min_box_px=data.min_box_px, objects=objects
        )
        logger.info("%s: %d instances; left out: %s", config.name, len(part), part.left_out)
        parts.append(part)
    shares = [config.weight for config in configs if config.weight is not None]
    source = MixedSource(parts, shares or None)
    return source, source.sample_weights()


def open_images(config: DatasetConfig, folders: Sequence[Path] = ()) -> ImageSource:
    """The pictures alone."""
    if config.kind == "bop":
        return BopScenes(find_path(Path(config.images), f"{config.name}: images", folders), dataset=config.name)
    shards = find_shards(_found_shards(config.images, folders))
    if config.kind == "megapose":
        numbers = config.object_numbers
        obj_ids = (
            None if numbers is None else read_obj_ids(find_path(numbers, f"{config.name}: object_numbers", folders))
        )
        return MegaPoseShards(shards, dataset=config.name, obj_ids=obj_ids, skip_broken=config.skip_broken)
    index = config.object_index
    found = None if index is None else find_path(index, f"{config.name}: object_index", folders)
    return WebDatasetImages(shards, dataset=config.name, skip_broken=config.skip_broken, object_index=found)


def _found_shards(where: str, folders: Sequence[Path]) -> str:
    """Relative notations that name nothing here are looked for beside the configuration."""
    if Path(where).is_absolute():
        return where
    for folder in (Path(), *folders):
        try:
            find_shards(str(folder / where))
        except InputError:
            continue
        return str(folder / where)
    return where
