"""Pictures of inputs and predictions: keypoints, skeletons, mask outlines, mesh overlays and sheets of them.

All functions take and return RGB uint8 and leave their input as it is; points are x, y with pixel centres at integers.
"""

import colorsys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

Picture = UInt8[np.ndarray, "h w 3"]
Color = tuple[int, int, int]

TRUTH: Color = (60, 220, 120)
PREDICTION: Color = (255, 150, 40)
OUTLINE: Color = (90, 200, 255)
PAPER, INK = (250, 250, 248), (40, 40, 44)

SUBPIXEL = 4
"""Binary digits of a pixel that OpenCV's drawing resolves."""
CAPTION_HEIGHT = 18
GAP = 6


def joint_colors(joint_names: Sequence[str]) -> Int[np.ndarray, "j 3"]:
    """A colour for each joint: hues around the circle by first word of the name, right sides darker."""
    stems = list(dict.fromkeys(_stem(name) for name in joint_names))
    colors = []
    for name in joint_names:
        hue = stems.index(_stem(name)) / len(stems)
        colors.append([255 * c for c in colorsys.hsv_to_rgb(hue, 0.75, 0.75 if name.endswith("_r") else 1.0)])
    return np.array(colors).round().astype(int)


def draw_keypoints(
    image: Picture,
    points_px: Float[np.ndarray, "j 2"],
    visible: Bool[np.ndarray, " j"] | None = None,
    color: Color | Int[np.ndarray, "j 3"] = TRUTH,
    radius: float | None = None,
) -> Picture:
    """Filled dots with a dark rim; hidden, non-finite and far-off points are left out.

    Args:
        radius: Pixels; None: a hundredth of the picture.
    """
    canvas = image.copy()
    size = radius if radius is not None else _stroke(image)
    colors = np.broadcast_to(np.asarray(color), (len(points_px), 3))
    for index in np.flatnonzero(_drawable(image, points_px, visible)):
        centre = _fixed(points_px[index])
        for grow, ink in ((0.7, (20, 20, 20)), (0.0, tuple(int(c) for c in colors[index]))):
            cv2.circle(canvas, centre, round((size + grow) * 2**SUBPIXEL), ink, -1, cv2.LINE_AA, SUBPIXEL)
    return canvas


def draw_skeleton(
    image: Picture,
    points_px: Float[np.ndarray, "j 2"],
    parents: Sequence[int] | Int[np.ndarray, " j"],
    visible: Bool[np.ndarray, " j"] | None = None,
    color: Color | Int[np.ndarray, "j 3"] = TRUTH,
) -> Picture:
    """A line from each joint to its parent (negative: none), then the joints; a bone needs both its ends."""
    canvas = image.copy()
    drawable = _drawable(image, points_px, visible)
    colors = np.broadcast_to(np.asarray(color), (len(points_px), 3))
    thickness = max(1, round(_stroke(image) * 0.8))
    for joint, parent in enumerate(parents):
        if parent >= 0 and drawable[joint] and drawable[parent]:
            ends = _fixed(points_px[joint]), _fixed(points_px[parent])
            ink = tuple(int(c) for c in colors[joint])
            cv2.line(canvas, *ends, ink, thickness, cv2.LINE_AA, SUBPIXEL)
    return draw_keypoints(canvas, points_px, visible, color)


def draw_mask_outline(image: Picture, mask: Bool[np.ndarray, "h w"], color: Color = OUTLINE) -> Picture:
    """The mask's contours, holes included."""
    canvas = image.copy()
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, color, max(1, round(min(image.shape[:2]) / 300)), cv2.LINE_AA)
    return canvas


def draw_mesh_overlay(
    image: Picture,
    rgb: Float[np.ndarray, "h w 3"],
    alpha: Float[np.ndarray, "h w"],
    opacity: float = 0.7,
) -> Picture:
    """A rendered mesh (0..1) laid over the picture where it covers (alpha 0..1)."""
    cover = (opacity * np.clip(alpha, 0, 1))[..., None]
    mixed = (1 - cover) * image + cover * 255 * np.clip(rgb, 0, 1)
    return np.asarray(mixed.round(), dtype=np.uint8)


