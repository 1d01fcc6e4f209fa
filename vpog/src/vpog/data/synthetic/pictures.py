"""Finished pictures with their labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8
from scipy.special import ndtri

from posecore.rendering import Backend
from vpog.data.records import ImageRecord, InstanceRecord
from vpog.data.rle import Rle
from vpog.data.synthetic.background import random_background
from vpog.data.synthetic.objects import SyntheticObject
from vpog.data.synthetic.options import SceneOptions
from vpog.data.synthetic.placement import Layout
from vpog.data.synthetic.sprites import Lighting, Sprite, draw_sprites
from vpog.objects.mesh import Mesh, mesh_diameter_mm

NOTHING_XYWH = (-1.0, -1.0, -1.0, -1.0)
"""BOP's box of an object without pixels."""
NORMAL_QUANTILES = ndtri((np.arange(256) + 0.5) / 256).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Props:
    """All that can be in a picture."""

    objects: tuple[SyntheticObject, ...]
    occluders: tuple[Mesh, ...]
    object_diameters_mm: tuple[float, ...]
    occluder_diameters_mm: tuple[float, ...]

    @classmethod
    def of(cls, objects: Sequence[SyntheticObject], occluders: Sequence[Mesh]) -> "Props":
        return cls(
            tuple(objects),
            tuple(occluders),
            tuple(mesh_diameter_mm(each.mesh) for each in objects),
            tuple(mesh_diameter_mm(mesh) for mesh in occluders),
        )


@dataclass(frozen=True)
class PicturePlan:
    """A picture before it is drawn."""

    scene_id: int
    image_id: int
    layout: Layout
    rng: np.random.Generator
    """Goes on to draw background and noise."""


def draw_pictures(
    plans: Sequence[PicturePlan],
    props: Props,
    dataset: str,
    scene: SceneOptions,
    size_hw: tuple[int, int],
    *,
    backend: Backend = "warp",
) -> list[ImageRecord]:
    """All objects of one mesh are drawn together, whichever picture they are in."""
    sprites = _all_sprites([plan.layout for plan in plans], props, size_hw, backend)
    return [_finished(plan, drawn, props, dataset, scene, size_hw) for plan, drawn in zip(plans, sprites, strict=True)]


def _all_sprites(
    layouts: Sequence[Layout], props: Props, size_hw: tuple[int, int], backend: Backend
) -> list[list[Sprite]]:
    """Of each picture, objects first, then occluders."""
    places: dict[tuple[bool, int], list[tuple[int, int]]] = {}
    for picture, layout in enumerate(layouts):
        kinds = [(False, int(k)) for k in layout.objects] + [(True, int(k)) for k in layout.occluders]
        for place, kind in enumerate(kinds):
            places.setdefault(kind, []).append((picture, place))
    drawn: dict[tuple[int, int], Sprite] = {}
    for (is_occluder, number), found in sorted(places.items()):
        mesh = props.occluders[number] if is_occluder else props.objects[number].mesh
        poses = np.stack([layouts[picture].cam_from_obj_mm[place] for picture, place in found])
        cameras = np.stack([layouts[picture].K for picture, _ in found])
        lights = [Lighting(layouts[picture].light_cam, layouts[picture].ambient) for picture, _ in found]
        drawn.update(zip(found, draw_sprites(mesh, poses, cameras, size_hw, lights, backend), strict=True))
    return [
        [drawn[picture, place] for place in range(len(layout.cam_from_obj_mm))]
        for picture, layout in enumerate(layouts)
    ]


def _finished(
    plan: PicturePlan,
    sprites: Sequence[Sprite],
    props: Props,
    dataset: str,
    scene: SceneOptions,
    size_hw: tuple[int, int],
) -> ImageRecord:
    kind = scene.backgrounds[plan.rng.integers(len(scene.backgrounds))]
    picture = random_background(plan.rng, kind, size_hw)
    nearest = np.full(size_hw, np.inf, np.float32)
    seen = np.full(size_hw, -1, np.int64)
    masks = []
    for place, sprite in enumerate(sprites):
        masks.append(_draw(sprite, place, picture, nearest, seen))
    layout = plan.layout
    instances = tuple(
        _instance(
            gt_index, props.objects[number].obj_id, layout.cam_from_obj_mm[gt_index], sprites[gt_index],
            masks[gt_index], seen == gt_index,
        )
        for gt_index, number in enumerate(layout.objects)
    )  # fmt: skip
    depth = np.where(seen >= 0, nearest, np.float32(0))
    rgb = _recorded(plan.rng, picture, scene)
    return ImageRecord(dataset, plan.scene_id, plan.image_id, rgb, depth, layout.K, instances)


def _draw(
    sprite: Sprite,
    place: int,
    picture: Float32[np.ndarray, "h w 3"],
    nearest: Float32[np.ndarray, "h w"],
    seen: Int64[np.ndarray, "h w"],
) -> Bool[np.ndarray, "h w"]:
    """Over the picture, in place, where it is nearer than what is there; returns its silhouette."""
    height, width = seen.shape
    inside = (sprite.columns >= 0) & (sprite.columns < width) & (sprite.rows >= 0) & (sprite.rows < height)
    rows, columns, depth = sprite.rows[inside], sprite.columns[inside], sprite.depth_mm[inside]
    mask = np.zeros((height, width), bool)
    mask[rows, columns] = True
    nearer = depth < nearest[rows, columns]
    rows, columns = rows[nearer], columns[nearer]
    picture[rows, columns] = sprite.rgb[inside][nearer]
    nearest[rows, columns], seen[rows, columns] = depth[nearer], place
    return mask


def _instance(
    gt_index: int,
    obj_id: int,
    cam_from_obj_mm: Float64[np.ndarray, "4 4"],
    sprite: Sprite,
    mask: Bool[np.ndarray, "h w"],
    visible: Bool[np.ndarray, "h w"],
) -> InstanceRecord:
    """`visib_fract` counts the whole silhouette, also beyond the picture, as BOP does."""
    rows, columns = np.nonzero(visible)
    return InstanceRecord(
        gt_index=gt_index,
        obj_id=obj_id,
        cam_from_obj_mm=cam_from_obj_mm,
        visib_fract=len(rows) / max(1, len(sprite.rows)),
        bbox_visib_xywh=_box(columns, rows),
        bbox_obj_xywh=_box(sprite.columns, sprite.rows),
        mask_visib=Rle.of(visible),
        mask=Rle.of(mask),
    )


def _box(columns: Int64[np.ndarray, " n"], rows: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, "4"]:
    if len(rows) == 0:
        return np.array(NOTHING_XYWH)
    left, top = columns.min(), rows.min()
    return np.array([left, top, columns.max() - left, rows.max() - top], dtype=np.float64)


def _recorded(
    rng: np.random.Generator, picture: Float32[np.ndarray, "h w 3"], scene: SceneOptions
) -> UInt8[np.ndarray, "h w 3"]:
    """Through lens and sensor."""
    blur = rng.uniform(0, scene.blur_px)
    if blur > 0.15:  # less changes nothing in 8 bits
        picture = cv2.GaussianBlur(picture, (0, 0), blur)
    deviation = np.float32(scene.noise * rng.random())
    # a byte for each value and a table are three times as fast as normal numbers
    noise = (deviation * NORMAL_QUANTILES)[np.frombuffer(rng.bytes(picture.size), np.uint8)]
    noisy = picture + noise.reshape(picture.shape)
    np.clip(noisy, 0, 1, out=noisy)
    noisy *= 255
    noisy += 0.5
    return np.asarray(noisy, dtype=np.uint8)
