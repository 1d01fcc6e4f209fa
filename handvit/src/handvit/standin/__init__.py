"""A made-up right hand in MANO's layout, for everything that has to run without the licensed file."""

from pathlib import Path

from handvit.standin.arrays import LABEL, standin_arrays

__all__ = ["LABEL", "standin_arrays", "write_standin"]


def write_standin(path: Path, seed: int = 0) -> None:
    """Write the stand-in as `path` (.pkl or .npz), marked as such.

    Raises:
        InputError: Neither .pkl nor .npz.
    """
    from handvit.hand.files import write_hand

    write_hand(standin_arrays(seed), path)
