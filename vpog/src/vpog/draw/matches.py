"""What is matched with what: lines between a query and a template, and the check of labels."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8

from posecore.draw import INK, PAPER, SUBPIXEL, Picture, tile
from vpog.draw.canvas import Sheet, color_of, enlarge, enlarged_points, factor_for, patch_centres
from vpog.draw.flows import draw_dense_patch, flow_to_hues
from vpog.draw.groups import Group
from vpog.draw.patches import draw_classification, draw_labels
from vpog.labels.dense_view import pixel_matches
from vpog.labels.records import FlowLabels
from vpog.labels.warping import warp_template_to_query

SPACE = 12
"""Between the two pictures."""


def draw_correspondences(
    query: UInt8[np.ndarray, "h w 3"],
    template: UInt8[np.ndarray, "h w 3"],
    query_px: Float[np.ndarray, "n 2"],
    template_px: Float[np.ndarray, "n 2"],
    confidence: Float[np.ndarray, " n"],
    side: int = 256,
    most: int = 120,
) -> Sheet:
    """Lines from points of the query (left) to points of the template, the surest on top, with a scale of colours.

    Args:
        confidence: Any numbers; colours run from the lowest to the highest drawn.
        most: Draw only so many, the surest.
    """
    factor = factor_for(query, side)
    left, right = enlarge(query, factor), enlarge(template, factor)
    canvas = _beside(left, right)
    kept = np.argsort(confidence, kind="stable")[-most:]
    low, high = (float(f(confidence[kept])) for f in (np.min, np.max)) if len(kept) else (0.0, 0.0)
    colors = color_of((confidence[kept] - low) / max(high - low, 1e-12) if high > low else np.ones(len(kept)))
    starts = enlarged_points(query_px[kept], factor)
    ends = enlarged_points(template_px[kept], factor) + np.array([left.shape[1] + SPACE, 0])
    for start, end, color in zip(_fixed(starts), _fixed(ends), colors.tolist(), strict=True):
        cv2.line(canvas, start, end, color, 1, cv2.LINE_AA, SUBPIXEL)
        for point in (start, end):
            cv2.circle(canvas, point, 2 << SUBPIXEL, color, -1, cv2.LINE_AA, SUBPIXEL)
    return np.concatenate([canvas, _scale(canvas.shape[1], low, high, f"{len(kept)} of {len(confidence)} pairs")])


def draw_matching(
    group: Group,
    probabilities: Float[np.ndarray, "s p p1"],
    patch_cls: Int64[np.ndarray, "s hp wp"],
    side: int = 224,
) -> Sheet:
    """What the network makes of a group: for each template the judged query patches, and lines of its choices.

    Args:
        probabilities: Of each query patch over the template's patches and, last, none of them.
        patch_cls: Labels, as in `FlowLabels`.
    """
    query = group.pictures[0]
    size = query.shape[0] // patch_cls.shape[1]
    centres = patch_centres(patch_cls.shape[1], patch_cls.shape[2], size)
    cells, captions = [], []
    for template, (scores, labels) in enumerate(zip(probabilities, patch_cls, strict=True)):
        judged = draw_classification(query, scores, labels, size)
        chosen, asked = scores.argmax(1), labels.ravel() >= 0
        rows = np.flatnonzero(asked & (chosen < labels.size))
        target = group.pictures[template + 1]
        lines = (query, target, centres[rows], centres[chosen[rows]], scores[rows, chosen[rows]])
        right = float((chosen == labels.ravel())[asked].mean()) if asked.any() else float("nan")
        cells.append(_beside(enlarge(judged, factor_for(judged, side)), draw_correspondences(*lines, side)))
        captions.append(f"view {group.template_indices[template]}: {100 * right:.0f} % right, {len(rows)} choices")
    return tile(cells, captions, columns=min(2, len(cells)))


def draw_label_check(group: Group, labels: FlowLabels, sample: int, template: int, side: int = 192) -> Sheet:
    """Are labels right? The labelled patches; the query beside the template's pixels moved to it; flows of the pixels.

    Right labels rebuild the query's look from the template, so that the two blend without ghosts.

    Args:
        sample, template: Which of the batch's samples the group is, and which of its templates to check.
    """
    query, target = group.pictures[0], group.pictures[template + 1]
    warped = warp_template_to_query(torch.from_numpy(target).to(labels.pairs.device), labels, sample, template)
    rebuilt, is_set = warped.rgb.cpu().numpy(), warped.is_set.cpu().numpy()
    blend = np.where(is_set[..., None], (query.astype(int) + rebuilt) // 2, query // 2).astype(np.uint8)
    hues, reach = _landing_hues(labels, sample, template, query.shape[:2])
    patch_cls = labels.patch_cls[sample, template].cpu().numpy()
    size = labels.dense_flow.shape[1]
    cells = [draw_labels(query, patch_cls, size), target, rebuilt, blend, hues]
    matched = int(((patch_cls >= 0) & (patch_cls < patch_cls.size)).sum())
    captions = [f"{matched} patches matched", f"view {group.template_indices[template]}", "rebuilt", "both"]
    captions.append(f"offset, up to {reach:.0f} px")
    return tile([enlarge(cell, factor_for(cell, side)) for cell in cells], captions, columns=len(cells))


def draw_dense_label(group: Group, labels: FlowLabels, pair: int, side: int = 192) -> Sheet:
    """One matched pair of the labels from near; `pair` is its row, the group that of its sample."""
    _, template, query_patch, template_patch = labels.pairs[pair].tolist()
    return draw_dense_patch(
        group.pictures[0],
        group.pictures[template + 1],
        query_patch,
        template_patch,
        labels.dense_flow[pair].float().cpu().numpy(),
        labels.dense_visibility[pair].cpu().numpy(),
        side,
    )


def _landing_hues(labels: FlowLabels, sample: int, template: int, size_hw: Sequence[int]) -> tuple[Picture, float]:
    """At each template pixel, from there to its place in the query; and the length of full saturation, px."""
    matches = pixel_matches(labels, sample, template)
    offset = np.zeros((size_hw[0], size_hw[1], 2))
    valid: Bool[np.ndarray, "h w"] = np.zeros((size_hw[0], size_hw[1]), bool)
    column, row = matches.template_px.long().cpu().numpy().T
    offset[row, column] = (matches.query_px - matches.template_px).cpu().numpy()
    valid[row, column] = True
    reach = float(np.linalg.norm(offset, axis=-1)[valid].max()) if valid.any() else 0.0
    return flow_to_hues(offset, valid, max(reach, 1e-9)), reach


def _beside(left: Sheet, right: Sheet) -> Sheet:
    canvas = np.full((max(left.shape[0], right.shape[0]), left.shape[1] + SPACE + right.shape[1], 3), PAPER, np.uint8)
    canvas[: left.shape[0], : left.shape[1]] = left
    canvas[: right.shape[0], left.shape[1] + SPACE :] = right
    return canvas


def _scale(width: int, low: float, high: float, text: str) -> Picture:
    strip = np.full((18, width, 3), PAPER, np.uint8)
    bar = color_of(np.linspace(0, 1, width // 4))
    strip[4:13, 46 : 46 + len(bar)] = bar
    for label, x in ((f"{low:.2f}", 4), (f"{high:.2f}", 50 + len(bar)), (text, 100 + len(bar))):
        cv2.putText(strip, label, (x, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.36, INK, 1, cv2.LINE_AA)
    return strip


def _fixed(points: Float[np.ndarray, "n 2"]) -> list[tuple[int, int]]:
    scaled = (points * 2**SUBPIXEL).round().astype(int)
    return [(x, y) for x, y in scaled.tolist()]