def tile(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]], captions: Sequence[str] | None = None, columns: int | None = None
) -> Picture:
    """A sheet of pictures on light paper, each with its caption above; cells are as large as the largest picture.

    Args:
        columns: None: about square.
    """
    if not images:
        raise ValueError("there are no pictures to tile")
    texts = captions if captions is not None else [""] * len(images)
    across = columns or int(np.ceil(np.sqrt(len(images))))
    head = CAPTION_HEIGHT if captions is not None else 0
    height, width = max(i.shape[0] for i in images) + head, max(i.shape[1] for i in images)
    rows = -(-len(images) // across)
    sheet = np.empty((rows * (height + GAP) + GAP, across * (width + GAP) + GAP, 3), np.uint8)
    sheet[:] = PAPER
    for number, (image, text) in enumerate(zip(images, texts, strict=True)):
        row, column = divmod(number, across)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        sheet[top + head : top + head + image.shape[0], left : left + image.shape[1]] = image
        if text:
            _write(sheet, text, (left + 1, top + head - 5), width)
    return sheet


def _write(canvas: Picture, text: str, origin: tuple[int, int], width: int) -> None:
    """One line, shortened where the cell is too narrow for it."""
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    while len(text) > 4 and cv2.getTextSize(text, font, size, 1)[0][0] > width:
        text = f"{text[:-4]}..."
    cv2.putText(canvas, text, origin, font, size, INK, 1, cv2.LINE_AA)


def _stem(name: str) -> str:
    return name.rsplit("_", 1)[0] if name.endswith(("_l", "_r")) else name


def _stroke(image: Picture) -> float:
    return max(1.5, float(min(image.shape[:2])) / 100)


def _drawable(
    image: Picture, points_px: Float[np.ndarray, "j 2"], visible: Bool[np.ndarray, " j"] | None
) -> Bool[np.ndarray, " j"]:
    """Finite, wanted, and near enough to the picture for OpenCV's fixed-point numbers."""
    reach = 4 * max(image.shape[:2])
    near: Bool[np.ndarray, " j"] = np.isfinite(points_px).all(1) & (np.abs(np.nan_to_num(points_px)) < reach).all(1)
    return near if visible is None else near & visible


def _fixed(point: Float[np.ndarray, " 2"]) -> tuple[int, int]:
    x, y = (round(float(value) * 2**SUBPIXEL) for value in point)
    return x, y


CURVE_COLORS: tuple[Color, ...] = ((40, 110, 230), (230, 130, 30), (40, 160, 90), (180, 70, 170), (90, 90, 90))


def draw_curves(
    curves: Mapping[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]],
    title: str,
    x_label: str,
    y_label: str,
    size: tuple[int, int] = (320, 480),
) -> Picture:
    """Named curves (x, y) in one frame with ticks; y starts at 0 or below, its label stands above its axis."""
    height, width = size
    left, top, bottom = 52, 46, 46
    canvas = np.full((height, width, 3), 250, np.uint8)
    _write(canvas, title, (8, 17), width - 12)
    _write(canvas, y_label, (8, 35), width - 12)
    _write(canvas, x_label, (left, height - 8), width - left)
    if not curves:
        return canvas
    x_all, y_all = (np.concatenate([curve[axis] for curve in curves.values()]) for axis in (0, 1))
    x_low, x_high = float(x_all.min()), float(x_all.max())
    y_low, y_high = min(0.0, float(y_all.min())), max(float(y_all.max()), 1e-12)
    plot_w, plot_h = width - left - 14, height - top - bottom

    def place(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> Int[np.ndarray, "n 2"]:
        right = (x - x_low) / max(x_high - x_low, 1e-12)
        up = (y - y_low) / (y_high - y_low)
        return np.stack([left + plot_w * right, top + plot_h * (1 - up)], 1).round().astype(np.int32)

    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = x_low + share * (x_high - x_low), y_low + share * (y_high - y_low)
        row = int(place(np.array([x_low]), np.array([y]))[0, 1])
        column = int(place(np.array([x]), np.array([y_low]))[0, 0])
        cv2.line(canvas, (left, row), (left + plot_w, row), (222, 222, 222), 1)
        _write(canvas, f"{y:.3g}", (6, row + 4), left)
        _write(canvas, f"{x:.3g}", (column - 8, height - 28), 60)
    for number, (name, (x_values, y_values)) in enumerate(curves.items()):
        color = CURVE_COLORS[number % len(CURVE_COLORS)]
        cv2.polylines(canvas, [place(x_values, y_values)], False, color, 2, cv2.LINE_AA)
        cv2.putText(
            canvas, name, (width - 150, top + 16 * (number + 1)), cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA
        )
    return canvas


def write_picture(path: Path, image: Picture) -> None:
    """Write a PNG (or what the suffix says).

    Raises:
        OSError: It cannot be written.
    """
    if not cv2.imwrite(str(path), image[..., ::-1]):
        raise OSError(f"{path}: the picture cannot be written")
