"""Which device a command computes on, and with how many threads."""

from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes with one CPU thread inside: products of tiny networks wait for each other's threads longer than they
    take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
