"""Writes a miniature COCO-WholeBody: two pictures, three people, hands of every kind."""

import json
from pathlib import Path

import numpy as np
from layouts_hand import picture

SIZES_WH = {9: (160, 120), 25: (96, 128)}


def write_coco(root: Path, split: str = "val") -> dict[tuple[int, str], np.ndarray]:
    """Key points (x, y, score) by person and side. Person 1: both hands; 2: left, five points; 3: out of the picture."""
    rng = np.random.default_rng(8)
    points = {(person, side): np.zeros((21, 3)) for person in (1, 2, 3) for side in ("left", "right")}
    for person, side in ((1, "left"), (1, "right"), (3, "right")):
        points[person, side] = np.concatenate([rng.uniform(20, 80, (21, 2)), rng.uniform(0.3, 1, (21, 1))], 1)
    points[2, "left"][:5] = [[30, 40, 0.9], [31, 44, 0.8], [35, 48, 0.9], [38, 50, 0.7], [41, 55, 0.6]]
    points[3, "right"][:, 0] += 500
    people = [_person(person, image, points) for person, image in ((1, 9), (2, 25), (3, 25))]
    images = []
    for number, size_wh in SIZES_WH.items():
        name = f"{number:012d}.jpg"
        (root / f"{split}2017").mkdir(parents=True, exist_ok=True)
        (root / f"{split}2017" / name).write_bytes(picture(number, size_wh))
        images.append({"id": number, "file_name": name, "width": size_wh[0], "height": size_wh[1], "license": 4})
    file = root / "annotations" / f"coco_wholebody_{split}_v1.0.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"info": {}, "images": images, "annotations": people, "categories": []}))
    return points


def _person(person: int, image: int, points: dict[tuple[int, str], np.ndarray]) -> dict[str, object]:
    label: dict[str, object] = {"id": person, "image_id": image, "category_id": 1, "bbox": [0.0, 0, 50, 50]}
    for side in ("left", "right"):
        label[f"{side}hand_kpts"] = points[person, side].ravel().tolist()
        label[f"{side}hand_box"] = [1.0, 2, 30, 30]
        label[f"{side}hand_valid"] = bool(points[person, side].any())
    return label
