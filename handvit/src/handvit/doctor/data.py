"""Shards of clips, and stored predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handvit.data.inspect import describe
from posecore.data.shards import find_shards
from posecore.doctor import Finding

LARGEST_SHARD = 2**30
POOR_REPROJECTION_PX = 0.5


def check_shards(path: Path) -> list[Finding]:
    """A shard, or all of a folder: every label is read and checked."""
    shards = find_shards(path)
    return shard_findings(str(path), shards, describe(shards))


def shard_findings(subject: str, shards: Sequence[Path], facts: Mapping[str, Any]) -> list[Finding]:
    """What `data.inspect.describe` told of the shards, and what follows from it."""
    sets = ", ".join(f"{name} {count}" for name, count in facts["frames_by_dataset"].items())
    sides = ", ".join(f"{count} {side}" for side, count in facts["frames_by_side"].items())
    text = f"{facts['samples']} samples in {facts['shards']} shards, {facts['frames']} frames ({sets}; {sides})"
    findings = [Finding("ok", subject, text)]
    findings += _labels(subject, facts)
    findings += _sizes(subject, facts)
    large = [shard for shard in shards if shard.stat().st_size > LARGEST_SHARD]
    if large:
        text = f"{len(large)} shards are larger than 1 GB, the first is {large[0].name}"
        findings.append(
            Finding("warning", subject, text, "parts of an evaluation are cut at clips, so this only costs copying")
        )
    return findings


def check_predictions(path: Path) -> list[Finding]:
    """The predictions.h5 of an evaluation."""
    from handvit.submission import read_predictions

    frames, facts = read_predictions(path)
    what = "with meshes" if frames.vertices_mm is not None else "without meshes"
    text = f"{len(frames)} predicted frames {what}, of stage {facts.get('stage')}, hand {facts.get('hand')}"
    return [Finding("ok", str(path), text, "handvit evaluate --predictions measures them again")]


def _labels(subject: str, facts: Mapping[str, Any]) -> list[Finding]:
    findings = []
    shares = facts["share_of_frames"]
    lacking = [name for name, share in shares.items() if share == 0]
    if lacking:
        findings.append(Finding("ok", subject, f"labels that no frame has: {', '.join(lacking)}"))
    if shares["joints_2d"] == 0 and shares["joints_3d"] == 0:
        findings.append(Finding("error", subject, "no frame has any joint: nothing can be learned or measured"))
    if facts["frames_by_intrinsics"].get("fixed_virtual"):
        text = "cameras are made up (intr_type fixed_virtual)"
        findings.append(Finding("warning", subject, text, "set model.norm_by_hand to false to train on them"))
    error = facts["reprojection_error_px"]
    if error is not None and error["most"] > POOR_REPROJECTION_PX:
        text = f"3D and 2D joints are up to {error['most']:.2f} px apart"
        findings.append(Finding("warning", subject, text, "are focal and princpt those of the stored pictures?"))
    return findings


def _sizes(subject: str, facts: Mapping[str, Any]) -> list[Finding]:
    findings = []
    filtered = facts["filter"]
    if filtered["dropped_clips"]:
        text = (
            f"the default filter drops {filtered['dropped_clips']} of {filtered['clips']} frames "
            f"({filtered['few_joints']} with few joints, {filtered['small_box']} with a small box)"
        )
        findings.append(Finding("ok", subject, text, "data.train.filter sets the bounds"))
    most = facts["frames_per_sample"]["most"]
    if most < 2:
        text = "single frames only: stage 1 can be trained on them, stage 2 needs clips"
        findings.append(Finding("ok", subject, text))
    if "not a picture" in facts["picture_sizes"]:
        text = f"{facts['picture_sizes']['not a picture']} samples begin with a damaged picture"
        findings.append(Finding("error", subject, text, "convert again, or copy the shard again"))
    return findings
