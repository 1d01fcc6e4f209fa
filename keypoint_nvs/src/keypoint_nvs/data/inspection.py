"""What is in a data set, in numbers and in one picture."""

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from keypoint_nvs.data.images_folder import ImageFolder
from keypoint_nvs.data.records import Cameras, MultiviewSample
from keypoint_nvs.data.rgba_images import read_rgba
from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.rig import Rig, rig_of
from keypoint_nvs.scaling import Background, composite
from posecore.draw import draw_keypoints, draw_mask_outline, joint_colors, tile, write_picture
from posecore.errors import InputError

CELL_PX = 160
"""Smaller views are shown at least this large, by whole factors."""
SEMITRANSPARENT = 32
"""Pixels that a sample needs for a guess whether its colours were multiplied by alpha."""


def describe_store(path: str, checked: int) -> dict[str, Any]:
    """Counts, sizes and cameras; `checked` samples, spread over the set, are read and measured.

    Raises:
        InputError: A checked sample is damaged; names it.
    """
    store = MultiviewStore(path)
    header = store.header
    facts: dict[str, Any] = {
        "samples": len(store),
        "objects": len({name.partition("/")[0] for name in store.sample_ids}),
        "shards": len(store.paths),
        "megabytes": round(sum(p.stat().st_size for p in store.paths) / 1e6, 1),
        "rig": header.rig,
        "size_px": f"{header.height} x {header.width}",
        "target_views": header.num_targets,
    }
    return facts | _measured([store.read(int(i)) for i in spread_indices(len(store), checked)], header.rig)


def _measured(samples: list[MultiviewSample], rig_name: str) -> dict[str, Any]:
    cover = np.array([(s.target_imgs[:, 3] > 127).mean((1, 2)) for s in samples])
    points = Counter(0 if s.keypoints is None else len(s.keypoints.world) for s in samples)
    categories = Counter(s.category for s in samples if s.category)
    elevations = [s.elevation_deg for s in samples if s.elevation_deg is not None]
    return {
        "checked_samples": len(samples),
        "with_target_cameras": sum(s.target_cameras is not None for s in samples),
        "with_input_camera": sum(s.cond_camera is not None for s in samples),
        "keypoints": ", ".join(f"{count} in {times}" for count, times in sorted(points.items())),
        "visible_keypoints": _share([s.keypoints.visible.mean() for s in samples if s.keypoints is not None]),
        "categories": ", ".join(f"{name} {times}" for name, times in categories.most_common(5)) or "none",
        "input_elevation_deg": f"{min(elevations):.1f} to {max(elevations):.1f}" if elevations else "unknown",
        "pose_error_deg": _pose_errors(samples, rig_name),
        "object_share_of_views": f"{cover.min():.3f} to {cover.max():.3f}, mean {cover.mean():.3f}",
        "empty_views": int((cover == 0).sum()),
        "perhaps_multiplied_by_alpha": sum(looks_premultiplied(s.target_imgs) for s in samples),
    }


def _pose_errors(samples: list[MultiviewSample], rig_name: str) -> str:
    """Farthest view of a sample with cameras from the rig's; for a free store from each released rig."""
    names = [rig_name] if rig_name != "free" else ["zero123plus-v1.1", "zero123plus-v1.2"]
    told = []
    for name in names:
        rig = rig_of(name)
        errors = [_pose_error(s, rig) for s in samples if s.target_cameras is not None]
        known = [e for e in errors if e is not None]
        told.append(f"{max(known):.2f} to {name}" if known else f"unknown to {name}")
    return ", ".join(told)


def _pose_error(sample: MultiviewSample, rig: Rig) -> float | None:
    cameras = sample.target_cameras
    if cameras is None or len(cameras.cam_from_world) != rig.num_views:
        return None
    cond = None if sample.cond_camera is None else sample.cond_camera.cam_from_world[0]
    return float(rig.pose_errors_deg(cameras.cam_from_world, cond).max())


