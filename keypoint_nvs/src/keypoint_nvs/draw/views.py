"""Novel views beside the input and the truth."""

from collections.abc import Mapping, Sequence

from keypoint_nvs.draw.canvas import AnyPicture, enlarged
from keypoint_nvs.draw.grid import grid


def view_captions(azimuth_deg: Sequence[float], elevation_deg: Sequence[float]) -> list[str]:
    """Where each camera stands."""
    return [f"az {round(a)}, el {round(e)}" for a, e in zip(azimuth_deg, elevation_deg, strict=True)]


def view_sheet(
    condition: AnyPicture | None,
    rows: Mapping[str, Sequence[AnyPicture]],
    captions: Sequence[str] | None = None,
    side: int = 128,
) -> AnyPicture:
    """The input at the left of the first row, then the views: a row for each of, say, ours, truth, mean training view.

    Args:
        condition: None: no column for it.
        captions: Of the views.
    """
    lines: list[list[AnyPicture | None]] = []
    for views in rows.values():
        first: list[AnyPicture | None] = [] if condition is None else [None if lines else enlarged(condition, side)]
        lines.append(first + [enlarged(view, side) for view in views])
    labels = list(captions) if captions is not None else None
    if labels is not None and condition is not None:
        labels.insert(0, "input")
    return grid(lines, row_labels=list(rows), column_labels=labels)
