"""A trained network for use elsewhere: a folder of safetensors, or ONNX."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from handvit.assembly import HAND_FILE
from handvit.loading import SYSTEM, LoadedNetwork, load_network
from posecore.bodymodel import write_model
from posecore.devices import choose_device
from posecore.errors import InputError
from posecore.training.checkpoints import export_checkpoint, load_checkpoint

Part = Literal["network", "temporal"]


def export(
    checkpoint: Path,
    output: Path,
    format: Literal["safetensors", "onnx"] = "safetensors",
    part: Part = "network",
    mano_path: Path | None = None,
) -> dict[str, Any]:
    """Write a network; safetensors is a folder that `handvit predict` reads, ONNX one file (see `export_onnx`).

    Args:
        part: ONNX: `network` is patches to hands; `temporal`, of stage 2, the tokens of a clip to its last frame's hand.
        mano_path: The hand model's file, where it is not beside the checkpoint.

    Returns:
        What was written, for people and programs.

    Raises:
        InputError: A missing file or package, a part that there is not, an output that is there already.
        RunError: ONNX does not agree with PyTorch.
    """
    if format == "safetensors" and part != "network":
        raise InputError(f"--part {part}: safetensors holds the whole network; parts are for --format onnx")
    loaded = load_network(checkpoint, mano_path, choose_device("cpu"))
    if format == "safetensors":
        folder = export_checkpoint(load_checkpoint(checkpoint, SYSTEM), output, _hand_file(loaded))
        return {"folder": str(folder), "files": sorted(file.name for file in folder.iterdir())}
    from handvit.export_onnx import export_onnx  # needs the extra

    return export_onnx(loaded, output, part)


def _hand_file(loaded: LoadedNetwork) -> dict[str, bytes]:
    """The hand model beside the weights; none for the embedded stand-in."""
    if loaded.facts.hand_sha256 is None:
        return {}
    with TemporaryDirectory() as folder:
        write_model(loaded.hand.body, Path(folder) / HAND_FILE)
        return {HAND_FILE: (Path(folder) / HAND_FILE).read_bytes()}
