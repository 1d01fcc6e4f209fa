"""The worst of many: what went wrong, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from keypoint_nvs.draw.canvas import AnyPicture
from keypoint_nvs.draw.grid import grid, legend, stacked
from keypoint_nvs.draw.tokens import draw_tokens
from posecore.draw import joint_colors


@dataclass(frozen=True)
class KeypointCase:
    """A picture with keypoints and where they should be."""

    text: str
    image: AnyPicture
    points_px: Float[np.ndarray, "j 2"]
    truth_px: Float[np.ndarray, "j 2"]
    """Not finite: unknown."""


def keypoint_cases(
    cases: Sequence[KeypointCase], names: Sequence[str] | None = None, *, columns: int = 5, side: int = 192
) -> AnyPicture:
    """Dots where keypoints are, crosses where they should be, a line between them.

    Args:
        names: Of the keypoints, for a legend.
    """
    if not cases:
        raise ValueError("there are no cases to show")
    count = len(cases[0].points_px)
    wanted = [f"keypoint {k}" for k in range(count)] if names is None else list(names)
    colors = [(int(r), int(g), int(b)) for r, g, b in joint_colors(wanted)]
    cells = [draw_tokens(c.image, c.points_px, side=side, colors=colors, truth_px=c.truth_px) for c in cases]
    lines = [
        grid([cells[start : start + columns]], column_labels=[c.text for c in cases[start : start + columns]])
        for start in range(0, len(cells), columns)
    ]
    sheet = stacked(lines)
    return sheet if names is None else stacked([sheet, legend(names, colors, sheet.shape[1])])
