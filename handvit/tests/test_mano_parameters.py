"""The plain functions say what the predictor says."""

import sys
from pathlib import Path

import numpy as np
import torch

from handvit.mano_parameters import mano_to_pose, predict_mano_param

sys.path.append(str(Path(__file__).parent))  # pytest's importlib mode adds nothing to the path
from random_runs import STAGE_2, noise_picture, random_predictor

BOXES = [[20, 15, 70, 60], [30, 10, 95, 80]]


def test_pose_shape_and_place_are_those_of_the_predictor_for_every_hand_of_a_batch(tmp_path):
    predictor = random_predictor(tmp_path, *STAGE_2)
    picture = noise_picture(100, 120)
    hands = predictor(picture, BOXES, "right", 60.0)
    frames = predictor.batch(predictor.request(picture, BOXES, "right", 60.0)).network_input()
    clip = (x.expand(-1, 4, *x.shape[2:]) for x in (frames.patches, frames.patch_bbox, frames.focal, frames.princpt))
    network, norm = predictor.loaded.network, predictor.loaded.config.model.norm_by_hand
    with torch.no_grad():
        pose, shape, trans = predict_mano_param(
            network, predictor.loaded.hand, *clip, timestamp=torch.zeros(2, 4), norm_by_hand=norm
        )
        joints, vertices = mano_to_pose(predictor.loaded.hand, pose, shape, trans)
    assert pose.shape == (2, 1, 48)
    assert shape.shape == (2, 1, 10)
    assert trans.shape == (2, 1, 3)
    np.testing.assert_allclose(1000 * joints[:, 0].numpy(), hands.joints_mm, atol=0.05)
    np.testing.assert_allclose(1000 * vertices[:, 0].numpy(), hands.vertices_mm, atol=0.05)
    np.testing.assert_allclose(1000 * trans[:, 0].numpy(), hands.translation_mm, atol=0.05)


def test_a_hand_of_zeros_is_flat_and_at_the_models_origin(tmp_path):
    hand = random_predictor(tmp_path, *STAGE_2).loaded.hand
    joints, vertices = mano_to_pose(hand, torch.zeros(1, 48), torch.zeros(1, 10))
    torch.testing.assert_close(joints[:, 0], hand.root_rest_m(torch.zeros(1, 10)))
    torch.testing.assert_close(vertices[0], hand.body.template, atol=1e-6, rtol=0)
