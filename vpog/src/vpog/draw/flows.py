"""Pictures of flow fields: as numbers, as hues, and one patch at a time."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from posecore.draw import INK, PAPER, Picture, draw_keypoints, tile
from vpog.draw.canvas import ABSENT, Sheet, colored, enlarge, enlarged_points

VISIBLE, HIDDEN = (60, 200, 110), (70, 70, 80)


def draw_flow_fields(
    flow: Float[np.ndarray, "h w 2"], valid: Bool[np.ndarray, "h w"], factor: int = 1, unit: str = "patches"
) -> Sheet:
    """Magnitude, x, y and validity side by side, with their ranges; x and y share one that is even about 0 (white)."""
    norm = np.linalg.norm(flow, axis=-1)
    largest = float(norm[valid].max()) if valid.any() else 0.0
    reach = float(np.abs(flow[valid]).max()) if valid.any() else 0.0
    validity = np.where(valid[..., None], VISIBLE, HIDDEN).astype(np.uint8)
    pictures = [
        colored(norm, valid, 0.0, largest),
        colored_signed(flow[..., 0], valid, reach),
        colored_signed(flow[..., 1], valid, reach),
        validity,
    ]
    captions = [
        f"|flow| 0..{largest:.2f} {unit}",
        f"x -{reach:.2f}..{reach:.2f}",
        f"y -{reach:.2f}..{reach:.2f}",
        f"valid {100 * valid.mean():.0f} %",
    ]
    return tile([enlarge(picture, factor) for picture in pictures], captions, columns=4)


def colored_signed(values: Float[np.ndarray, "h w"], valid: Bool[np.ndarray, "h w"], reach: float) -> Picture:
    """Blue below 0, white at 0, red above."""
    share = np.clip(np.where(valid, values, 0) / max(reach, 1e-12), -1, 1)[..., None]
    end = np.where(share < 0, (40, 90, 200), (200, 50, 40))
    picture = (255 + np.abs(share) * (end - 255.0)).round().astype(np.uint8)
    picture[~valid] = ABSENT
    return np.asarray(picture)


def flow_to_hues(
    flow: Float[np.ndarray, "h w 2"], valid: Bool[np.ndarray, "h w"], reach: float | None = None
) -> Picture:
    """Direction as hue, length as saturation; light grey where not valid.

    Convention: right is red, down is yellow-green, left is cyan, up is violet, as `color_wheel` shows.

    Args:
        reach: Length of full saturation; None: the longest valid one.
    """
    norm = np.linalg.norm(flow, axis=-1)
    if reach is None:
        reach = float(norm[valid].max()) if valid.any() else 1.0
    hsv = np.empty((*valid.shape, 3), np.float32)
    hsv[..., 0] = np.degrees(np.arctan2(flow[..., 1], flow[..., 0])) % 360
    hsv[..., 1] = np.clip(norm / max(reach, 1e-12), 0, 1)
    hsv[..., 2] = 1
    picture = (255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).round().astype(np.uint8)
    picture[~valid] = ABSENT
    return np.asarray(picture)


def color_wheel(side: int = 96, reach: float | None = None, unit: str = "patches") -> Sheet:
    """The key to `flow_to_hues`; with the length at its rim."""
    middle = (side - 1) / 2
    y, x = np.mgrid[:side, :side] - middle
    inside = np.hypot(x, y) <= middle
    wheel = flow_to_hues(np.stack([x, y], -1), inside, middle)
    wheel[~inside] = PAPER
    if reach is not None:
        text = f"{reach:.2f} {unit}"
        width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.35, 1)[0][0]
        strip = np.full((16, max(side, width + 2), 3), PAPER, np.uint8)
        cv2.putText(
            strip, text, ((strip.shape[1] - width) // 2, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.35, INK, 1, cv2.LINE_AA
        )
        left = (strip.shape[1] - side) // 2
        framed = np.full((side, strip.shape[1], 3), PAPER, np.uint8)
        framed[:, left : left + side] = wheel
        wheel = np.concatenate([framed, strip])
    return wheel


def draw_hue_flow(
    flow: Float[np.ndarray, "h w 2"], valid: Bool[np.ndarray, "h w"], factor: int = 1, unit: str = "patches"
) -> Sheet:
    """The field in hues beside its wheel."""
    reach = float(np.linalg.norm(flow, axis=-1)[valid].max()) if valid.any() else 0.0
    field = enlarge(flow_to_hues(flow, valid, max(reach, 1e-12)), factor)
    return tile([field, color_wheel(reach=reach, unit=unit)], ["flow", "length at the rim"], columns=2)


def draw_dense_patch(
    query: UInt8[np.ndarray, "h w 3"],
    template: UInt8[np.ndarray, "h w 3"],
    query_patch: int,
    template_patch: int,
    flow: Float[np.ndarray, "ps ps 2"],
    visible: Bool[np.ndarray, "ps ps"],
    side: int = 192,
) -> Sheet:
    """One matched pair from near: the template patch, its flow, and where its pixels land around the query patch.

    The landing points have the hues of the pixels' places in the template patch, drawn beside.

    Args:
        query_patch: Number of the patch, row by row.
        flow: Of each pixel of the template patch, from the query patch's centre, in patches.
    """
    size = flow.shape[0]
    columns = query.shape[1] // size
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    places = np.stack([x, y], -1) - (size - 1) / 2
    hues = flow_to_hues(places, np.ones((size, size), bool), size / 2)
    hues[~visible] = ABSENT
    row, column = divmod(template_patch, columns)
    patch = template[row * size : (row + 1) * size, column * size : (column + 1) * size]
    zoom = max(1, side // size)
    landing = _landing(query, divmod(query_patch, columns), size, flow[visible], hues[visible], max(1, zoom // 2))
    reach = float(np.linalg.norm(flow, axis=-1)[visible].max()) if visible.any() else 0.0
    cells = [
        enlarge(patch, zoom),
        enlarge(hues, zoom),
        enlarge(flow_to_hues(flow, visible, max(reach, 1e-9)), zoom),
        landing,
    ]
    captions = [
        f"template patch {template_patch}",
        "its places",
        f"flow, up to {reach:.2f}",
        f"query patch {query_patch}",
    ]
    return tile(cells, captions, columns=4)


def _landing(
    query: UInt8[np.ndarray, "h w 3"],
    cell: tuple[int, int],
    size: int,
    flow: Float[np.ndarray, "n 2"],
    hues: UInt8[np.ndarray, "n 3"],
    zoom: int,
) -> Sheet:
    """The query patch with half a patch around it, and points on it."""
    margin = size // 2
    around = np.full((query.shape[0] + 2 * margin, query.shape[1] + 2 * margin, 3), ABSENT, np.uint8)
    around[margin:-margin, margin:-margin] = query
    top, left = cell[0] * size, cell[1] * size
    near = around[top : top + size + 2 * margin, left : left + size + 2 * margin]
    canvas = enlarge(near, zoom)
    cv2.rectangle(canvas, (margin * zoom, margin * zoom), ((margin + size) * zoom, (margin + size) * zoom), INK, 1)
    points = enlarged_points(margin + size // 2 + flow * size, zoom)
    return draw_keypoints(canvas, points, None, hues.astype(int), radius=max(1.5, zoom / 4))
