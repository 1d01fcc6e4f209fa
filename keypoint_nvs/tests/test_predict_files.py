"""From picture and video files to tables and pictures, as `keypoint-nvs predict` writes them."""

import csv
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.draw.sequences import write_mp4
from keypoint_nvs.rig import rig_of
from posecore.data.video import video_length


@pytest.fixture(scope="module")
def photos(stores, tmp_path_factory) -> Path:
    """A folder with two pictures of 32 px (one with transparency, one opaque) and a video of three frames."""
    folder = tmp_path_factory.mktemp("photos")
    store = MultiviewStore(stores / "val.h5")
    rgba = [store.read(index).cond_imgs.transpose(1, 2, 0) for index in range(2)]
    Image.fromarray(np.ascontiguousarray(rgba[0])).save(folder / "a.png")
    Image.fromarray(np.ascontiguousarray(rgba[1][..., :3])).save(folder / "b.jpg")
    write_mp4(folder / "clip.mp4", [np.ascontiguousarray(rgba[i % 2][..., :3]) for i in range(3)], 10)
    return folder


@pytest.fixture(scope="module")
def predicted(photos, trained, command, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("predicted") / "out"
    words = ("--checkpoint", trained("joint"), "--output", output, "--maps", "--turntable", "gif", "--device", "cpu")
    done = command("predict", photos, *words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["pictures"] == 5
    assert set(told["files"]) == {path.name for path in output.iterdir()}
    return output


def test_the_folder_holds_tables_grids_single_views_maps_and_a_turning_picture(predicted):
    names = {path.name for path in predicted.iterdir()}
    for stem in ("a", "b"):
        endings = ("keypoints.png", "grid.png", "views", "views.png", "points.png", "maps.png", "turntable.gif")
        assert {f"{stem}_{end}" for end in endings} <= names
        assert sorted(p.name for p in (predicted / f"{stem}_views").iterdir()) == [f"{i:03d}.png" for i in range(6)]
    assert {"keypoints.json", "keypoints.csv", "clip_keypoints.mp4"} <= names
    assert not any(name.startswith("clip_0") for name in names), "of a video there is one film, no picture a frame"


def test_the_grid_has_view_i_at_row_i_over_2_and_column_i_mod_2(predicted):
    grid = cv2.imread(str(predicted / "a_grid.png"))
    assert grid.shape == (96, 64, 3)
    for view in range(6):
        row, col = divmod(view, 2)
        own = cv2.imread(str(predicted / "a_views" / f"{view:03d}.png"))
        assert np.array_equal(grid[32 * row : 32 * row + 32, 32 * col : 32 * col + 32], own)


def test_json_and_csv_tell_the_same_keypoints(predicted, photos):
    document = json.loads((predicted / "keypoints.json").read_text())
    names, pictures = document["names"], document["pictures"]
    assert len(names) == len(set(names)) == 4
    assert all(name.startswith("token_") for name in names)
    assert [(p["name"], p["frame"]) for p in pictures] == [
        ("a", 0), ("b", 0), ("clip_00000", 0), ("clip_00001", 1), ("clip_00002", 2),
    ]  # fmt: skip
    with (predicted / "keypoints.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["picture", "frame", "name", "x", "y", "confidence"]
    told = [
        (p["source"], p["frame"], name, *xy, confidence)
        for p in pictures
        for name, xy, confidence in zip(names, p["keypoints_px"], p["confidence"], strict=True)
    ]
    assert [
        (r["picture"], int(r["frame"]), r["name"], float(r["x"]), float(r["y"]), float(r["confidence"])) for r in rows
    ] == told
    assert all(-0.5 <= x <= 31.5 and 0 < confidence <= 1 for _, _, _, x, _, confidence in told)


def test_cameras_and_points_are_those_of_the_rig(predicted):
    entry = json.loads((predicted / "keypoints.json").read_text())["pictures"][0]
    rig = rig_of("zero123plus-v1.2")
    np.testing.assert_allclose(entry["views"]["cam_from_world"], rig.cam_from_world(), atol=1e-8)
    np.testing.assert_allclose(entry["views"]["K"], rig.K(32))
    assert np.shape(entry["views"]["keypoints_px"]) == (6, 4, 2)
    assert np.shape(entry["points_world"]) == (4, 3)
    assert np.shape(entry["reprojection_px"]) == (6, 4)
    assert len(entry["counted"]) == 4


def test_films_have_a_frame_for_each_of_the_video_and_turn_more_than_once_a_second(predicted):
    assert video_length(predicted / "clip_keypoints.mp4") == 3
    with Image.open(predicted / "a_turntable.gif") as film:
        assert film.n_frames >= 12


def test_a_turning_picture_as_a_film_without_maps(photos, trained, command, tmp_path):
    words = ("--checkpoint", trained("joint"), "--output", tmp_path / "out", "--turntable", "mp4", "--device", "cpu")
    done = command("predict", photos / "a.png", *words)
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "out" / "a_maps.png").exists()
    with av.open(str(tmp_path / "out" / "a_turntable.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) >= 12


def test_without_views_there_are_keypoints_alone(photos, trained, command, tmp_path):
    words = ("--checkpoint", trained("joint"), "--output", tmp_path / "out", "--no-views", "--warps", 0)
    done = command("predict", photos / "a.png", *words)
    assert done.exit_code == 0, done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"keypoints.json", "keypoints.csv", "a_keypoints.png"}
    assert "views" not in json.loads((tmp_path / "out" / "keypoints.json").read_text())["pictures"][0]


def test_a_run_of_novel_views_alone_answers_with_views_and_their_cameras(photos, trained, command, tmp_path):
    done = command("predict", photos / "a.png", "--checkpoint", trained("nvs"), "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"keypoints.json", "a_grid.png", "a_views"}
    (entry,) = json.loads((tmp_path / "out" / "keypoints.json").read_text())["pictures"]
    assert np.shape(entry["views"]["cam_from_world"]) == (6, 4, 4)
    refused = command("predict", photos, "--checkpoint", trained("nvs"), "--output", tmp_path / "o", "--maps")
    assert refused.exit_code == 2
    assert "--maps: " in refused.stderr
    assert "clip.mp4: is a video, but" in refused.stderr


def test_a_picture_that_is_not_square_is_refused_unless_it_may_be_cut_or_padded(trained, command, tmp_path):
    path = tmp_path / "wide.png"
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(path)
    words = ("predict", path, "--checkpoint", trained("joint"), "--no-views", "--warps", 0)
    refused = command(*words, "--output", tmp_path / "exact")
    assert refused.exit_code == 2
    assert "wide.png: is 20 x 30, a square is needed; set fit to centre_crop or pad" in refused.stderr
    for fit, side in (("centre_crop", 20), ("pad", 30)):
        assert command(*words, "--fit", fit, "--output", tmp_path / fit).exit_code == 0
        (entry,) = json.loads((tmp_path / fit / "keypoints.json").read_text())["pictures"]
        assert np.max(entry["keypoints_px"]) < side


def test_inputs_that_cannot_be_are_told_before_anything_is_loaded(trained, command, photos, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "more").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "more" / "a.png")
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "keypoints.json").write_text("{}")
    cases = {
        (tmp_path / "none.png",): "none.png: no such file or folder",
        (tmp_path / "notes.txt",): "notes.txt: is neither picture nor video (.png, ",
        (tmp_path / "empty",): "empty: holds no picture or video",
        (photos, tmp_path / "more"): "a.png: has the name of ",
    }
    for inputs, message in cases.items():
        done = command("predict", *inputs, "--checkpoint", tmp_path / "no run", "--output", tmp_path / "out")
        assert done.exit_code == 2
        assert message in done.stderr
    done = command("predict", photos, "--checkpoint", trained("joint"), "--output", tmp_path / "done")
    assert "done: holds results already; choose another folder" in done.stderr
    assert not (tmp_path / "out").exists()
