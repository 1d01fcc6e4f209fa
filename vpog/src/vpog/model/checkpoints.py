"""Public CroCo v2 checkpoints: {"model": state dict, "croco_kwargs": sizes}.

CroCo's weights may not be used commercially (CC BY-NC-SA 4.0), so they are the user's own files and never come along.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from posecore.errors import InputError
from posecore.weights import load_weights
from vpog.model.croco_decoder import CrocoDecoder
from vpog.model.croco_encoder import CrocoEncoder
from vpog.model.weight_files import read_torch_file

LOG = logging.getLogger(__name__)

LICENCE = "CroCo weights: CC BY-NC-SA 4.0 (Naver Corporation); not for commercial use"
SOURCE = "CroCo_V2_ViTBase_SmallDecoder.pth, CroCo_V2_ViTBase_BaseDecoder.pth or CroCo_V2_ViTLarge_BaseDecoder.pth"
ENCODER_PARTS = ("patch_embed", "enc_blocks", "enc_norm")
DECODER_PARTS = ("decoder_embed", "dec_blocks", "dec_norm")
UNUSED_PARTS = ("mask_token", "prediction_head")
"""They paint hidden patches when CroCo is trained."""
DEFAULTS: dict[str, Any] = {"enc_num_heads": 12, "dec_num_heads": 16, "mlp_ratio": 4, "pos_embed": "cosine"}
"""What a checkpoint that does not say them was trained with."""
POSITIONS = "RoPE100"
BYTES_A_NUMBER = 4


@dataclass(frozen=True)
class CrocoCheckpoint:
    path: Path
    state: dict[str, Tensor]
    kwargs: dict[str, Any]

    def setting(self, name: str) -> Any:
        return self.kwargs.get(name, DEFAULTS[name])

    def part(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Entries of some of its modules."""
        wanted = set(names)
        return {key: value for key, value in self.state.items() if key.split(".")[0] in wanted}


def read_croco(path: Path, field: str = "model.encoder.weights") -> CrocoCheckpoint:
    """Read a public CroCo v2 checkpoint; the notice of its licence is logged.

    Raises:
        InputError: No such file, another or a damaged file, CroCo v1, entries that no CroCo v2 has.
    """
    stored = read_torch_file(path, field)
    if not isinstance(stored, Mapping) or not isinstance(stored.get("model"), Mapping):
        raise InputError(f"{path}: key model: missing; this is no CroCo checkpoint ({SOURCE})")
    state = dict(stored["model"])
    if "croco_kwargs" not in stored:
        kind = "a CroCo v1 file" if {"enc_pos_embed", "dec_pos_embed"} & state.keys() else "no CroCo v2 file"
        raise InputError(f"{path}: key croco_kwargs: missing, so this is {kind}; take v2: {SOURCE}")
    checkpoint = CrocoCheckpoint(path, state, dict(stored["croco_kwargs"]))
    _check(checkpoint)
    LOG.warning("%s: %s", path, LICENCE)
    return checkpoint


def load_croco(module: CrocoEncoder | CrocoDecoder, checkpoint: CrocoCheckpoint) -> None:
    """Give an encoder or a decoder the file's weights.

    Raises:
        InputError: The file's is another than the configuration's; each entry that is missing, left over or of another
            shape is named, and the number of heads, which shows in no shape.
    """
    if isinstance(module, CrocoEncoder):
        part, heads, names = "encoder", "enc_num_heads", ENCODER_PARTS
    else:
        part, heads, names = "decoder", "dec_num_heads", DECODER_PARTS
    if checkpoint.setting(heads) != module.num_heads:
        raise InputError(
            f"{checkpoint.path}: croco_kwargs.{heads} {checkpoint.setting(heads)}: model.{part}.heads is "
            f"{module.num_heads}; they should be equal"
        )
    load_weights(module, checkpoint.part(names), f"{checkpoint.path} ({part})")


def check_file_size(path: Path, modules: Iterable[nn.Module], field: str) -> None:
    """Refuse, before it is read, a file that is too small for these weights: a web page, or half a download.

    Raises:
        InputError: No such file, or one smaller than the modules' numbers are.
    """
    if not path.is_file():
        raise InputError(f"{field} {path}: no such file; it should be {SOURCE}. {LICENCE}")
    needed = BYTES_A_NUMBER * sum(value.numel() for module in modules for value in module.state_dict().values())
    size = path.stat().st_size
    if size < needed:
        raise InputError(
            f"{field} {path}: {size:,} bytes cannot hold these weights, which take {needed:,}; "
            "the download broke off, or the configured network is larger than the file's"
        )


def _check(checkpoint: CrocoCheckpoint) -> None:
    known = {*ENCODER_PARTS, *DECODER_PARTS, *UNUSED_PARTS}
    strange = sorted({key.split(".")[0] for key in checkpoint.state} - known)
    problems = []
    if strange:
        problems.append(f"{checkpoint.path}: model: {', '.join(strange[:8])}: no part of a CroCo v2 network")
    if not all(isinstance(value, Tensor) for value in checkpoint.state.values()):
        problems.append(f"{checkpoint.path}: model: should hold tensors alone")
    for name, right in (("pos_embed", POSITIONS), ("mlp_ratio", DEFAULTS["mlp_ratio"])):
        if checkpoint.setting(name) != right:
            problems.append(f"{checkpoint.path}: croco_kwargs.{name} {checkpoint.setting(name)!r}: should be {right!r}")
    if problems:
        raise InputError(problems)
