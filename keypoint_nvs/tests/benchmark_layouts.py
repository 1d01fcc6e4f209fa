"""Miniatures of the published layouts: a few small pictures with a coloured blob at every point, so that a reader that
exchanges rows and columns, pictures or units is found out."""

import json

import cv2
import h5py
import numpy as np
import scipy.io

COUNT = 3
SIZE = (40, 48)  # width, height


def blobs(points_px, size=SIZE, value=255):
    """Black with a 3 x 3 blob of `value` about each point (x, y)."""
    width, height = size
    rgb = np.zeros((height, width, 3), np.uint8)
    for x, y in np.round(points_px).astype(int):
        rgb[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = value
    return rgb


def write(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 100] if path.suffix == ".jpg" else []
    assert cv2.imwrite(str(path), rgb if rgb.ndim == 2 else rgb[..., ::-1], quality)


def text(path, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def points(rng, count, size=SIZE):
    return rng.uniform(4, np.array(size) - 5, (count, 2)).round()


def write_celeba(root, rng, wild=False):
    kind, suffix = ("celeba", "jpg") if wild else ("align_celeba", "jpg")
    folder = "img_celeba" if wild else "img_align_celeba"
    marks, boxes = ["4", "lefteye_x ..."], ["4", "image_id x_1 y_1 width height"]
    for number in range(1, 5):
        name, xy = f"{number:06d}.jpg", points(rng, 5)
        write(root / "Img" / folder / f"{number:06d}.{suffix}", blobs(xy))
        marks.append(f"{name}  " + " ".join(f"{v:.0f}" for v in xy.ravel()))
        boxes.append(f"{name}  2 2 {'5 5' if number == 3 else '30 36'}")
    text(root / "Anno" / f"list_landmarks_{kind}.txt", *marks)
    text(root / "Anno" / "list_bbox_celeba.txt", *boxes)
    text(root / "TCDCN-face-alignment" / "MAFL" / "training.txt", "000001.jpg", "000003.jpg")
    text(root / "TCDCN-face-alignment" / "MAFL" / "testing.txt", "000004.jpg", "000002.jpg")


def write_cub_aligned(root, rng):
    with h5py.File(root / "cub.h5", "w") as file:
        for split in ("train", "test"):
            xy = np.stack([points(rng, 15, (32, 32)) for _ in range(COUNT)])
            file[f"{split}_img"] = np.stack([blobs(p, (32, 32)).transpose(2, 0, 1) for p in xy])
            file[f"{split}_kp"] = (xy[..., ::-1] / 32).astype("f4")
            file[f"{split}_vis"] = (rng.random((COUNT, 15)) < 0.8).astype("f4")


def write_cub_parts(root, rng):
    base = root / "CUB_200_2011"
    for split in ("train", "test"):
        entries = []
        for number in range(COUNT):
            species = 1 + number // 2
            xy, visible = points(rng, 15), rng.random(15) < 0.8
            path = f"{species:03d}.Bird/{split}_{number}.jpg"
            write(base / "images" / path, blobs(xy[visible]))
            parts = np.concatenate([(xy + 1) * visible[:, None], visible[:, None]], 1).T
            box = {"x1": 3.0, "y1": 6.0, "x2": 38.0, "y2": 45.0}
            entries.append({"rel_path": path, "bbox": box, "parts": parts, "mask": np.ones((2, 2))})
        file = base / "cachedir" / "cub" / "data" / f"{split}_cub_cleaned.mat"
        file.parent.mkdir(parents=True, exist_ok=True)
        images = np.empty(COUNT, object)
        images[:] = entries
        scipy.io.savemat(file, {"images": images if COUNT > 1 else entries[0]})


def write_taichi(root, rng):
    for split in ("train", "test"):
        xy = np.stack([points(rng, 18, (256, 256)) for _ in range(COUNT)])
        visible = rng.random((COUNT, 18)) < 0.8
        names = [f"clip{i}/0000001.png" for i in range(COUNT)]
        for name, p, seen in zip(names, xy, visible, strict=True):
            write(root / "eval_images" / "taichi-256" / split / name, blobs(p[seen], (256, 256)))
        (root / "landmark").mkdir(exist_ok=True)
        value = np.where(visible[..., None], xy, -1)
        np.savez(root / "landmark" / f"taichi_{split}_gt.npz", file_name=np.array(names), value=value)


def write_deepfashion(root, rng):
    for split in ("train", "test"):
        xy = [points(rng, 17, (256, 256)) for _ in range(COUNT)]
        names = [f"{split}/{i}.jpg" for i in range(COUNT)]
        for name, p in zip(names, xy, strict=True):
            write(root / "img" / name, blobs(p, (256, 256)))
        text(root / f"data_{split}.csv", ",file", *(f"{i},{name}" for i, name in enumerate(names)))
        text(root / f"data_{split}.json", json.dumps([{"keypoints": p.tolist()} for p in xy]))


def write_human36m(root, rng):
    for subject in (1, 5, 6, 7, 8, 9, 11):
        for action in ("Directions 1.54138969", "Eating.54138969"):
            xy = points(rng, 32, (64, 64))
            base = root / f"S{subject}"
            write(base / "WithBackground" / action / "000001.jpg", np.maximum(blobs(xy, (64, 64)), 90))
            write(base / "BackgroudMask" / action / "000001.png", np.minimum(blobs(xy, (64, 64)), 1)[..., 0])
            path = base / "Landmarks" / action / "000001.mat"
            path.parent.mkdir(parents=True)
            scipy.io.savemat(path, {"keypoints_2d": xy[:, ::-1] / 64})


def write_annotated(root, rng, as_json=False):
    entries, lines = [], ["file,split,x_0,y_0,v_0,x_1,y_1,v_1"]
    for number in range(2 * COUNT):
        split, name = ("train", "test")[number % 2], f"own/{number}.png"
        xy, seen = points(rng, 2), [1, int(number < 4)]
        write(root / name, blobs(xy[: sum(seen)]))
        lines.append(f"{name},{split}," + ",".join(f"{x},{y},{v}" for (x, y), v in zip(xy, seen, strict=True)))
        entries.append({"file": name, "split": split, "points": xy.tolist(), "visible": seen})
    if as_json:
        text(root / "annotations.json", json.dumps({"pictures": entries}))
    else:
        text(root / "annotations.csv", *lines)
