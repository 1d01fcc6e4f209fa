"""What counts as seen when templates and query are matched."""

from typing import Literal

from pydantic import NonNegativeFloat, PositiveInt

from posecore.config import Config
from vpog.labels.rules import LabelRules


class LabelConfig(Config):
    """Labels are made of depth, masks and poses on the device of the batch."""

    tol_mm: NonNegativeFloat = 5.0
    """A point is hidden if it lies further than this behind the surface that the other picture shows there."""
    tol_diameter: NonNegativeFloat = 0.01
    """The same in diameters of the object; the larger of the two holds."""
    tol_template_units: NonNegativeFloat | None = None
    """In place of both where depths of templates are compared, in the unit of the rendered mesh; null: the same length
    as in the query. For comparison with the first implementations, which take 5."""
    min_visible_pixels: PositiveInt = 4
    """So many pixels of a template patch must land inside the query patch for its centre's flow to be learnt."""
    lookup: Literal["nearest", "reference"] = "nearest"
    """The pixel that a point falls on. nearest: integers are pixel centres; reference: the floor of its coordinates, as
    in the first implementations."""
    compute_visibility: bool = True
    """false: depths are not compared, all that falls on the object's silhouette counts as seen."""
    compute_patch_visibility: bool = True
    """false: a patch counts as visible where its centre is."""

    def rules(self, patch_size: int) -> LabelRules:
        """For patches of this size.

        Raises:
            ValueError: min_visible_pixels is more than a patch has.
        """
        return LabelRules(patch_size=patch_size, **self.model_dump())
