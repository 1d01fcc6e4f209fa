"""How training pictures vary."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat

from posecore.config import Config

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class AugmentationConfig(Config):
    """Of the query, but for `inplane_deg`. Probabilities hold for each sample."""

    box_scale: tuple[float, float] = (0.9, 1.2)
    """Range of the box's side, relative to the true one."""
    box_shift: NonNegativeFloat = 0.05
    """Greatest shift of the box, relative to its longer side."""
    color: Probability = 0.8
    """Of any change of colour at all; the five below are drawn within."""
    blur: Probability = 0.4
    """Of a Gaussian blur of 1 to 3 px."""
    sharpness: Probability = 0.3
    """Of a factor 0 to 2 (1: as it is)."""
    contrast: Probability = 0.3
    """Of a factor 0.7 to 1.5."""
    brightness: Probability = 0.5
    """Of a factor 0.5 to 1.7."""
    saturation: Probability = 0.3
    """Of a factor 0 to 1.6."""
    occlusion: Probability = 0.0
    """Of a rectangle of noise over a part of the object; labels know it as hidden."""
    inplane_deg: NonNegativeFloat = 0.0
    """Templates are turned in their plane, with their poses, by at most so many degrees."""
