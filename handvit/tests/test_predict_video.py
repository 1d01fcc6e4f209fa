"""`handvit predict` on videos: the stream's hands in files, smoothed tracks, folders as videos, one frame in memory."""

import json
import sys
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent))

from random_runs import SMALL, STAGE_2, noise_picture, random_run

from handvit.hand_boxes import HandBox
from handvit.predict import Hands, Predictor
from handvit.predict_files import PredictOptions, predict_files
from handvit.predict_video import predict_video
from handvit.reposing import posed_again
from handvit.results import ResultsWriter
from handvit.streaming import HandStream
from handvit.video_files import FrameSource, VideoFile, open_video
from posecore.data.images import encode_png
from posecore.errors import InputError


def hand_box(box, *rest, **more):
    return HandBox(tuple(float(number) for number in box), *rest, **more)


FRAMES = 8
FPS = 20.0
K = np.array([[300.0, 0, 70.5], [0, 310.0, 66.0], [0, 0, 1]])
OPTIONS = {"intrinsics": "300,310,70.5,66"}


def boxes_of(number):
    left = {"box": [20.0 + 2 * number, 30.0, 70.0 + 3 * number, 90.0], "side": "left"}
    right = {"box": [80.0 - number, 40.0, 140.0, 100.0 + number], "side": "right"}
    if number == 5:
        return []
    return [right, left] if number % 2 else [left, right]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("run"), *STAGE_2)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """A video of two hands, without one of them in its sixth frame, and boxes without tracks."""
    folder = tmp_path_factory.mktemp("video")
    writer = cv2.VideoWriter(str(folder / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (160, 120))
    for number in range(FRAMES):
        writer.write(noise_picture(120, 160, number))
    writer.release()
    (folder / "v.json").write_text(json.dumps({str(number): boxes_of(number) for number in range(FRAMES)}))
    return folder


@pytest.fixture(scope="module")
def predicted(run, video, tmp_path_factory):
    output = tmp_path_factory.mktemp("out")
    options = PredictOptions(boxes=video / "v.json", **OPTIONS)
    summary = predict_files([video / "v.mp4"], run, output, options, device="cpu")
    return summary, output


def read(output):
    with np.load(output / "predictions.npz", allow_pickle=False) as arrays:
        return json.loads((output / "results.json").read_text()), dict(arrays)


def frames_of(path):
    return list(open_video(path, None).frames())


def streamed(run, video):
    """What the stream says of each frame, with tracks by side."""
    stream = HandStream(Predictor.load(run, device="cpu"))
    found = []
    for number, image in enumerate(frames_of(video / "v.mp4")):
        hands = boxes_of(number)
        if hands:
            sides = [hand["side"] for hand in hands]
            found.append(stream(image, [hand["box"] for hand in hands], sides, sides, 1000 * number / FPS, K))
    return Hands.concatenated(found)


def test_a_videos_files_hold_what_the_stream_says_with_tracks_by_overlap(predicted, run, video):
    summary, output = predicted
    results, arrays = read(output)
    expected = streamed(run, video)
    assert (summary["videos"], summary["video_frames"], summary["hands"]) == (1, FRAMES, 2 * FRAMES - 2)
    for name in ("joints_mm", "vertices_mm", "translation_mm"):
        np.testing.assert_allclose(arrays[name], getattr(expected, name), rtol=0, atol=1e-3, err_msg=name)
    assert arrays["handedness"].tolist() == list(expected.handedness)
    # the hands were gone for a frame only, so they are the same ones
    assert {*zip(arrays["handedness"].tolist(), arrays["track"].tolist(), strict=True)} == {("left", 0), ("right", 1)}
    assert [frame["number"] for frame in results["frames"]] == list(range(FRAMES))
    np.testing.assert_allclose([frame["time_ms"] for frame in results["frames"]], 50.0 * np.arange(FRAMES))
    assert results["frames"][5]["hands"] == []
    assert results["frames"][3]["name"] == "v_000003"


def test_the_overlay_can_be_read_and_has_the_videos_frames_size_and_rate(predicted, video):
    _, output = predicted
    overlay = open_video(output / "v_overlay.mp4", None)
    before, after = frames_of(video / "v.mp4"), list(overlay.frames())
    assert overlay.fps == pytest.approx(FPS)
    assert [image.shape for image in after] == [image.shape for image in before] == [(120, 160, 3)] * FRAMES
    drawn = [np.abs(a.astype(int) - b).mean() for a, b in zip(after, before, strict=True)]
    assert np.argmin(drawn) == 5  # where there is no hand, only the coding differs


def test_smoothed_hands_have_one_shape_a_track_tremble_less_and_agree_with_themselves(predicted, run, video, tmp_path):
    options = PredictOptions(boxes=video / "v.json", smooth=True, **OPTIONS)
    assert predict_files([video / "v.mp4"], run, tmp_path, options, device="cpu")["is_smoothed"]
    raw, smooth = read(predicted[1])[1], read(tmp_path)[1]
    np.testing.assert_array_equal(smooth["track"], raw["track"])
    for track in (0, 1):
        rows = smooth["track"] == track
        np.testing.assert_allclose(np.ptp(smooth["betas"][rows], axis=0), 0, atol=0)
        np.testing.assert_array_equal(smooth["betas"][rows][0], np.median(raw["betas"][rows], axis=0))
        moves = [np.abs(np.diff(arrays["root_mm"][rows], axis=0)).mean() for arrays in (raw, smooth)]
        assert moves[1] < moves[0]
        np.testing.assert_allclose(np.ptp(smooth["hand_size_mm"][rows]), 0, atol=1e-3)
    projected = smooth["joints_mm"] @ K.T
    np.testing.assert_allclose(smooth["joints_px"], projected[..., :2] / projected[..., 2:], atol=1e-2)
    np.testing.assert_allclose(smooth["joints_mm"][:, 0], smooth["root_mm"], atol=1e-3)
    assert len(frames_of(tmp_path / "v_overlay.mp4")) == FRAMES


def test_a_folder_of_numbered_pictures_with_a_rate_is_a_video(predicted, run, video, tmp_path):
    folder = tmp_path / "v"
    folder.mkdir()
    for number, image in enumerate(frames_of(video / "v.mp4")):
        (folder / f"{number}.png").write_bytes(encode_png(image))
    by_picture = tmp_path / "by_picture.json"
    by_picture.write_text(json.dumps({f"{number}.png": boxes_of(number) for number in range(FRAMES)}))
    expected = read(predicted[1])[1]
    for boxes in (video / "v.json", by_picture):
        output = tmp_path / f"out_{boxes.stem}"
        done = predict_files([folder], run, output, PredictOptions(boxes=boxes, fps=FPS, **OPTIONS), device="cpu")
        assert done["video_frames"] == FRAMES
        np.testing.assert_allclose(read(output)[1]["joints_mm"], expected["joints_mm"], rtol=0, atol=1e-3)
    (folder / "3.png").write_bytes(encode_png(noise_picture(30, 40)))
    with pytest.raises(
        InputError, match=r"3\.png: 40 x 30 px, but 0\.png is 160 x 120; pictures of a sequence need one"
    ):
        predict_files([folder], run, output, PredictOptions(boxes=by_picture, fps=FPS, **OPTIONS), device="cpu")


def test_tracks_that_the_file_names_are_kept_and_one_box_is_one_track(run, video, tmp_path):
    named = {str(n): [hand | {"track": hand["side"][0]} for hand in boxes_of(n)] for n in range(FRAMES)}
    (tmp_path / "named.json").write_text(json.dumps({"v.mp4": named}))
    options = PredictOptions(boxes=tmp_path / "named.json", **OPTIONS)
    predict_files([video / "v.mp4"], run, tmp_path / "out", options, device="cpu")
    results, arrays = read(tmp_path / "out")
    assert results["frames"][0]["hands"][0]["track"] == "l"
    assert arrays["track_names"].tolist() == ["l", "r"]
    options = PredictOptions(box="20,30,80,90", fps=10.0, **OPTIONS)
    predict_files([video / "v.mp4"], run, tmp_path / "box", options, device="cpu")
    results, arrays = read(tmp_path / "box")
    assert (arrays["track"] == 0).all()
    assert results["frames"][3]["time_ms"] == 300.0


@pytest.mark.parametrize("smooth", [False, True])
def test_of_a_long_video_only_some_frames_are_in_memory_at_a_time(smooth, run, tmp_path):
    alive: set[int] = set()
    most: list[int] = []

    class Watched(np.ndarray):
        pass

    def frames():
        for number in range(12):
            image = noise_picture(60, 80, number).view(Watched)
            key = len(most)
            alive.add(key)
            weakref.finalize(image, alive.discard, key)
            most.append(len(alive))
            yield image
            del image

    source = FrameSource(Path("long.mp4"), 25.0, 12, frames)
    predictor = Predictor.load(run, device="cpu")
    with ResultsWriter(tmp_path, {}) as results:
        find = lambda number, image: [hand_box((10, 10, 50, 50), "left", 0)]  # noqa: E731
        assert predict_video(predictor, source, find, None, results, "long", smooth=smooth) == 12
        results.finish(predictor.loaded.hand.faces.numpy())
    assert len(most) == (24 if smooth else 12)
    assert max(most) <= 2


def test_both_hands_of_a_smoothed_video_are_those_of_the_hand_model(run, video):
    hands = streamed(run, video)
    again = posed_again(hands.without_vertices(), Predictor.load(run, device="cpu").loaded.hand)
    np.testing.assert_allclose(again.vertices_mm, hands.vertices_mm, atol=1e-3)


def test_videos_and_pictures_go_together_each_with_its_boxes(video, tmp_path):
    run = random_run(tmp_path / "run", *SMALL)
    (tmp_path / "a.png").write_bytes(encode_png(noise_picture(60, 80)))
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"v.mp4": {"2": boxes_of(2)}, "a.png": [{"box": [5, 5, 50, 50], "side": "left"}]}))
    done = predict_files([video / "v.mp4", tmp_path / "a.png"], run, tmp_path / "out", PredictOptions(boxes=boxes))
    assert (done["pictures"], done["video_frames"], done["hands"]) == (1, FRAMES, 3)
    assert done["is_depth_assumed"]
    results, arrays = read(tmp_path / "out")
    assert arrays["track"].tolist() == [-1, 0, 1]
    assert [len(frame["hands"]) for frame in results["frames"]] == [1, 0, 0, 2, 0, 0, 0, 0, 0]


