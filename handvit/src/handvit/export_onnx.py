"""ONNX files: each is run with onnxruntime and compared with PyTorch before it is kept."""

import logging
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from handvit.export_graphs import MeshReader, NetworkGraph, ParameterReader, TemporalGraph
from handvit.loading import LoadedNetwork
from posecore.errors import InputError, RunError

ONNX_TOLERANCE = 1e-4
"""Largest difference between onnxruntime and PyTorch, relative to the output's size."""
OPSET = 18
CHECKED_BATCHES = (1, 3)

Graph = NetworkGraph | TemporalGraph


def export_onnx(loaded: LoadedNetwork, output: Path, part: Literal["network", "temporal"]) -> dict[str, Any]:
    """Write one part of a network, for any number n of hands.

    Inputs of `network`: `patches` [n, 3, p, p], RGB 0..1; `patch_bbox`, `hand_bbox` [n, 4], `focal`, `princpt` [n, 2] in
    pixels of the picture that the patch was cut from. Of `temporal`: `tokens` [n, t, d] and `timestamp_ms` [n, t] of clips
    of any length, and boxes and camera of their last frames. Left hands enter mirrored, as into the network.

    Outputs, in the camera frame of the patch: `rotations` [n, 16, 3, 3], `betas` [n, 10], `root_mm` [n, 3] (the wrist),
    `hand_size_mm` [n]. With the stand-in the hand model is in the file and gives `joints_cam_mm` [n, 21, 3] and
    `vertices_cam_mm` [n, 778, 3]. MANO's mesh is not put in: its licence forbids passing it on, and who passes on the
    file would do so unawares. `network` of stage 2 also gives `tokens` [n, d], and answers for clips of one frame.

    Raises:
        InputError: A missing package; `temporal` of a stage 1 network; an output that does not end in .onnx.
        RunError: onnxruntime and PyTorch differ; nothing is kept.
    """
    _check(loaded, output, part)
    graph = _graph(loaded, part)
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=output.parent) as folder:
        written = Path(folder) / output.name
        _write(graph, written)
        inputs, worst = _compared(graph, written)
        if not worst <= ONNX_TOLERANCE:
            raise RunError(
                f"export: ONNX differs from PyTorch by {worst:.1e} (at most {ONNX_TOLERANCE}); nothing was kept"
            )
        files = sorted(file.name for file in Path(folder).iterdir())  # weights above 2 GB lie in a file of their own
        for name in files:
            os.replace(Path(folder) / name, output.parent / name)
    return {
        "file": str(output),
        "files": files,
        "part": part,
        "inputs": inputs,
        "outputs": list(graph.outputs),
        "batch": "any",
        "hand": "stand-in, inside" if loaded.facts.is_standin else "MANO, not inside: pose it with your own copy",
        "largest_relative_difference": worst,
    }


def _check(loaded: LoadedNetwork, output: Path, part: str) -> None:
    try:
        import onnxruntime
        import onnxscript
    except ImportError:
        raise InputError("export: ONNX needs further packages; install handvit[onnx]") from None
    del onnxruntime, onnxscript
    if output.suffix != ".onnx" or output.is_dir():
        raise InputError(f"--output {output}: ONNX is one file, and its name ends in .onnx")
    if part == "temporal" and loaded.network.stage == 1:
        raise InputError(f"--part temporal: {loaded.folder} is of stage 1 and has no temporal encoder")


def _graph(loaded: LoadedNetwork, part: str) -> Graph:
    kind = MeshReader if loaded.facts.is_standin else ParameterReader
    reader = kind(loaded.hand, loaded.config.model.norm_by_hand)
    if part == "network":
        return NetworkGraph(loaded.network, reader).eval()
    return TemporalGraph(loaded.network, reader, loaded.config.model.num_frame).eval()


def _write(graph: Graph, file: Path) -> None:
    example = graph.example(max(CHECKED_BATCHES))
    lengths = {name: torch.export.Dim(name) for name in ("batch", "frames")}
    shapes = [{axis: lengths[name] for axis, name in enumerate(graph.dynamic[key])} for key in example]
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # a line for each operation that it cannot fold
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # all inputs have the same batch; that is what is meant
        program = torch.onnx.export(
            graph,
            tuple(example.values()),
            input_names=list(example),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=tuple(shapes),
            verbose=False,  # it would print to stdout, where the command's result goes
        )
    assert program is not None  # only the old exporter returns none
    program.save(str(file))


def _compared(graph: Graph, file: Path) -> tuple[list[str], float]:
    """The file's inputs, and how far its outputs are from PyTorch's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = sorted(entry.name for entry in session.get_inputs())
    worst = 0.0
    for batch in CHECKED_BATCHES:
        example = graph.example(batch)
        with torch.no_grad():
            wanted = graph(*example.values())
        found = session.run(None, {name: example[name].numpy() for name in names})
        worst = max(worst, _difference(found, wanted))
    return names, worst


def _difference(found: Sequence[np.ndarray], wanted: Sequence[Tensor]) -> float:
    pairs = [(np.asarray(f), w.numpy()) for f, w in zip(found, wanted, strict=True)]
    return max(float(np.abs(f - w).max() / max(1.0, float(np.abs(w).max()))) for f, w in pairs)
