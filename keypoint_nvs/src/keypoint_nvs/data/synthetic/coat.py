"""Colours of the parts: RGB 0..1 before shading."""

import colorsys

import numpy as np
from jaxtyping import Float

from keypoint_nvs.data.synthetic.anatomy import LEG_PARTS, NUM_PARTS, PART_NAMES

FIXED_COLORS = {"head": (0.95, 0.55, 0.15), "snout": (0.98, 0.85, 0.62), "tail": (0.20, 0.40, 0.90)}
"""Of every animal."""
GREY_BODY = (0.58, 0.62, 0.66)
LEG_SHADE = 0.75
"""Legs are the body's colour, darker by this."""


def random_body(rng: np.random.Generator) -> tuple[float, float, float]:
    """Any hue, neither black nor white."""
    return colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.3, 0.9), rng.uniform(0.4, 0.95))


def coat(body: tuple[float, float, float]) -> Float[np.ndarray, "p 3"]:
    """Colours of all parts, in the order of PART_NAMES."""
    colors = np.empty((NUM_PARTS, 3))
    colors[PART_NAMES.index("body")] = body
    colors[list(LEG_PARTS)] = LEG_SHADE * np.array(body)
    for name, color in FIXED_COLORS.items():
        colors[PART_NAMES.index(name)] = color
    return colors
