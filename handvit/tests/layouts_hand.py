"""Hands for the writers of miniature data sets: MANO's layout with numbers of no meaning, right and left."""

import dataclasses
from functools import cache

import numpy as np
import torch

from handvit.hand import HandModel, mirror_arrays, pose_to_rotations
from handvit.joints import MANO_JOINT_NAMES, MANO_PARENTS
from posecore.bodymodel import BodyArrays, BodyModel
from posecore.data.images import encode_jpeg


@cache
def random_hand(side: str = "right", label: str | None = None) -> HandModel:
    """A hand of plausible size in float64: 15 cm across, joints within 5 cm of the origin, a mean pose that is not 0."""
    rng = np.random.default_rng(3)
    regressor = rng.random((16, 778)) ** 8
    weights = rng.random((778, 16)) ** 6
    arrays = BodyArrays(
        template=rng.uniform(-0.075, 0.075, (778, 3)),
        faces=rng.integers(0, 778, (1538, 3)),
        weights=weights / weights.sum(1, keepdims=True),
        parents=np.array(MANO_PARENTS),
        joint_names=MANO_JOINT_NAMES,
        shapedirs=rng.normal(0, 0.003, (778, 3, 10)),
        joint_regressor=regressor / regressor.sum(1, keepdims=True),
        posedirs=rng.normal(0, 0.001, (778, 3, 135)),
        hands_components=np.linalg.qr(rng.normal(size=(45, 45)))[0],
        hands_mean=rng.normal(0, 0.2, 45),
    )
    if label is not None:
        arrays = dataclasses.replace(arrays, label=label)
    return HandModel(BodyModel(mirror_arrays(arrays) if side == "left" else arrays, torch.float64))


def posed(
    hand: HandModel, tips: tuple[int, ...], source: str, pose: np.ndarray, shape: np.ndarray, trans_m: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Joints and vertices, metres, of an absolute pose; `source` as `HandModel`'s joint_source."""
    labelled = HandModel(hand.body, tips=tips, joint_source=source)
    rotations = pose_to_rotations(torch.from_numpy(pose))
    joints, vertices = labelled(rotations, torch.from_numpy(shape), torch.from_numpy(trans_m))
    return joints.numpy(), vertices.numpy()


def picture(seed: int, size_wh: tuple[int, int]) -> bytes:
    """A small JPEG, different for each seed."""
    noise = np.random.default_rng(seed).integers(0, 256, (size_wh[1] // 8, size_wh[0] // 8, 3), dtype=np.uint8)
    return encode_jpeg(np.kron(noise, np.ones((8, 8, 1), np.uint8)))
