"""Which templates a query is grouped with."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from posecore.config import Config
from vpog.selection import SelectionRules

Angle = Annotated[float, Field(ge=0, le=180)]
Probability = Annotated[float, Field(ge=0, le=1)]


class SelectionConfig(Config):
    """The group of templates of a query: positives near its viewing direction, negatives far from it."""

    num_positive: PositiveInt = 4
    """Templates near the query's direction; the nearest is always among them."""
    num_negative: NonNegativeInt = 2
    """Templates far from it."""
    min_negative_angle_deg: Angle = 90.0
    """Smallest angle between a negative and the query, or any symmetric copy of it. Where too few views are as far, the
    farthest are taken, and counted."""
    mode: Literal["nearest", "random_within_range"] = "nearest"
    """nearest: the nearest views. random_within_range: the nearest one, and others drawn from within `range_deg` of it."""
    range_deg: Angle = 30.0
    """With random_within_range; level 1's views are about 16 degrees apart. Where too few are as near, the nearest are
    taken, and counted."""
    d_ref_random_ratio: Probability = 0.0
    """How often the group's reference direction is that of a random positive; 0: always the nearest."""
    metric: Literal["view", "so3"] = "view"
    """view: angle between viewing directions. so3: angle of whole rotations, for comparison with public code."""
    query_direction: Literal["camera_centre", "optical_axis"] = "camera_centre"
    """camera_centre: what a crop off the centre of the picture shows. optical_axis: what public code uses."""
    respect_symmetries: bool = True
    """Count all directions from which a symmetric object looks the same (models_info.json) as the query's."""
    symmetry_step: PositiveFloat = 0.1
    """Spacing of turns about a continuous axis, as a share of the diameter; 0.1: 32 turns of about 11 degrees."""

    @model_validator(mode="after")
    def _range_holds_no_negative(self) -> "SelectionConfig":
        if self.mode == "random_within_range" and self.num_negative and self.range_deg >= self.min_negative_angle_deg:
            raise ValueError(
                f"range_deg is {self.range_deg}, but min_negative_angle_deg is {self.min_negative_angle_deg}: a view could be"
                " drawn as a positive and as a negative; range_deg must be smaller"
            )
        return self

    @property
    def rules(self) -> SelectionRules:
        return SelectionRules(**self.model_dump())
