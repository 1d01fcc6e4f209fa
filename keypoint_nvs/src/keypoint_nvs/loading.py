"""A trained network from its checkpoint alone."""

from dataclasses import dataclass
from pathlib import Path

import torch

from keypoint_nvs.assembly import SYSTEM, rebuild_network
from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.model.system import KeypointNvsNetwork
from posecore.training.checkpoints import load_checkpoint


@dataclass(frozen=True)
class LoadedNetwork:
    """In evaluation mode, on its device."""

    folder: Path
    """Of the checkpoint."""
    run_dir: Path
    config: KeypointNvsConfig
    network: KeypointNvsNetwork
    device: torch.device


def load_network(checkpoint: Path, device: torch.device) -> LoadedNetwork:
    """Rebuild a network; the folders and runs that its training began with are not needed, but for a backbone that the
    configuration left out of the checkpoints.

    Raises:
        InputError: No such checkpoint, damaged, or of another system.
    """
    stored = load_checkpoint(checkpoint, SYSTEM)
    config, network = rebuild_network(stored)
    network.eval().requires_grad_(False).to(device)
    run_dir = stored.folder.parent.parent if stored.folder.parent.name == "checkpoints" else stored.folder
    return LoadedNetwork(stored.folder, run_dir, config, network, device)
