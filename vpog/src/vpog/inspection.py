"""What is in a data set, in numbers and pictures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from posecore.draw import write_picture
from vpog.data.groups import Dataset, GroupRules, GroupSource
from vpog.data.opening import open_dataset
from vpog.data.sample import collate
from vpog.draw.flows import draw_flow_fields, draw_hue_flow
from vpog.draw.groups import draw_group, group_of_batch
from vpog.draw.matches import draw_dense_label, draw_label_check
from vpog.labels.flow_labels import labels_of_batch
from vpog.labels.rules import LabelRules
from vpog.layout import dataset_of_folder
from vpog.selection import SelectionRules

CACHE_MB = 256


def describe(folder: Path, size: int) -> dict[str, Any]:
    """Counts, visibilities and sizes, and how many templates the memory holds."""
    dataset = _open(folder, size)
    table, store = dataset.images.instances, dataset.templates
    source = _source(dataset, size)
    used = table.obj_id[source.rows]
    return {
        "pictures": len(dataset.images),
        "instances": len(table),
        "usable": len(source),
        "left_out": str(source.left_out),
        "objects": len(np.unique(table.obj_id)),
        "objects_with_templates": len(store.objects),
        "instances_of_an_object": f"{np.bincount(used)[np.unique(used)].min()} to {np.bincount(used).max()}",
        "median_visibility": round(float(np.median(table.visib_fract)), 3),
        "median_box_px": round(float(np.median(table.longer_side_px)), 1),
        "templates_of_an_object": len(store.views(store.objects[0]).is_valid),
        "bytes_of_a_template": store.bytes_per_view,
    }


def draw_samples(folder: Path, output: Path, count: int, size: int, patch_size: int, seed: int) -> list[Path]:
    """Groups, label checks, flow and one dense patch of some samples."""
    source = _source(_open(folder, size), size)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(source), min(count, len(source)), replace=False)
    batch = collate([source.load(int(index), np.random.default_rng((seed, int(index)))) for index in chosen])
    labels = labels_of_batch(batch, LabelRules(patch_size=patch_size))
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for index in range(len(chosen)):
        group = group_of_batch(batch, index)
        flow, valid = labels.flows[index, 0].numpy(), labels.visibility[index, 0].numpy()
        pictures = {
            "group": draw_group(group, patch_size=patch_size),
            "labels": draw_label_check(group, labels, index, 0),
            "flow": draw_flow_fields(flow, valid, 24),
            "hues": draw_hue_flow(flow, valid, 24),
        }
        own = torch.nonzero((labels.pairs[:, 0] == index) & (labels.pairs[:, 1] == 0))[:, 0]
        if len(own):
            pictures["dense"] = draw_dense_label(group, labels, int(own[len(own) // 2]))
        for name, picture in pictures.items():
            written.append(output / f"{index:02d}_{name}.png")
            write_picture(written[-1], picture)
    return written


def _open(folder: Path, size: int) -> Dataset:
    return open_dataset(dataset_of_folder(folder), size, CACHE_MB)


def _source(dataset: Dataset, size: int) -> GroupSource:
    return GroupSource(dataset, GroupRules(size, SelectionRules()))
