"""Which hand the network poses."""

from pathlib import Path
from typing import Literal

from posecore.config import Config


class HandConfig(Config):
    """The right hand's model; left hands are mirrored before the network sees them."""

    mano_path: Path | None = None
    """MANO_RIGHT.pkl, or the same arrays as .npz (https://mano.is.tue.mpg.de); null: the embedded stand-in, whose results are
    labelled so."""
    tips: Literal["smplx", "manopth_right", "manopth_left", "interhand", "freihand", "ho3d"] = "smplx"
    """Which vertices are fingertips; datasets differ by millimetres."""
    joint_source: Literal["kinematic", "regressed"] = "kinematic"
    """Inner joints: posed joint centres (smplx, HO3D, DexYCB), or regressed from the posed mesh (FreiHAND, InterHand)."""
