"""Hand models: MANO's files, one or both sides."""

from pathlib import Path

from handvit.hand import mano_info
from handvit.hand.files import MANO_PAGE, read_hand_arrays
from handvit.hand.mirror import fix_left_shapes
from posecore.doctor import Finding, from_error
from posecore.errors import InputError

NAMES = ("MANO_RIGHT.pkl", "MANO_RIGHT.npz", "MANO_LEFT.pkl", "MANO_LEFT.npz")
USUAL_SIZE_MM = (60.0, 120.0)
"""Length of an adult's middle finger from its base joint."""


def hand_files(folder: Path) -> list[Path]:
    """MANO's files in a folder or its `models`."""
    return [place / name for place in (folder, folder / "models") for name in NAMES if (place / name).is_file()]


def check_hand(path: Path) -> list[Finding]:
    """A file of MANO's layout."""
    info = mano_info(path)
    what = f"stand-in ({info['label']})" if info["is_standin"] else "MANO"
    size = info["middle_finger_mm"]
    text = f"{what}: a {info['side']} hand, {info['vertices']} vertices, {info['faces']} faces, middle finger {size:.1f} mm"
    findings = [Finding("ok", str(path), text)]
    if info["is_standin"]:
        remedy = f"register at {MANO_PAGE} for the real one"
        findings.append(Finding("warning", str(path), "its poses and shapes fit no public data set", remedy))
    if not USUAL_SIZE_MM[0] < size < USUAL_SIZE_MM[1]:
        remedy = "MANO's arrays are in metres: is this file in another unit?"
        findings.append(Finding("error", str(path), f"no hand has a middle finger of {size:.4g} mm", remedy))
    if info["side"] == "left":
        remedy = (
            "set hand.mano_path to MANO_RIGHT; left hands are mirrored, and only importing left labels needs this file"
        )
        findings.append(Finding("ok", str(path), "training and prediction take the right hand's file", remedy))
    return findings


def check_hand_folder(folder: Path) -> list[Finding]:
    """A folder with MANO_RIGHT, and MANO_LEFT where left-hand labels are to be imported."""
    findings: list[Finding] = []
    files = hand_files(folder)
    for file in files:
        try:
            findings += check_hand(file)
        except InputError as error:
            findings += from_error(file, error)
    sides = {side: [file for file in files if side in file.name] for side in ("RIGHT", "LEFT")}
    if not sides["RIGHT"]:
        findings.append(Finding("error", str(folder), "no MANO_RIGHT", f"both are in the download of {MANO_PAGE}"))
    elif not sides["LEFT"]:
        text = "no MANO_LEFT: labels of left hands cannot be imported"
        findings.append(Finding("warning", str(folder), text, f"both are in the download of {MANO_PAGE}"))
    elif not any(finding.level == "error" for finding in findings):
        findings += _shapes_of_left(sides["LEFT"][0], sides["RIGHT"][0])
    return findings


def _shapes_of_left(left: Path, right: Path) -> list[Finding]:
    arrays = read_hand_arrays(left)
    if fix_left_shapes(arrays, read_hand_arrays(right)) is arrays:
        return [Finding("ok", str(left), "its shape directions are the mirror image of the right hand's")]
    text = "carries the right hand's shape directions, as released; they are mirrored when it is read (DexYCB: left as they are)"
    return [Finding("ok", str(left), text)]
