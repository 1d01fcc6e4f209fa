"""How keypoints and views are predicted."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from posecore.config import Config


class InferenceConfig(Config):
    """The command line's options override these."""

    warps: NonNegativeInt = 10
    """Warped copies whose maps are averaged; 0: the picture alone."""
    map_px: PositiveInt = 512
    """Side to which maps are resized before averaging."""
    peak: Literal["argmax", "centre_of_mass"] = "argmax"
    peak_radius: PositiveFloat = 5.0
    """Of the centre of mass, in pixels of the map."""
    batch_size: PositiveInt = 4
    """Pictures, with their copies, that the UNet sees at once."""
    sampling_steps: PositiveInt = 28
    """Of novel views: 28 usual, 75 for detail."""
    guidance: Annotated[float, Field(ge=1.0)] = 4.0
    """How far the answer is pushed away from that without condition; 1: not at all."""
    samples: PositiveInt = 1
    """Drawn novel views that are averaged (evaluation)."""
    seed: NonNegativeInt = 0
    triangulation_width: PositiveFloat = 0.03
    """q of the robust weights of 3D keypoints, in widths of a view."""
    min_confidence: NonNegativeFloat = 0.1
    """Views whose peak is below this part of the keypoint's best view do not count for its 3D point."""
