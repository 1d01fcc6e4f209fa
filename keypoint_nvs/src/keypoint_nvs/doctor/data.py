"""Stores of views and folders of pictures."""

from pathlib import Path

from keypoint_nvs.data.inspection import describe_images, describe_store
from posecore.doctor import Finding

CHECKED = 16
"""Samples or pictures that are read, spread over the set."""


def check_store(path: Path) -> list[Finding]:
    """Counts, and what is odd about the samples that were read."""
    facts = describe_store(str(path), CHECKED)
    text = (
        f"{facts['samples']} samples of {facts['objects']} objects, {facts['size_px']} pixels, "
        f"{facts['target_views']} target views, rig {facts['rig']}; {facts['checked_samples']} of them read"
    )
    findings = [Finding("ok", str(path), text)]
    if facts["empty_views"]:
        text = f"{facts['empty_views']} views of the samples read show nothing"
        findings.append(Finding("warning", str(path), text, "look at them with data inspect; leave such objects out"))
    if facts["perhaps_multiplied_by_alpha"]:
        text = f"colours of {facts['perhaps_multiplied_by_alpha']} of the samples read seem to be multiplied by alpha"
        findings.append(
            Finding("warning", str(path), text, "the store holds straight alpha; convert the pictures again")
        )
    return findings


def check_pictures(path: Path) -> list[Finding]:
    """Sizes, and whether all are square."""
    facts = describe_images(str(path), CHECKED)
    text = (
        f"{facts['pictures']} pictures, {facts['width_px']} wide, {facts['height_px']} high; "
        f"{facts['checked_pictures']} of them read"
    )
    findings = [Finding("ok", str(path), text)]
    odd = facts["checked_pictures"] - facts["square"]
    if odd:
        text = f"{odd} of the pictures read are not square"
        findings.append(Finding("warning", str(path), text, "give the data set fit centre_crop or pad"))
    return findings
