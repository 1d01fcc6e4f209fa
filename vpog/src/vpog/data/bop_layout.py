"""Where BOP keeps what: `ROOT/SPLIT[_TYPE]/SCENE/...`, `ROOT/models*`, `ROOT/test_targets_*.json`."""

from pathlib import Path
from typing import Literal

from posecore.errors import InputError

USUAL_TYPE = {("hb", "test"): "primesense", ("hb", "val"): "primesense", ("tless", "test"): "primesense"}
"""Sets whose challenge uses one of several sensors."""
RENDER_MODELS = {"tless": "models_cad"}
"""T-LESS' reconstructed models have holes; its CAD models do not."""
TARGETS = "test_targets_bop19.json"


def split_folder(root: Path, split: str, dataset: str | None = None) -> Path:
    """The folder of a split: `test_primesense` for `test` of HomebrewedDB and T-LESS.

    Args:
        root: Folder of the set.
        split: `test`, `train_pbr`, or with its type: `test_primesense`.
        dataset: BOP's name of the set; None: the name of the folder.

    Raises:
        InputError: There is none.
    """
    kind = USUAL_TYPE.get((dataset or root.name, split))
    folder = root / (split if kind is None else f"{split}_{kind}")
    if not folder.is_dir():
        there = sorted(path.parent.name for path in root.glob("*/000*") if path.is_dir())
        some = ", ".join(dict.fromkeys(there))
        raise InputError(f"{folder}: no such folder; splits with scenes in {root}: {some or 'none'}")
    return folder


def models_folder(root: Path, purpose: Literal["render", "evaluate"], dataset: str | None = None) -> Path:
    """`models` (T-LESS: `models_cad`) to render templates of, `models_eval` to measure errors with.

    Raises:
        InputError: There is none.
    """
    name = RENDER_MODELS.get(dataset or root.name, "models") if purpose == "render" else "models_eval"
    folder = root / name
    if not folder.is_dir():
        there = ", ".join(sorted(path.name for path in root.glob("models*") if path.is_dir()))
        raise InputError(f"{folder}: no such folder; folders of models in {root}: {there or 'none'}")
    return folder
