"""From a configuration to a hand model and a network. Configurations stop here."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from handvit.config import HandvitConfig
from handvit.hand import HandModel, read_hand
from handvit.joints import FINGERTIPS
from posecore.errors import InputError

HAND_FILE = "hand_model.npz"
"""Copy of the hand model that training leaves in the run folder."""


@dataclass(frozen=True)
class Facts:
    """What a trained network must know beside its configuration; saved in every checkpoint."""

    hand_sha256: str | None
    """Of the hand model's arrays; None: the embedded stand-in."""
    is_standin: bool
    """The hand is the stand-in (embedded or from a file): results say so."""
    encoder: dict[str, Any] | None = None
    """`model.backbone` with its sizes written out, where it names a folder or a hub model that is not known here: the
    network is built again without either."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return cls(**values)


def find_file(path: Path, field: str, folders: Sequence[Path]) -> Path:
    """A file or folder named in a configuration: as it is, or beside the configuration.

    Raises:
        InputError: It is in none of these places; names the field.
    """
    candidates = [path] if path.is_absolute() else [path, *(folder / path for folder in folders)]
    found = next((candidate for candidate in candidates if candidate.exists()), None)
    if found is None:
        raise InputError(f"{field}: {path} does not exist (looked for {', '.join(str(c) for c in candidates)})")
    return found


def build_hand(config: HandvitConfig, folders: Sequence[Path] = ()) -> HandModel:
    """The right hand of a configuration.

    Raises:
        InputError: Its file is missing, with the page to get it from, or no MANO hand.
    """
    path = config.hand.mano_path
    if path is not None and not path.is_absolute():
        path = next((folder / path for folder in folders if (folder / path).exists()), path)
    return read_hand(path, tips=FINGERTIPS[config.hand.tips], joint_source=config.hand.joint_source)


def hand_facts(hand: HandModel, embedded: bool) -> Facts:
    return Facts(None if embedded else hand_sha256(hand), hand.is_standin)


def hand_sha256(hand: HandModel) -> str:
    """Of template, shapes, weights and mean pose: the same for a .pkl and the .npz made of it."""
    digest = hashlib.sha256()
    for tensor in (hand.body.template, hand.body.shapedirs, hand.body.weights, hand.hands_mean, hand.faces):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