def looks_premultiplied(rgba: UInt8[np.ndarray, "v 4 h w"]) -> bool:
    """Whether no colour of the semitransparent pixels is above its alpha, and they are darker than the opaque ones.

    A guess: straight colours of a dark object can look so too.
    """
    brightest, alpha = rgba[:, :3].max(1).astype(int), rgba[:, 3].astype(int)
    edge, inside = (alpha > 0) & (alpha < 128), alpha == 255
    if edge.sum() < SEMITRANSPARENT or not inside.any():
        return False
    return bool(
        (brightest[edge] <= alpha[edge]).all() and np.median(brightest[edge]) < 0.7 * np.median(brightest[inside])
    )


def _share(values: list[Any]) -> str:
    return f"{np.mean(values):.3f}" if values else "none"


def describe_images(path: str, checked: int) -> dict[str, Any]:
    """Counts and sizes of a folder of pictures; `checked` of them are read.

    Raises:
        InputError: There is none, or one cannot be read; names it.
    """
    folder = ImageFolder(path, CELL_PX)
    pictures = [read_rgba(folder.paths[int(i)]) for i in spread_indices(len(folder), checked)]
    heights, widths = np.array([p.shape[1:] for p in pictures]).T
    return {
        "pictures": len(folder),
        "checked_pictures": len(pictures),
        "height_px": f"{heights.min()} to {heights.max()}",
        "width_px": f"{widths.min()} to {widths.max()}",
        "square": int((heights == widths).sum()),
        "with_transparency": sum(bool((p[3] < 255).any()) for p in pictures),
    }


def draw_store(path: str, count: int, seed: int, background: Background = "grey") -> UInt8[np.ndarray, "h w 3"]:
    """One row a sample: the input view and its targets, outlines of alpha, and ground truth where there is any.

    Hidden keypoints are smaller. Targets of samples without cameras are drawn with the rig's.

    Raises:
        InputError: A chosen sample is damaged; names it.
    """
    store = MultiviewStore(path)
    cells, captions = [], []
    for index in chosen_indices(len(store), count, seed):
        sample = store.read(index)
        rig = None if store.header.rig == "free" else rig_of(store.header.rig)
        cells += _row(sample, rig, background)
        captions += [sample.sample_id, *(f"view {view}" for view in range(len(sample.target_imgs)))]
    return tile(cells, captions, columns=store.header.num_targets + 1)


def draw_images(
    path: str, fit: str, count: int, seed: int, background: Background = "grey"
) -> UInt8[np.ndarray, "h w 3"]:
    """Some pictures of a folder, as a model gets them.

    Raises:
        InputError: One cannot be read, or is not square where fit is exact; names it.
    """
    folder = ImageFolder(path, CELL_PX, fit)
    rng = np.random.default_rng(seed)
    samples = [folder.load(index, rng) for index in chosen_indices(len(folder), count, seed)]
    return tile([_composited(s.target_imgs[0], background) for s in samples], [s.sample_id for s in samples])


def write_inputs(path: str, folder: Path, count: int, seed: int) -> list[Path]:
    """The input views of the samples that `draw_store` draws, as PNG with transparency: OBJECT_INDEX.png.

    Raises:
        InputError: A chosen sample is damaged; names it.
    """
    store = MultiviewStore(path)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index in chosen_indices(len(store), count, seed):
        sample = store.read(index)
        written.append(folder / f"{sample.sample_id.replace('/', '_')}.png")
        bgra = sample.cond_imgs[[2, 1, 0, 3]].transpose(1, 2, 0)
        written[-1].write_bytes(cv2.imencode(".png", np.ascontiguousarray(bgra))[1].tobytes())
    return written


def chosen_indices(length: int, count: int, seed: int) -> list[int]:
    """At most `count` different places, drawn, in order."""
    chosen = np.random.default_rng(seed).choice(length, min(count, length), replace=False)
    return [int(index) for index in np.sort(chosen)]


