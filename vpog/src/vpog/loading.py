"""A trained network from its checkpoint alone."""

from dataclasses import dataclass
from pathlib import Path

import torch

from posecore.training.checkpoints import load_checkpoint
from vpog.assembly import build_trainable
from vpog.config.run import VpogConfig
from vpog.model.network import VpogNetwork

SYSTEM = "vpog"


@dataclass(frozen=True)
class LoadedNetwork:
    """In evaluation mode, on its device."""

    folder: Path
    """Of the checkpoint."""
    run_dir: Path
    config: VpogConfig
    network: VpogNetwork
    device: torch.device


def load_network(checkpoint: Path, device: torch.device) -> LoadedNetwork:
    """Rebuild a network; files of pretrained weights that its training began with are not needed.

    Raises:
        InputError: No such checkpoint, damaged, or of another system.
    """
    stored = load_checkpoint(checkpoint, SYSTEM)
    config = VpogConfig.from_dict(stored.config["config"], str(stored.folder))
    network = build_trainable(config, load_weights=False)
    stored.load_into(network)
    network.eval().requires_grad_(False).to(device)
    run_dir = stored.folder.parent.parent if stored.folder.parent.name == "checkpoints" else stored.folder
    return LoadedNetwork(stored.folder, run_dir, config, network, device)
