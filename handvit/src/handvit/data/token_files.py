"""Tokens of stage 1 beside a shard, so that stage 2 trains without pictures.

`X.tar.tokens.safetensors` belongs to the contents of `X.tar`, to the weights that made it and to how they saw the
pictures; anything else is refused. A row for each frame of all samples, in the order of `frame_table`:
tokens f32 [f, d], NaN where no hand is seen; size_wh i32 [f, 2], of the stored picture.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int32
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from handvit.config import HandvitConfig
from handvit.data.frame_table import contents_checksum
from posecore.data.shard_index import open_index
from posecore.errors import InputError

FORMAT = "1"


@dataclass(frozen=True)
class TokenOrigin:
    """What tokens depend on beside the pictures."""

    checkpoint: str
    """Where the weights are, for messages."""
    weights_sha256: str
    settings: Mapping[str, Any]
    """Fields of the configuration by their names, as JSON has them."""

    @classmethod
    def of(cls, config: HandvitConfig, weights: Mapping[str, Tensor], checkpoint: str) -> "TokenOrigin":
        """Of a network of either stage; the temporal encoder has no part in it."""
        return cls(checkpoint, _spatial_sha256(weights), _settings(config))


def token_path(shard: Path) -> Path:
    return shard.with_name(f"{shard.name}.tokens.safetensors")


def write_tokens(
    shard: Path, origin: TokenOrigin, tokens: Float32[np.ndarray, "f d"], size_wh: Int32[np.ndarray, "f 2"]
) -> None:
    """Replaces the shard's tokens; the file is there in whole or not at all."""
    header = {
        "format": FORMAT,
        "shard": contents_checksum(open_index(shard)),
        "checkpoint": origin.checkpoint,
        "weights": origin.weights_sha256,
        "settings": json.dumps(origin.settings),
    }
    path = token_path(shard)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.writing")
    save_file({"tokens": tokens, "size_wh": size_wh}, unfinished, header)
    unfinished.replace(path)


def misfit(shard: Path, origin: TokenOrigin) -> str | None:
    """Why the tokens beside a shard cannot stand for those of `origin`; None if they can."""
    path = token_path(shard)
    if not path.is_file():
        return f"{shard}: has no {path.name}"
    header = _header(path)
    if header is None:
        return f"{path}: is damaged"
    if header.get("format") != FORMAT:
        return f"{path}: has format {header.get('format')}; this program reads {FORMAT}"
    if header["shard"] != contents_checksum(open_index(shard)):
        return f"{path}: was made of other contents of {shard.name}"
    if header["weights"] != origin.weights_sha256:
        return f"{path}: holds tokens of {header['checkpoint']}, whose weights are not those of {origin.checkpoint}"
    made_with = json.loads(header["settings"])
    for name, value in origin.settings.items():
        if made_with.get(name) != value:
            return f"{path}: was made with {name} {made_with.get(name)}; it is {value} here"
    return None


class TokenTable:
    """The tokens of several shards, read from their files when they are asked for.

    Args:
        num_frames: Of each shard.

    Raises:
        InputError: A shard has no tokens, or those of other weights, settings or contents; says how to make them.
    """

    def __init__(self, shards: Sequence[Path], num_frames: Sequence[int], origin: TokenOrigin) -> None:
        problems = [problem for shard in shards if (problem := misfit(shard, origin)) is not None]
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            folders = " ".join(f"--data {folder}" for folder in sorted({str(shard.parent) for shard in shards}))
            command = f"handvit data tokens --checkpoint {origin.checkpoint} {folders}"
            raise InputError(f"{problems[0]}{more}; data.token_cache needs it: {command}")
        self._paths = [token_path(shard) for shard in shards]
        self._ends = np.cumsum(num_frames)
        self._open: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # maps of files mean nothing in another process

    def read(
        self, first: int, count: int, step: int, where: str
    ) -> tuple[Float32[np.ndarray, "t d"], Int32[np.ndarray, "t 2"]]:
        """Tokens and sizes of pictures of some frames of one sequence.

        Args:
            first: Counted through all frames of all shards.

        Raises:
            InputError: A frame has no token; `where` names the clip.
        """
        shard = int(np.searchsorted(self._ends, first, side="right"))
        low = first - (int(self._ends[shard - 1]) if shard else 0)
        rows = slice(low, low + (count - 1) * step + 1)
        content = self._content(shard)
        tokens = content.get_slice("tokens")[rows][::step]
        if not np.isfinite(tokens).all():
            raise InputError(f"{where}: {self._paths[shard].name} has no token for one of its frames")
        return tokens, content.get_slice("size_wh")[rows][::step]

    def _content(self, shard: int) -> Any:
        if shard not in self._open:
            self._open[shard] = safe_open(self._paths[shard], "numpy")
        return self._open[shard]


def _header(path: Path) -> dict[str, str] | None:
    """None where the file is damaged."""
    try:
        with safe_open(path, "numpy") as content:
            return dict(content.metadata() or {})
    except SafetensorError:
        return None


def _spatial_sha256(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(name for name in weights if not name.startswith("temporal_encoder.")):
        values = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {list(values.shape)}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings(config: HandvitConfig) -> dict[str, Any]:
    """What changes a token and does not show in the weights."""
    model = config.model
    values = {
        "model.img_size": model.img_size,
        "model.backbone.infusion_layer": model.backbone.infusion_layer,
        "model.backbone.drop_cls": model.backbone.drop_cls,
        "model.backbone.kwargs": model.backbone.kwargs,
        "model.persp_info_embed": model.persp_info_embed.to_json_dict(),
        "model.handec.num_head": model.handec.num_head,
        "model.handec.dim_head": model.handec.dim_head,
        "train.expansion_ratio": config.train.expansion_ratio,
        "train.turn_camera": config.train.turn_camera,
    }
    as_stored: dict[str, Any] = json.loads(json.dumps(values))
    return as_stored
