"""Sheets: hands from the side, worst cases, clips, heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from handvit.draw.enlarge import AnyPicture, enlarged, enlarged_K
from handvit.draw.meshes import draw_meshes, project_mm
from handvit.draw.skeletons import PREDICTION
from handvit.joints import PARENTS
from posecore.draw import INK, PAPER, TRUTH, Color, Picture, draw_skeleton, tile
from posecore.rendering import Backend

FAR_AWAY = 1000.0
"""A camera this many sizes away has parallel rays: perspective changes widths by a thousandth."""


@dataclass(frozen=True)
class Figure:
    """A hand in the camera's frame, for views from elsewhere."""

    joints_mm: Float[np.ndarray, "21 3"]
    color: Color
    vertices_mm: Float[np.ndarray, "v 3"] | None = None


def side_view(
    figures: Sequence[Figure],
    faces: Int[np.ndarray, "f 3"] | None = None,
    size: tuple[int, int] = (192, 192),
    *,
    backend: Backend = "warp",
) -> Picture:
    """Hands seen from the camera's right by parallel rays: what is far lies to the right, up stays up.

    Depth errors, hidden in the picture itself, are plain to see here. A bar tells the scale in millimetres.

    Args:
        faces: Of the figures' meshes; None: skeletons only.
    """
    canvas = np.full((*size, 3), PAPER, np.uint8)
    if not figures:
        return canvas
    clouds = [figure.joints_mm for figure in figures]
    clouds += [figure.vertices_mm for figure in figures if figure.vertices_mm is not None and faces is not None]
    points = np.concatenate(clouds)[:, [2, 1, 0]]
    span_mm = max(float(np.ptp(points[:, :2], axis=0).max()), 60.0)
    px_per_mm = 0.76 * min(size) / span_mm
    middle = (points.min(0) + points.max(0)) / 2
    centre_px = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2 - 0.04 * size[0]])
    meshes = [(f.vertices_mm[:, [2, 1, 0]], f.color) for f in figures if f.vertices_mm is not None]
    if faces is not None and meshes:
        distance = FAR_AWAY * span_mm
        # seen from the right, the nearest is what lies farthest to the right
        far = [(mesh - middle) * [1, 1, -1] + [0, 0, distance] for mesh, _ in meshes]
        K = np.array([[px_per_mm * distance, 0, centre_px[0]], [0, px_per_mm * distance, centre_px[1]], [0, 0, 1.0]])
        canvas = draw_meshes(canvas, far, faces, K, [color for _, color in meshes], opacity=0.55, backend=backend)
    for figure in figures:
        px = (figure.joints_mm[:, [2, 1]] - middle[:2]) * px_per_mm + centre_px
        canvas = draw_skeleton(canvas, px, PARENTS, None, figure.color)
    return _with_scale(canvas, px_per_mm)


@dataclass(frozen=True)
class Case:
    """One prediction beside its truth, in a patch."""

    key: str
    patch: Picture
    K: Float[np.ndarray, "3 3"]
    """Intrinsics of the patch, px."""
    truth: Figure
    predicted: Figure
    errors: str
    """What to write below the key, such as `MPJPE 31 mm`."""


def case_sheet(
    cases: Sequence[Case], faces: Int[np.ndarray, "f 3"] | None = None, side: int = 192, *, backend: Backend = "warp"
) -> Picture:
    """A row a case: patch | truth | prediction | both from the side. Patches are enlarged to `side`."""
    cells: list[AnyPicture] = []
    captions: list[str] = []
    for case in cases:
        patch, K = enlarged(case.patch, side), enlarged_K(case.K, side / case.patch.shape[1])
        cells += [
            patch,
            _figure(patch, case.truth, faces, K, backend),
            _figure(patch, case.predicted, faces, K, backend),
            side_view([case.truth, case.predicted], faces, (side, side), backend=backend),
        ]
        captions += [case.key, "truth", case.errors, "from the right"]
    return tile(cells, captions, columns=4)


def clip_strip(frames: Sequence[AnyPicture], captions: Sequence[str] | None = None) -> AnyPicture:
    """The frames of a clip in a row, in order."""
    return tile(frames, captions, columns=len(frames))


def distribution_strip(
    probabilities: Float[np.ndarray, "rows bins"],
    low_high: Float[np.ndarray, "rows 2"],
    truth: Float[np.ndarray, " rows"] | None = None,
    names: Sequence[str] = ("x", "y", "z"),
    size: tuple[int, int] = (84, 320),
) -> Picture:
    """Heat maps over one axis, a row each: bright where probable, a green tick at the truth, a red one at the mean.

    Args:
        low_high: Centres of the first and last bin, in the unit of `truth`.
    """
    height, width = size
    rows, left = len(probabilities), 22
    each = height // rows
    canvas = np.full((height, width, 3), PAPER, np.uint8)
    for row, (weights, (low, high)) in enumerate(zip(probabilities, low_high, strict=True)):
        top, bar = row * each + 2, each - 4
        grey = cv2.resize(
            (weights / max(weights.max(), 1e-12))[None].astype(np.float32),
            (width - left - 4, bar),
            interpolation=cv2.INTER_AREA,
        )
        colored = cv2.applyColorMap((255 * np.clip(grey, 0, 1)).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
        canvas[top : top + bar, left : width - 4] = colored[..., ::-1]
        mean = float(weights @ np.linspace(low, high, len(weights)) / weights.sum())
        marks = [(mean, PREDICTION)] + ([(float(truth[row]), TRUTH)] if truth is not None else [])
        for value, color in marks:
            x = left + round((value - low) / (high - low) * (width - left - 5))
            if left <= x < width - 4:
                cv2.line(canvas, (x, top), (x, top + bar - 1), color, 2)
        cv2.putText(canvas, names[row], (6, top + bar // 2 + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return canvas


def _figure(
    image: Picture, figure: Figure, faces: Int[np.ndarray, "f 3"] | None, K: Float[np.ndarray, "3 3"], backend: Backend
) -> Picture:
    canvas = image
    if figure.vertices_mm is not None and faces is not None:
        canvas = draw_meshes(canvas, [figure.vertices_mm], faces, K, [figure.color], opacity=0.45, backend=backend)
    return draw_skeleton(canvas, project_mm(figure.joints_mm, K), PARENTS, None, figure.color)


def _with_scale(canvas: UInt8[np.ndarray, "h w 3"], px_per_mm: float) -> Picture:
    """A bar of a round length in the lower left corner."""
    room_mm = 0.5 * canvas.shape[1] / px_per_mm
    length_mm = max(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if step <= max(room_mm, 1))
    y, x = canvas.shape[0] - 8, 8
    end = x + round(length_mm * px_per_mm)
    cv2.line(canvas, (x, y), (end, y), INK, 2)
    for tick in (x, end):
        cv2.line(canvas, (tick, y - 3), (tick, y + 3), INK, 1)
    text = f"{length_mm} mm"
    cv2.putText(canvas, text, (end + 5, y + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.38, INK, 1, cv2.LINE_AA)
    return canvas
