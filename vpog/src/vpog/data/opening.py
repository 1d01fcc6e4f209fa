"""Data sets of a configuration, opened and joined."""

import logging
from collections.abc import Sequence
from pathlib import Path

from posecore.data.mixed import MixedSource
from posecore.data.shards import find_shards
from posecore.errors import InputError
from vpog.config.data import DataConfig, DatasetConfig
from vpog.data.bop_scenes import BopScenes
from vpog.data.groups import Dataset, GroupRules, GroupSource
from vpog.data.megapose_shards import MegaPoseShards
from vpog.data.records import ImageSource
from vpog.data.shards import WebDatasetImages
from vpog.objects.models_info import read_models_info
from vpog.templates import TemplateStore

logger = logging.getLogger(__name__)


def open_dataset(config: DatasetConfig, size: int, cache_mb: int, folders: Sequence[Path] = ()) -> Dataset:
    """
    Raises:
        InputError: A file is missing or damaged; names the data set.
    """
    templates = find_path(config.templates, f"{config.name}: templates", folders)
    models = find_path(config.models_info, f"{config.name}: models_info", folders)
    store = TemplateStore(templates, size, sigma=config.sigma, cache_mb=cache_mb)
    return Dataset(config.name, _images(config, folders), store, read_models_info(models))


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
        objects = dataset.templates.objects[: data.max_objects] if data.max_objects else None
        part = GroupSource(
            dataset, rules, min_visib_fract=data.min_visib_fract, min_box_px=data.min_box_px, objects=objects
        )
        logger.info("%s: %d instances; left out: %s", config.name, len(part), part.left_out)
        parts.append(part)
    shares = [config.weight for config in configs if config.weight is not None]
    source = MixedSource(parts, shares or None)
    return source, source.sample_weights()


def _images(config: DatasetConfig, folders: Sequence[Path]) -> ImageSource:
    if config.kind == "bop":
        return BopScenes(find_path(Path(config.images), f"{config.name}: images", folders), dataset=config.name)
    shards = find_shards(_found_shards(config.images, folders))
    if config.kind == "megapose":
        return MegaPoseShards(shards, dataset=config.name, skip_broken=config.skip_broken)
    return WebDatasetImages(shards, dataset=config.name, skip_broken=config.skip_broken)


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
