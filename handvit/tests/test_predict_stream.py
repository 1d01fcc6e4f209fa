"""Streams of pictures: a stage 2 stream is the network on whole clips, and tracks do not know of each other."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.append(str(Path(__file__).parent))

from random_runs import SMALL, STAGE_2, noise_picture, random_predictor

from handvit.data.patches import fill_patches
from handvit.data.preprocess import prepare_clip, unlabelled_clip
from handvit.data.sample import collate
from handvit.posing import pose_hands
from handvit.streaming import HandStream

K = np.array([[300.0, 0, 70.5], [0, 310.0, 66.0], [0, 0, 1]])
LENGTH = 4
PICTURES = [noise_picture(120, 160, seed) for seed in range(7)]
TIMES_MS = [0.0, 33.0, 70.0, 100.0, 140.0, 166.0, 200.0]
LEFT = [[20.0 + 2 * i, 30.0, 70.0 + 3 * i, 90.0] for i in range(7)]
RIGHT = [[80.0 - i, 40.0, 140.0, 100.0 + i] for i in range(7)]


@pytest.fixture(scope="module", params=["last", "causal"])
def predictor(request, tmp_path_factory):
    kind = f"model.temporal_encoder.kind={request.param}"
    return random_predictor(tmp_path_factory.mktemp("run"), *STAGE_2, kind)


def on_whole_clip(predictor, frames, boxes, side):
    """What training and evaluation do with a clip, without labels."""
    n = len(frames)
    focal, princpt = np.tile([300.0, 310.0], (n, 1)), np.tile([70.5, 66.0], (n, 1))
    times = np.array([TIMES_MS[i] for i in frames])
    record = unlabelled_clip("clip", np.array([boxes[i] for i in frames]), side, focal, princpt, times)
    sample = prepare_clip(record, [PICTURES[i] for i in frames], predictor.loaded.patch_settings)
    batch = fill_patches(collate([sample]), 32)
    with torch.no_grad():
        prediction = predictor.loaded.network(batch.network_input())
        posed = pose_hands(predictor.loaded.hand, prediction, norm_by_hand=True)
    return (posed.joint_cam_mm[0, -1] @ batch.camera_from_network[0, -1].T).numpy()


def test_after_a_clips_length_the_stream_is_the_network_on_the_last_clip(predictor):
    stream = HandStream(predictor)
    for number, image in enumerate(PICTURES):
        hands = stream(image, [LEFT[number]], ["left"], ["a"], TIMES_MS[number], K)
        if number >= LENGTH - 1:
            clip = range(number - LENGTH + 1, number + 1)
            expected = on_whole_clip(predictor, clip, LEFT, "left")
            np.testing.assert_allclose(hands.joints_mm[0], expected, rtol=0, atol=1e-3)


def test_the_first_frame_of_a_track_is_the_predictors_single_picture(predictor):
    found = HandStream(predictor)(PICTURES[0], [RIGHT[0]], ["right"], [7], 12.0, K)
    np.testing.assert_allclose(found.joints_mm, predictor(PICTURES[0], [RIGHT[0]], "right", K).joints_mm, atol=1e-3)


def test_tracks_do_not_know_of_each_other_nor_of_the_order_they_are_given_in(predictor):
    together, alone = HandStream(predictor), HandStream(predictor)
    for number, image in enumerate(PICTURES):
        boxes, sides, tracks = [LEFT[number], RIGHT[number]], ["left", "right"], ["l", "r"]
        if number < 2:  # the right hand comes later
            boxes, sides, tracks = boxes[:1], sides[:1], tracks[:1]
        turn = slice(None, None, -1) if number % 2 else slice(None)
        hands = together(image, boxes[turn], sides[turn], tracks[turn], TIMES_MS[number], K)
        left = alone(image, [LEFT[number]], ["left"], ["l"], TIMES_MS[number], K)
        row = tracks[turn].index("l")
        np.testing.assert_allclose(hands.joints_mm[row], left.joints_mm[0], rtol=0, atol=1e-3)


def test_a_hand_that_was_gone_for_long_begins_anew_and_one_gone_shortly_does_not(predictor):
    def last_after(gap_ms):
        stream = HandStream(predictor)
        for number in range(3):
            stream(PICTURES[number], [LEFT[number]], ["left"], [0], TIMES_MS[number], K)
        return stream(PICTURES[3], [LEFT[3]], ["left"], [0], TIMES_MS[2] + gap_ms, K).joints_mm

    fresh = predictor(PICTURES[3], [LEFT[3]], "left", K).joints_mm
    np.testing.assert_allclose(last_after(501.0), fresh, atol=1e-3)
    assert np.abs(last_after(499.0) - fresh).max() > 0.01


def test_only_differences_of_time_matter_even_after_a_day(predictor):
    now, later = HandStream(predictor), HandStream(predictor)
    for number in range(LENGTH):
        arguments = (PICTURES[number], [LEFT[number]], ["left"], [0])
        first = now(*arguments, TIMES_MS[number], K)
        second = later(*arguments, TIMES_MS[number] + 86_400_000.0, K)
    np.testing.assert_allclose(second.joints_mm, first.joints_mm, rtol=0, atol=1e-3)


def test_a_stream_of_stage_1_is_the_predictor_frame_by_frame(tmp_path):
    predictor = random_predictor(tmp_path, *SMALL)
    stream = HandStream(predictor)
    for number in range(3):
        found = stream(PICTURES[number], [LEFT[number]], ["left"], [0], TIMES_MS[number], K)
        expected = predictor(PICTURES[number], [LEFT[number]], "left", K)
        np.testing.assert_allclose(found.joints_mm, expected.joints_mm, rtol=0, atol=1e-4)


def test_a_track_twice_in_a_picture_and_a_clock_that_stands_still_are_refused(predictor):
    stream = HandStream(predictor)
    with pytest.raises(ValueError, match=r"^track_ids \[3, 3\]: a track is in a picture once"):
        stream(PICTURES[0], [LEFT[0], RIGHT[0]], ["left", "right"], [3, 3], 0.0, K)
    with pytest.raises(ValueError, match=r"^1 track_ids for 2 boxes; one each is needed"):
        stream(PICTURES[0], [LEFT[0], RIGHT[0]], ["left", "right"], [3], 0.0, K)
    stream(PICTURES[0], [LEFT[0]], ["left"], [3], 40.0, K)
    with pytest.raises(ValueError, match=r"^timestamp_ms 40 of track 3 is not after its last, 40"):
        stream(PICTURES[1], [LEFT[1]], ["left"], [3], 40.0, K)
