"""A query with its templates: what the network is given."""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from posecore.draw import INK, PAPER, draw_keypoints, draw_mask_outline, tile
from vpog.data.sample import Instance, PoseBatch, Sample
from vpog.draw.canvas import Sheet, enlarge, factor_for, to_picture
from vpog.draw.patches import draw_patch_grid
from vpog.views import direction_of

NEAR_COLOR, FAR_COLOR, REFERENCE_COLOR = (40, 160, 90), (210, 80, 60), (40, 110, 230)
TYPE_NAMES = ("near", "far")


@dataclass(frozen=True)
class Group:
    """One query (index 0) and its templates, in NumPy."""

    pictures: UInt8[np.ndarray, "s1 h w 3"]
    masks: Bool[np.ndarray, "s1 h w"]
    cam_from_obj_mm: Float[np.ndarray, "s1 4 4"]
    d_ref: Float[np.ndarray, "3"]
    template_indices: Int64[np.ndarray, " s"]
    template_types: Int64[np.ndarray, " s"]
    instance: Instance

    @property
    def directions(self) -> Float[np.ndarray, "s1 3"]:
        """From the object to the camera."""
        return direction_of(self.cam_from_obj_mm)

    @property
    def angles_deg(self) -> Float[np.ndarray, " s"]:
        """Between each template's direction and the query's."""
        query, templates = self.directions[0], self.directions[1:]
        cross = np.linalg.norm(np.cross(templates, query), axis=-1)
        return np.asarray(np.degrees(np.arctan2(cross, templates @ query)))


def group_of_sample(sample: Sample) -> Group:
    """Of one sample."""
    return Group(
        np.stack([to_picture(image) for image in sample.images]),
        sample.masks,
        np.asarray(sample.cam_from_obj_mm, np.float64),
        np.asarray(sample.d_ref, np.float64),
        sample.template_indices,
        sample.template_types,
        sample.instance,
    )


def group_of_batch(batch: PoseBatch, index: int) -> Group:
    """Of one sample of a batch, from whatever device."""
    return Group(
        np.stack([to_picture(image) for image in batch.images[index].cpu().numpy()]),
        batch.masks[index].cpu().numpy(),
        batch.cam_from_obj_mm[index].double().cpu().numpy(),
        batch.d_ref[index].double().cpu().numpy(),
        batch.template_indices[index].cpu().numpy(),
        batch.template_types[index].cpu().numpy(),
        batch.instances[index],
    )


def draw_group(group: Group, side: int = 192, patch_size: int | None = None) -> Sheet:
    """The query with its visible mask, the templates with view, type and angle to the query, and all directions.

    Args:
        side: Pictures are enlarged to about this many pixels.
        patch_size: Draw the grid of patches, too.
    """
    factor = factor_for(group.pictures[0], side)
    cells = []
    for picture, mask in zip(group.pictures, group.masks, strict=True):
        gridded = picture if patch_size is None else draw_patch_grid(picture, patch_size)
        large_mask = mask.repeat(factor, 0).repeat(factor, 1)
        cells.append(draw_mask_outline(enlarge(gridded, factor), large_mask))
    instance = group.instance
    captions = [f"object {instance.obj_id} {100 * instance.visib_fract:.0f} % visible"]
    for view, kind, angle in zip(group.template_indices, group.template_types, group.angles_deg, strict=True):
        captions.append(f"view {view} {TYPE_NAMES[int(kind)]} {angle:.1f} deg")
    cells.append(draw_directions(group, cells[0].shape[0]))
    x, y, z = group.d_ref
    captions.append(f"d_ref {x:.2f} {y:.2f} {z:.2f}")
    return tile(cells, captions, columns=min(len(cells), 4))


def draw_directions(group: Group, side: int = 192) -> Sheet:
    """Viewing directions around the query's (centre): distance from the centre is the angle, circles are 30 degrees apart.

    Green: near templates, red: far ones, blue: the reference direction.
    """
    canvas = np.full((side, side, 3), PAPER, np.uint8)
    middle, px_per_deg = (side - 1) / 2, (side / 2 - 14) / 180
    for angle in range(30, 181, 30):
        centre = round(middle), round(middle)
        shade = (170, 170, 170) if angle == 90 else (222, 222, 222)
        cv2.circle(canvas, centre, round(angle * px_per_deg), shade, 1, cv2.LINE_AA)
        if angle in (90, 180):
            place = centre[0] + 2, centre[1] - round(angle * px_per_deg) + (11 if angle == 180 else -3)
            cv2.putText(canvas, str(angle), place, cv2.FONT_HERSHEY_SIMPLEX, 0.3, INK, 1, cv2.LINE_AA)
    axes = group.cam_from_obj_mm[0, :3, :3]
    colors = [FAR_COLOR if kind else NEAR_COLOR for kind in group.template_types.tolist()]
    points = [_place(axes, group.directions[0], d) for d in (*group.directions[1:], group.d_ref)]
    px = middle + px_per_deg * np.stack(points)
    canvas = draw_keypoints(canvas, px[:-1], None, np.array(colors), radius=3.5)
    canvas = draw_keypoints(canvas, px[-1:], None, REFERENCE_COLOR, radius=2.5)
    cv2.drawMarker(canvas, (round(middle), round(middle)), INK, cv2.MARKER_CROSS, 7, 1, cv2.LINE_AA)
    return canvas


def _place(axes: np.ndarray, query: np.ndarray, direction: np.ndarray) -> Float[np.ndarray, "2"]:
    """Degrees right and down of the query's direction, as the query's camera has right and down."""
    across = axes[:2] @ (direction - (direction @ query) * query)
    angle = np.degrees(np.arctan2(np.linalg.norm(np.cross(direction, query)), direction @ query))
    length = np.linalg.norm(across)
    return np.asarray(across / length * angle if length > 1e-9 else np.array([angle, 0.0]))


__all__ = ["Group", "draw_directions", "draw_group", "group_of_batch", "group_of_sample"]
