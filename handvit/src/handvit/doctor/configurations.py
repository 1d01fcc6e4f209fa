"""Training configurations: fields, the files that they name, and whether those fit together."""

from collections.abc import Callable
from pathlib import Path

from handvit.config import HandvitConfig
from handvit.config.data import DatasetConfig
from handvit.data.inspect import describe
from handvit.doctor.data import shard_findings
from handvit.doctor.hands import check_hand
from handvit.doctor.networks import check_checkpoint, check_encoder
from posecore.doctor import Finding, from_error
from posecore.errors import InputError


def check_config(path: Path) -> list[Finding]:
    """A configuration with all that it names; paths are relative to the working folder, then to the file."""
    from posecore.config import load_config

    config = load_config(HandvitConfig, path)
    model = config.model
    text = f"stage {model.stage}, {model.backbone.backbone_str}, {model.img_size} px: no unknown or impossible field"
    findings = [Finding("ok", str(path), text), *_hand(path, config), *_encoder(path, config)]
    for field in ("stage1_path", "weights_path"):
        start = getattr(config.general, field)
        if start is not None:
            findings += _named(path, f"general.{field}", start, check_checkpoint)
    if model.stage == 2 and config.general.stage1_path is None and config.general.weights_path is None:
        text = "stage 2 begins with a trained stage 1, and none is named"
        findings.append(Finding("warning", str(path), text, "set general.stage1_path, or give --stage1 RUN"))
    return findings + _data(path, config)


def _hand(path: Path, config: HandvitConfig) -> list[Finding]:
    file = config.hand.mano_path
    if file is None:
        remedy = "set hand.mano_path to MANO_RIGHT.pkl for results that others can use"
        return [Finding("ok", str(path), "no hand.mano_path: the stand-in hand is used", remedy)]
    return _named(path, "hand.mano_path", file, check_hand)


def _encoder(path: Path, config: HandvitConfig) -> list[Finding]:
    from handvit.model.architecture import folder_of

    folder = folder_of(config.model.backbone.backbone_str)
    return [] if folder is None else _named(path, "model.backbone.backbone_str", folder, check_encoder)


def _named(config: Path, field: str, file: Path, checker: Callable[[Path], list[Finding]]) -> list[Finding]:
    found = next((place for place in (file, config.parent / file) if place.exists()), None)
    if found is None:
        return [Finding("error", str(config), f"{field}: {file} does not exist")]
    try:
        return checker(found)
    except InputError as error:
        return from_error(found, error)


def _data(path: Path, config: HandvitConfig) -> list[Finding]:
    findings: list[Finding] = []
    for part in ("train", "val", "test"):
        for dataset in getattr(config.data, part).datasets:
            findings += _dataset(path, f"data.{part}.datasets.{dataset.name}", dataset, config.model.norm_by_hand)
    if not config.data.train.datasets:
        remedy = "set data.train.datasets, or give --data FOLDER; handvit data synth makes some"
        findings.append(Finding("warning", str(path), "it names no shards to train on", remedy))
    return findings


def _dataset(path: Path, field: str, dataset: DatasetConfig, norm_by_hand: bool) -> list[Finding]:
    from handvit.data.mixing import find_dataset

    try:
        shards = find_dataset(dataset, [path.parent], field)
        facts = describe(shards)
    except InputError as error:
        return from_error(path, error)
    found = shard_findings(field, shards, facts)
    if norm_by_hand and facts["frames_by_intrinsics"].get("fixed_virtual"):
        text = "made-up cameras and model.norm_by_hand exclude each other"
        found.append(Finding("error", field, text, "set model.norm_by_hand to false, or leave the data set out"))
    return found