def test_what_is_no_video_is_told(run, tmp_path):
    fake = tmp_path / "fake.mp4"
    fake.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"fake\.mp4: not a readable video"):
        predict_files([fake], run, tmp_path / "out", PredictOptions(box="1,2,3,4"), device="cpu")


def test_a_frame_of_another_size_is_not_written_and_what_was_written_can_be_read(tmp_path):
    with VideoFile(tmp_path / "x.mp4", (64, 48), 12.5) as file:
        file.write(np.full((48, 64, 3), (200, 50, 20), np.uint8))
        with pytest.raises(ValueError, match=r"a frame of \(48, 64\), the video has \(64, 48\)"):
            file.write(np.zeros((64, 48, 3), np.uint8))
    source = open_video(tmp_path / "x.mp4", None)
    (image,) = source.frames()
    assert source.fps == pytest.approx(12.5)
    np.testing.assert_allclose(image.mean((0, 1)), [200, 50, 20], atol=6)
    assert open_video(tmp_path / "x.mp4", 50.0).time_ms(3) == 60.0


def test_frames_with_odd_sides_are_written_whole_with_their_border_repeated(tmp_path):
    ramp = np.add.outer(3 * np.arange(41), 2 * np.arange(63)).astype(np.uint8)
    image = np.stack([ramp] * 3, -1)
    with VideoFile(tmp_path / "odd.mp4", (63, 41), 25.0) as file:
        file.write(image)
    (found,) = open_video(tmp_path / "odd.mp4", None).frames()
    assert found.shape == (42, 64, 3)
    expected = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="edge").astype(float)
    assert np.abs(found - expected).mean() < 3
