"""Writes a miniature FreiHAND v2: three labels of the training split, two of the evaluation split."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from layouts_hand import picture, posed, random_hand

NUM_LABELS = {"training": 3, "evaluation": 2}
TIPS = (744, 320, 443, 555, 672)


@dataclass
class Truth:
    """Metres, pixels."""

    joints: np.ndarray
    K: np.ndarray
    mano: np.ndarray


def write_freihand(root: Path, split: str = "training") -> Truth:
    count, rng, hand = NUM_LABELS[split], np.random.default_rng(5), random_hand("right")
    relative = np.concatenate([rng.normal(0, 1.5, (count, 3)), rng.normal(0, 0.3, (count, 45))], 1)
    shape, trans = rng.normal(0, 1, (count, 10)), np.array([0, 0, 0.8]) + rng.normal(0, 0.03, (count, 3))
    absolute = relative + np.concatenate([np.zeros(3), hand.hands_mean.numpy()])
    joints, vertices = posed(hand, TIPS, "regressed", absolute, shape, trans)
    K = np.array([[[470.0 + i, 0, 112.5 - i], [0, 468.0 - i, 111.0 + i], [0, 0, 1]] for i in range(count)])
    pixels = joints[:, 9, :2] / joints[:, 9, 2:] * K[:, [0, 1], [0, 1]] + K[:, :2, 2]
    scale = np.linalg.norm(joints[:, 9] - joints[:, 10], axis=-1)
    mano = np.concatenate([relative, shape, pixels, scale[:, None]], 1)
    for name, values in (("K", K), ("xyz", joints), ("verts", vertices), ("scale", scale), ("mano", mano[:, None])):
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{split}_{name}.json").write_text(json.dumps(values.tolist()))
    folder = root / split / "rgb"
    folder.mkdir(parents=True)
    for number in range(count * (4 if split == "training" else 1)):
        (folder / f"{number:08d}.jpg").write_bytes(picture(number, (224, 224)))
    return Truth(joints, K, mano)
