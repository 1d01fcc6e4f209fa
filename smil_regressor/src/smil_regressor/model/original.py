"""Weights of the published model (SMILify): what a checkpoint holds, and its names turned into ours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from posecore.errors import InputError
from smil_regressor.model.mlp_head import MLPHead
from smil_regressor.model.regressor import DecoderContext, MultiViewRegressor, SingleViewRegressor

TRANS_SCALE = 5.0
_CAMERA_HEAD = re.compile(r"camera_heads\.(\d+)\.(layers\..+)")
_RENAMED = {"transformer_head.": "head.", "backbone.backbone.": "backbone.trunk."}
_SAME = ("view_fusion.", "view_embeddings.", "patch_view_embed.", "body_aggregator.")
_MLP = re.compile(r"(fc\d|ln\d|regressor)\.")


@dataclass(frozen=True)
class OriginalLayout:
    """Sizes of a published network, read from the shapes of its tensors; None where it has no such part."""

    is_multi_view: bool
    max_views: int
    has_decoder: bool
    hidden_dim: int | None
    depth: int | None
    mlp_dim: int | None
    context_dim: int | None
    decoder_context: DecoderContext
    pose_dim: int | None
    """Joints times 6 (rotations as 6D "rows") or times 3 (axis-angle)."""
    num_betas: int | None
    limb_dim: int
    has_mesh_scale: bool


def read_original(path: Path) -> dict[str, Tensor]:
    """The network's tensors. Nothing but tensors and plain values is unpickled."""
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    stored: Any = torch.load(path, map_location="cpu", weights_only=True)
    state = stored.get("model_state_dict", stored) if isinstance(stored, dict) else None
    if state is None or not any(name.startswith(("transformer_head.", "regressor.")) for name in state):
        raise InputError(f"{path}: not a checkpoint of the published model; expected model_state_dict with its heads")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def describe_original(state: Mapping[str, Tensor]) -> OriginalLayout:
    """What must be built so that `load_original` fits (camera_in_state and rot6d_layout "rows" always)."""

    def size(name: str, axis: int) -> int | None:
        value = state.get(f"transformer_head.{name}")
        return None if value is None else value.shape[axis]

    embeddings = state.get("view_embeddings.weight")
    layers = {name.split(".")[2] for name in state if name.startswith("transformer_head.layers.")}
    return OriginalLayout(
        is_multi_view=embeddings is not None,
        max_views=1 if embeddings is None else len(embeddings),
        has_decoder=size("pos_embedding", -1) is not None,
        hidden_dim=size("pos_embedding", -1),
        depth=len(layers) or None,
        mlp_dim=size("layers.0.ff.net.0.weight", 0),
        context_dim=size("layers.0.norm_context.weight", 0),
        decoder_context="patches" if "patch_view_embed.weight" in state else "fused",
        pose_dim=size("pose_head.weight", 0),
        num_betas=size("betas_head.weight", 0),
        limb_dim=size("scales_head.weight", 0) or 0,
        has_mesh_scale=size("mesh_scale_head.weight", 0) is not None,
    )


def load_original(model: SingleViewRegressor | MultiViewRegressor, state: Mapping[str, Tensor]) -> list[str]:
    """Load published weights into a network of the same sizes; returns the names that belong to no network here.

    Those are the body model's and the optimised parameters that the published class inherits from its fitter.
    """
    renamed, unused = rename_original(state)
    if isinstance(model, MultiViewRegressor):
        renamed["camera_heads.trans_scale"] = torch.tensor(TRANS_SCALE)
    if isinstance(model.head, MLPHead):
        # The published MLP predicts the parameters, ours their difference to the initial state.
        renamed["head.initial"] = model.head.initial
        renamed["head.regressor.bias"] = renamed["head.regressor.bias"] - model.head.initial[0]
    expected = model.state_dict()
    # The published multi-view class builds an aggregator also where its decoder does not use it.
    extra = [n for n in renamed if n not in expected and n.startswith(("body_aggregator.", "patch_view_embed."))]
    unused += extra
    problems = [f"{name}: missing" for name in expected if name not in renamed]
    for name, value in renamed.items():
        if name not in expected:
            problems += [] if name in extra else [f"{name}: no such weight in the network"]
        elif value.shape != expected[name].shape:
            problems.append(f"{name}: {tuple(value.shape)}, the network has {tuple(expected[name].shape)}")
    if problems:
        raise InputError([f"published checkpoint: {problem}" for problem in problems])
    model.load_state_dict({name: value for name, value in renamed.items() if name in expected})
    return unused


def rename_original(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Our names (camera heads stacked), and the names that are no network's."""
    renamed: dict[str, Tensor] = {}
    heads: dict[str, dict[int, Tensor]] = {}
    unused = []
    for name, value in state.items():
        prefix = next((p for p in _RENAMED if name.startswith(p)), None)
        camera = _CAMERA_HEAD.fullmatch(name)
        if prefix is not None:
            renamed[_RENAMED[prefix] + name.removeprefix(prefix)] = value
        elif camera is not None:
            heads.setdefault(camera[2], {})[int(camera[1])] = value
        elif name.startswith(_SAME):
            renamed[name] = value
        elif _MLP.match(name):
            renamed[f"head.{name}"] = value
        else:
            unused.append(name)
    for layer, slots in heads.items():
        renamed[f"camera_heads.{layer}"] = torch.stack([slots[i] for i in sorted(slots)])
    return renamed, unused
