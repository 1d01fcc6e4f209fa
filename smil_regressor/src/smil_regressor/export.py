"""A trained network for use elsewhere: a folder of safetensors, or ONNX."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from posecore.devices import choose_device
from posecore.errors import InputError, RunError
from posecore.training import load_checkpoint
from posecore.training.checkpoints import export_checkpoint
from smil_regressor.assembly import keep_body
from smil_regressor.model.prediction import Prediction, Views
from smil_regressor.predict import BODY_FILE, SYSTEM, LoadedNetwork, load_network

ONNX_TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch, relative to the output's size."""
OPSET = 18
CHECKED_BATCHES = (1, 3)


def export(
    checkpoint: Path, output: Path, format: Literal["safetensors", "onnx"], smal_file: Path | None
) -> dict[str, Any]:
    """Write a network; safetensors is a folder that `smil predict` reads, ONNX one file of the network's outputs.

    Raises:
        InputError: A missing file or package.
        RunError: ONNX does not agree with PyTorch.
    """
    loaded = load_network(checkpoint, smal_file, choose_device("cpu"))
    if format == "safetensors":
        folder = export_checkpoint(load_checkpoint(checkpoint, SYSTEM), output, _body_file(loaded))
        return {"folder": str(folder), "files": sorted(file.name for file in folder.iterdir())}
    return _export_onnx(loaded, output)


def _body_file(loaded: LoadedNetwork) -> dict[str, bytes]:
    """The body model beside the weights; none for the procedural insect."""
    if loaded.config.smal_model.smal_file is None:
        return {}
    with TemporaryDirectory() as folder:
        keep_body(loaded.config, loaded.body.model, Path(folder) / BODY_FILE)
        return {BODY_FILE: (Path(folder) / BODY_FILE).read_bytes()}


class _Graph(nn.Module):
    """Inputs and outputs as plain tensors."""

    def __init__(self, loaded: LoadedNetwork) -> None:
        super().__init__()
        self.network, self.body = loaded.network, loaded.body
        self.network.backbone.chunk_size = None  # chunks save memory in training; they would fix the batch here

    def forward(
        self, images: Tensor, view_mask: Tensor, camera_slots: Tensor, K: Tensor, cam_from_world: Tensor,
        has_camera: Tensor, native_size_wh: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        views = Views(images, view_mask, camera_slots, K, cam_from_world, has_camera, native_size_wh)
        found: Prediction = self.network(views)
        return found.rotations, found.betas, found.translation, self.body.joints(found), found.K, found.cam_from_world


INPUTS = ("images", "view_mask", "camera_slots", "K", "cam_from_world", "has_camera", "native_size_wh")
OUTPUTS = ("rotations", "betas", "translation", "joints_world", "K_predicted", "cam_from_world_predicted")


def _export_onnx(loaded: LoadedNetwork, output: Path) -> dict[str, Any]:
    try:
        import onnxruntime
    except ImportError:
        raise InputError("export: ONNX needs further packages; install smil-regressor[onnx]") from None
    graph = _Graph(loaded).eval()
    output.parent.mkdir(parents=True, exist_ok=True)
    _write_graph(graph, _example(loaded, 2), output)
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    names = sorted(entry.name for entry in session.get_inputs())
    worst = 0.0
    for batch in CHECKED_BATCHES:
        example = _example(loaded, batch)
        with torch.no_grad():
            wanted = graph(*example.values())
        found = session.run(None, {name: example[name].numpy() for name in names})
        worst = max(worst, *(_difference(np.asarray(f), w.numpy()) for f, w in zip(found, wanted, strict=True)))
    if not worst <= ONNX_TOLERANCE:
        output.unlink()
        raise RunError(f"export: ONNX differs from PyTorch by {worst:.1e} (at most {ONNX_TOLERANCE}); nothing was kept")
    return {"file": str(output), "largest_relative_difference": worst, "inputs": names, "outputs": list(OUTPUTS),
            "batch": "any"}  # fmt: skip


def _write_graph(graph: _Graph, example: dict[str, Tensor], output: Path) -> None:
    """One file that takes any number of samples of all the network's views; weights are inside."""
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        program = torch.onnx.export(
            graph,
            tuple(example.values()),
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in example),
            verbose=False,  # it would print to stdout, where the command's result goes
        )
    assert program is not None  # only the old exporter returns none
    program.save(str(output))


def _example(loaded: LoadedNetwork, batch: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    side = loaded.config.model.resolution
    views = 1 if loaded.config.mode == "singleview" else len(loaded.facts.camera_order)
    images = torch.rand(batch, views, side, side, 3, generator=generator)
    plain = Views.uncalibrated(images)
    focal = float(side)
    K = torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]]).expand(batch, views, 3, 3).contiguous()
    cameras = torch.eye(4).repeat(batch, views, 1, 1)
    cameras[..., 2, 3] = loaded.facts.camera_distance
    known = torch.ones(batch, views, dtype=torch.bool)
    values = vars(plain) | {"K": K, "cam_from_world": cameras, "has_camera": known}
    return {name: values[name].contiguous() for name in INPUTS}


def _difference(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / max(1.0, float(np.abs(wanted).max())))
