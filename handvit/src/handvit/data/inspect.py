"""A look inside shards: what they hold in numbers. `handvit.draw.draw_record` makes the pictures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from handvit.config.data import FilterConfig
from handvit.data.frame_table import FrameTable, open_frame_table
from handvit.data.mixing import DEPTH_EDGES_MM, depth_bin
from handvit.data.shards import ClipShards
from handvit.data.source import ClipRules, passing
from posecore.data.headers import read_header

CHECKED_SAMPLES = 200
"""Samples whose first picture's size `describe` reads, evenly spread."""


def describe(shards: Sequence[Path], *, num_frames: int = 1, rules: FilterConfig | None = None) -> dict[str, Any]:
    """Contents of the shards as plain values. All labels are read and checked, and a few pictures' headers.

    Args:
        num_frames: Of the clips that the filter is tried on.
        rules: The filter that is tried; None: the default one.

    Raises:
        InputError: A shard is missing or damaged, or a sample breaks a rule of the format.
    """
    table = open_frame_table(list(shards))
    _, _, dropped = passing(table, ClipRules(num_frames, filter=rules or FilterConfig()))
    return {
        "shards": len(shards),
        "samples": len(table.num_frames),
        "frames": int(table.num_frames.sum()),
        "frames_per_sample": {
            "fewest": int(table.num_frames.min()),
            "median": float(np.median(table.num_frames)),
            "most": int(table.num_frames.max()),
        },
        "frames_by_dataset": _frames_by(table, table.data_source),
        "frames_by_side": _frames_by(table, np.where(table.is_left, "left", "right")),
        "frames_by_intrinsics": _frames_by(table, table.intr_type),
        "frames_by_root_depth_mm": _depths(table.root_depth_mm),
        "share_of_frames": {
            "mano": float(table.has_mano.mean()),
            "joints_3d": float((table.valid_3d > 0).mean()),
            "joints_2d": float((table.valid_2d > 0).mean()),
            "intrinsics": float(table.has_intr.mean()),
        },
        "shorter_box_edge_px": _spread(table.box_edge_px[table.box_edge_px > 0]),
        "reprojection_error_px": _spread(table.reprojection_px[~np.isnan(table.reprojection_px)]),
        "picture_sizes": _picture_sizes(shards),
        "filter": {"clip_frames": num_frames} | dropped.to_dict(),
    }


def _frames_by(table: FrameTable, group: Shaped[np.ndarray, " s"]) -> Mapping[str, int]:
    return {str(name): int(table.num_frames[group == name].sum()) for name in np.unique(group)}


def _depths(depth_mm: Float[np.ndarray, " f"]) -> Mapping[str, int]:
    names = [*(f"{low:g}-{high:g}" for low, high in pairwise(DEPTH_EDGES_MM)), "unknown"]
    counts = np.bincount(depth_bin(depth_mm), minlength=len(names))
    return dict(zip(names, counts.tolist(), strict=True))


def _spread(values: Float[np.ndarray, " n"]) -> Mapping[str, float] | None:
    """None: there are no values."""
    if not len(values):
        return None
    return {"least": float(values.min()), "median": float(np.median(values)), "most": float(values.max())}


def _picture_sizes(shards: Sequence[Path]) -> Mapping[str, int]:
    """Sizes of the first pictures of some samples, the commonest first."""
    clips = ClipShards(shards, hands_mean=np.zeros(45))  # poses are not looked at
    checked = np.unique(np.linspace(0, len(clips) - 1, min(len(clips), CHECKED_SAMPLES)).round().astype(int))
    sizes: Counter[str] = Counter()
    for index in checked.tolist():
        header = read_header(clips.read(index, [0], notes=False).frames[0])
        sizes["not a picture" if header is None else f"{header.width}x{header.height} {header.format}"] += 1
    return dict(sizes.most_common())
