"""A trained network with all that belongs to it, from its checkpoint alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from handvit.assembly import HAND_FILE, Facts, build_hand, hand_sha256
from handvit.config import HandvitConfig
from handvit.config.model import BackboneConfig
from handvit.data.preprocess import PatchSettings
from handvit.hand import HandModel
from handvit.model.build import build_network
from handvit.model.network import HandNetwork
from posecore.errors import InputError
from posecore.training.checkpoints import load_checkpoint

SYSTEM = "handvit"


@dataclass(frozen=True)
class LoadedNetwork:
    """In evaluation mode, on its device."""

    folder: Path
    """Of the checkpoint."""
    run_dir: Path
    config: HandvitConfig
    facts: Facts
    network: HandNetwork
    hand: HandModel
    device: torch.device

    @property
    def patch_settings(self) -> PatchSettings:
        return patch_settings(self.config)


def patch_settings(config: HandvitConfig) -> PatchSettings:
    """What the network's input looks like: the same in training, evaluation and prediction."""
    return PatchSettings(config.model.img_size, config.train.expansion_ratio, config.train.turn_camera)


def load_network(checkpoint: Path, mano_path: Path | None, device: torch.device) -> LoadedNetwork:
    """Rebuild a network from its checkpoint (and the hand model's file, where it is not the embedded stand-in).

    Raises:
        InputError: No such checkpoint, damaged, of another system, or the hand model is missing or another one.
    """
    stored = load_checkpoint(checkpoint, SYSTEM)
    config = HandvitConfig.from_dict(stored.config["config"], str(stored.folder))
    facts = Facts.from_dict(stored.config["facts"])
    config = _with_encoder(config, facts)
    run_dir = stored.folder.parent.parent if stored.folder.parent.name == "checkpoints" else stored.folder
    config = _with_hand_file(config, facts, mano_path, [stored.folder, run_dir])
    hand = build_hand(config)
    if facts.hand_sha256 is not None and hand_sha256(hand) != facts.hand_sha256:
        raise InputError(f"{config.hand.mano_path}: is not the hand model that the network was trained with")
    network = build_network(config.model, mean_rotations=hand.mean_rotations(), load_weights=False)
    stored.load_into(network)
    network.eval().requires_grad_(False).to(device)
    return LoadedNetwork(stored.folder, run_dir, config, facts, network, hand.to(device), device)


def _with_encoder(config: HandvitConfig, facts: Facts) -> HandvitConfig:
    """The configuration with its encoder's sizes written out, where they lie in a folder or on the hub."""
    if facts.encoder is None:
        return config
    backbone = BackboneConfig.from_dict(facts.encoder)
    return config.model_copy(update={"model": config.model.model_copy(update={"backbone": backbone})})


def _with_hand_file(config: HandvitConfig, facts: Facts, given: Path | None, folders: Sequence[Path]) -> HandvitConfig:
    """The configuration with the hand model's file where it is now."""
    if facts.hand_sha256 is None:
        if given is not None:
            raise InputError(
                f"--mano {given}: this network was trained with the embedded stand-in; leave the option out"
            )
        return config.model_copy(update={"hand": config.hand.model_copy(update={"mano_path": None})})
    recorded = config.hand.mano_path
    candidates = [given] if given is not None else [folder / HAND_FILE for folder in folders]
    candidates += [recorded] if given is None and recorded is not None else []
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        looked = ", ".join(str(file) for file in candidates)
        raise InputError(f"the network's hand model was not found (looked for {looked}); give it with --mano")
    return config.model_copy(update={"hand": config.hand.model_copy(update={"mano_path": found})})
