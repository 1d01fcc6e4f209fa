"""A trained network for use elsewhere: a folder of safetensors, or ONNX."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from posecore.errors import InputError, RunError
from posecore.training import load_checkpoint
from posecore.training.checkpoints import export_checkpoint
from smil_regressor.model.prediction import Prediction, Views
from smil_regressor.predict import BODY_FILE, SYSTEM, LoadedNetwork, choose_device, load_network

ONNX_TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch, relative to the output's size."""
OPSET = 18


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
        body = loaded.config.smal_model.smal_file
        extra = {} if body is None else {BODY_FILE: body.read_bytes()}
        folder = export_checkpoint(load_checkpoint(checkpoint, SYSTEM), output, extra)
        return {"folder": str(folder), "files": sorted(file.name for file in folder.iterdir())}
    return _export_onnx(loaded, output)


class _Graph(nn.Module):
    """Inputs and outputs as plain tensors."""

    def __init__(self, loaded: LoadedNetwork) -> None:
        super().__init__()
        self.network, self.body = loaded.network, loaded.body

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
    example = _example(loaded, 2)
    output.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        program = torch.onnx.export(graph, tuple(example.values()), input_names=list(INPUTS), output_names=list(OUTPUTS),
                                    opset_version=OPSET, dynamo=True)  # fmt: skip
        assert program is not None
        program.save(str(output))
        wanted = graph(*example.values())
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    names = {entry.name for entry in session.get_inputs()}
    found = session.run(None, {name: value.numpy() for name, value in example.items() if name in names})
    worst = max(_difference(np.asarray(f), w.numpy()) for f, w in zip(found, wanted, strict=True))
    if not worst <= ONNX_TOLERANCE:
        output.unlink()
        raise RunError(f"export: ONNX differs from PyTorch by {worst:.1e} (at most {ONNX_TOLERANCE}); nothing was kept")
    return {"file": str(output), "largest_relative_difference": worst, "inputs": sorted(names), "outputs": list(OUTPUTS),
            "batch": 2}  # fmt: skip


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
