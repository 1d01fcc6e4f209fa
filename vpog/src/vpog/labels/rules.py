"""What counts as seen, and how finely labels are made."""

from dataclasses import dataclass
from typing import Literal

Lookup = Literal["nearest", "reference"]


@dataclass(frozen=True)
class LabelRules:
    """How depths are compared.

    Raises:
        ValueError: A number is out of its range.
    """

    patch_size: int = 16
    tol_mm: float = 5.0
    """A point is hidden if it lies further than this behind the surface that the other picture shows there."""
    tol_diameter: float = 0.01
    """The same in diameters of the object; the larger of the two holds."""
    tol_template_units: float | None = None
    """In place of both where depths of templates are compared, in the unit of the rendered mesh; None: the same length
    as in the query. The first implementations took 5 in either unit, which is 0.5 mm for meshes rendered tenfold."""
    min_visible_pixels: int = 4
    """So many pixels of the template patch must land inside the query patch."""
    lookup: Lookup = "nearest"
    """The pixel that a point falls on: the nearest, because integers are centres, or, as in the first implementations,
    the floor of its coordinates."""
    compute_visibility: bool = True
    """False: depths are not compared, all that falls on the object's silhouette counts as seen."""
    compute_patch_visibility: bool = True
    """False: a patch counts as visible where its centre is."""

    def __post_init__(self) -> None:
        if self.patch_size < 1:
            raise ValueError(f"patch_size: {self.patch_size} is not a positive number of pixels")
        if not 1 <= self.min_visible_pixels <= self.patch_size**2:
            raise ValueError(
                f"min_visible_pixels: {self.min_visible_pixels} is not within 1..{self.patch_size**2}, the pixels of a "
                f"patch (patch_size {self.patch_size})"
            )
        for name in ("tol_mm", "tol_diameter", "tol_template_units"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name}: {value} is no finite length of 0 or more")
