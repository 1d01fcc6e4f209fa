"""How much each term counts."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat

from posecore.config import Config


class LossConfig(Config):
    """Weights of the terms; those of weight 0 are not computed. Each is logged raw and weighed."""

    nvs: NonNegativeFloat = 1.0
    """Mean squared error of the velocity."""
    localisation: NonNegativeFloat = 100.0
    """Squared distance of each map from a Gaussian at its peak (with multiview, partly at the projected point)."""
    equivariance: NonNegativeFloat = 1000.0
    """Squared difference of the maps of a picture and of its warped copy, warped back."""
    point: NonNegativeFloat = 0.0
    """Reprojection error of the triangulated points, in widths; 300 beside the defaults above."""
    spread: NonNegativeFloat = 0.0
    """Points of different tokens keep their distance."""
    foreground: NonNegativeFloat = 0.0
    """Keypoints lie on the object, where the data have transparency."""
    temporal: NonNegativeFloat = 0.0
    """Maps of neighbouring frames of a video resemble each other (samples of one object, neighbours in the batch)."""
    temporal_kind: Literal["l2", "kl", "weighted"] = "l2"
    """l2: squared difference; kl: divergence of their softmaxes over pixels; weighted: l2 that lets cuts go."""
    balance: Literal["fixed", "ema"] = "fixed"
    """fixed: the weights as they are; ema: each term is first brought to the running size of the nvs term."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.99
    """Of the running sizes."""