def spread_indices(length: int, count: int) -> list[int]:
    """At most `count` places, evenly from the first to the last."""
    if count >= length:
        return list(range(length))
    return [int(i) for i in np.linspace(0, length - 1, count).round()]


def _row(sample: MultiviewSample, rig: Rig | None, background: Background) -> list[UInt8[np.ndarray, "h w 3"]]:
    views = np.concatenate([sample.cond_imgs[None], sample.target_imgs])
    points, seen = _projected(sample, rig)
    factor = max(1, -(-CELL_PX // views.shape[-1]))
    cells = []
    for view, rgba in enumerate(views):
        size = (rgba.shape[2] * factor, rgba.shape[1] * factor)
        rgb = cv2.resize(_composited(rgba, background), size, interpolation=cv2.INTER_NEAREST)
        mask = cv2.resize(rgba[3], size, interpolation=cv2.INTER_NEAREST) > 127
        cell = draw_mask_outline(np.asarray(rgb, np.uint8), mask)
        if points is not None and seen is not None:
            cell = _with_points(cell, (points[view] + 0.5) * factor - 0.5, seen[view])
        cells.append(cell)
    return cells


def _with_points(
    cell: UInt8[np.ndarray, "h w 3"], points_px: Float[np.ndarray, "j 2"], seen: Bool[np.ndarray, " j"]
) -> UInt8[np.ndarray, "h w 3"]:
    colors = joint_colors([str(joint) for joint in range(len(points_px))])
    hidden = draw_keypoints(cell, points_px, ~seen, colors, radius=1.5)
    return draw_keypoints(hidden, points_px, seen, colors, radius=3.5)


def _projected(
    sample: MultiviewSample, rig: Rig | None
) -> tuple[Float[np.ndarray, "v1 j 2"] | None, Bool[np.ndarray, "v1 j"] | None]:
    """Ground truth in the input view (not finite where its camera is unknown) and the targets; None: there is none."""
    cameras = sample.target_cameras
    if cameras is None and rig is not None:
        K = np.repeat(rig.K(sample.target_imgs.shape[-1])[None], rig.num_views, 0)
        cameras = Cameras(rig.cam_from_world().astype(np.float32), K.astype(np.float32))
    if sample.keypoints is None or cameras is None:
        return None, None
    world = sample.keypoints.world.astype(np.float64)
    targets = _pixels(world, cameras)
    cond = np.full_like(targets[:1], np.nan) if sample.cond_camera is None else _pixels(world, sample.cond_camera)
    return np.concatenate([cond, targets]), sample.keypoints.visible


def _pixels(world: Float[np.ndarray, "j 3"], cameras: Cameras) -> Float[np.ndarray, "v j 2"]:
    """Points behind a camera are not finite: they are not drawn."""
    pose = cameras.cam_from_world.astype(np.float64)
    points_cam = np.einsum("vij,nj->vni", pose[:, :3, :3], world) + pose[:, None, :3, 3]
    depth = np.where(points_cam[..., 2:] > 0, points_cam[..., 2:], np.nan)
    return np.asarray(np.einsum("vij,vnj->vni", cameras.K[:, :2].astype(np.float64), points_cam / depth))


def _composited(rgba: UInt8[np.ndarray, "4 h w"], background: Background) -> UInt8[np.ndarray, "h w 3"]:
    return np.ascontiguousarray(np.rint(composite(rgba, background) * 255).astype(np.uint8).transpose(1, 2, 0))


def write_sheet(path: Path, sheet: UInt8[np.ndarray, "h w 3"]) -> None:
    """
    Raises:
        InputError: The name does not end in .png.
    """
    if path.suffix != ".png":
        raise InputError(f"{path}: the sheet is a PNG; give a name that ends in .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_picture(path, sheet)
