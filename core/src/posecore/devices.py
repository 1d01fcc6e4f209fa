"""Which device a command computes on."""

import torch

from posecore.errors import InputError


def choose_device(name: str) -> torch.device:
    """cpu, cuda, cuda:1, or auto (a GPU where there is one).

    Raises:
        InputError: No such device, or no GPU here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device: {name} is no device; cpu, cuda or auto is needed") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device: {name} was asked for, but torch finds no GPU")
    return device
