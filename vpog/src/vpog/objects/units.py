"""Millimetres or metres: what a mesh file is written in, the most frequent mistake of all."""

from typing import Literal

from posecore.errors import InputError

Unit = Literal["auto", "mm", "m"]

MM_PER = {"mm": 1.0, "m": 1000.0}
METRES = (0.01, 0.8)
"""Diameters, in the file's numbers, that can only be metres: objects of 1 to 80 cm."""
MILLIMETRES = (25.0, 3000.0)
"""Diameters that can only be millimetres: objects of 2.5 cm to 3 m."""
TOLERANCE = 0.05
"""By how much a file's diameter may differ from the one that is known; simplified meshes differ by 1 %."""


def mm_per_unit(name: str, diameter: float, unit: Unit, known_diameter_mm: float | None = None) -> float:
    """What the coordinates of a mesh file are multiplied with.

    Args:
        name: Of the file, for messages.
        diameter: In the file's own numbers.
        unit: "auto" decides by `known_diameter_mm`, and without it by the size alone.
        known_diameter_mm: From models_info.json.

    Raises:
        InputError: The size fits both units or none, or contradicts the known diameter.
    """
    if unit not in ("auto", *MM_PER):
        raise InputError(f"mesh unit: is {unit!r}; auto, mm or m is needed")
    if known_diameter_mm is not None:
        return _by_known_diameter(name, diameter, unit, known_diameter_mm)
    if unit != "auto":
        return MM_PER[unit]
    if METRES[0] <= diameter <= METRES[1]:
        return MM_PER["m"]
    if MILLIMETRES[0] <= diameter <= MILLIMETRES[1]:
        return MM_PER["mm"]
    raise InputError(
        f"{name}: its unit cannot be told: the diameter is {diameter:.4g}, which would be {diameter:.4g} mm or "
        f"{diameter * 1000:.4g} mm if it is in metres; {METRES[0]:g} to {METRES[1]:g} is taken for metres and "
        f"{MILLIMETRES[0]:g} to {MILLIMETRES[1]:g} for millimetres. Give the unit (mm or m); a mesh in another unit, "
        "or scaled to the unit sphere, has to be scaled first"
    )


def _by_known_diameter(name: str, diameter: float, unit: Unit, known_mm: float) -> float:
    for candidate, scale in MM_PER.items():
        if unit in ("auto", candidate) and abs(diameter * scale / known_mm - 1.0) <= TOLERANCE:
            return scale
    tried = "mm or m" if unit == "auto" else unit
    raise InputError(
        f"{name}: its diameter is {diameter:.4g}, read as {tried}, but models_info.json says {known_mm:.4g} mm: "
        "the mesh is of another object, or in another unit"
    )
