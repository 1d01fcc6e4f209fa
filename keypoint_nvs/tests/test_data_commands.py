"""The commands `keypoint-nvs data ...`."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_nvs.data.inspection import draw_store, looks_premultiplied
from keypoint_nvs.data.records import MultiviewSample
from keypoint_nvs.data.rgba_images import read_rgba
from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.data.store_writing import write_store


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> Path:
    from keypoint_nvs.data.synthetic import SyntheticOptions, synthesise

    path = tmp_path_factory.mktemp("made") / "objects.hdf5"
    synthesise(path, SyntheticOptions(objects=3, view_px=32))
    return path


def test_synth_writes_the_store_that_inspect_describes(command, tmp_path):
    path = tmp_path / "train.hdf5"
    made = command("data", "synth", path, "--objects", 2, "--view-px", 16, "--azimuth-range", 45)
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["samples"] == 2
    looked = command("data", "inspect", path, "--json", "--picture", tmp_path / "sheet.png")
    facts = json.loads(looked.stdout)
    assert (facts["samples"], facts["rig"], facts["size_px"]) == (2, "zero123plus-v1.2", "16 x 16")
    assert facts["keypoints"] == "8 in 2"
    assert facts["pose_error_deg"] == "0.00 to zero123plus-v1.2"
    sheet = cv2.imread(facts["picture"])
    assert sheet.shape[1] > 7 * 160
    assert all(abs(float(v)) <= 45 for v in [s.azimuth_deg for s in map(MultiviewStore(path).read, range(2))])


def test_input_views_are_written_as_they_are_stored_with_their_alpha(command, objects, tmp_path):
    looked = command("data", "inspect", objects, "--inputs", tmp_path / "photos", "--count", 2, "--json")
    names = json.loads(looked.stdout)["inputs"].split(", ")
    store = MultiviewStore(objects)
    stored = {name.replace("/", "_"): store.read(i).cond_imgs for i, name in enumerate(store.sample_ids)}
    assert len(names) == 2
    for name in names:
        np.testing.assert_array_equal(read_rgba(Path(name)), stored[Path(name).stem])


def test_pictures_have_no_input_views(command, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((20, 20, 3), np.uint8))
    looked = command("data", "inspect", tmp_path, "--inputs", tmp_path / "photos")
    assert looked.exit_code == 2
    assert "no store of views" in looked.output


def test_keypoints_are_drawn_on_the_object_that_they_belong_to(objects):
    plain = draw_store(str(objects), 1, 0)
    store = MultiviewStore(objects)
    sample = store.read(int(np.random.default_rng(0).choice(3, 1, replace=False)[0]))
    assert sample.keypoints is not None
    without = objects.with_name("without.hdf5")
    write_store(
        without,
        "zero123plus-v1.2",
        [MultiviewSample(sample.sample_id, sample.cond_imgs, sample.target_imgs, None, None)],
    )
    changed = np.argwhere((plain != draw_store(str(without), 1, 0)).any(2))
    width = 160 + 6
    per_cell = np.bincount((changed[:, 1] - 6) // width, minlength=7)
    assert (per_cell > 0).all()
    assert len(changed) < 0.1 * plain.shape[0] * plain.shape[1]


def test_a_folder_of_pictures_is_described(command, tmp_path):
    (tmp_path / "pictures").mkdir()
    cv2.imwrite(str(tmp_path / "pictures" / "a.png"), np.zeros((20, 30, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "pictures" / "b.png"), np.zeros((20, 20, 4), np.uint8))
    looked = command("data", "inspect", tmp_path / "pictures", "--json", "--picture", tmp_path / "sheet.png")
    facts = json.loads(looked.stdout)
    assert (facts["pictures"], facts["square"], facts["with_transparency"]) == (2, 1, 1)
    assert (facts["height_px"], facts["width_px"]) == ("20 to 20", "20 to 30")
    assert (tmp_path / "sheet.png").is_file()


def test_colours_that_were_multiplied_by_alpha_are_suspected(objects):
    straight = MultiviewStore(objects).read(0).target_imgs
    rgba = np.repeat(np.repeat(straight, 4, 2), 4, 3)
    rgba[:, 3] = np.stack([cv2.GaussianBlur(a, (0, 0), 3) for a in rgba[:, 3]])
    rgba[:, :3] = 180
    assert not looks_premultiplied(rgba)
    premultiplied = rgba.copy()
    premultiplied[:, :3] = rgba[:, :3].astype(int) * rgba[:, 3:].astype(int) // 255
    assert looks_premultiplied(premultiplied)


def test_a_missing_file_is_wrong_input(command, tmp_path):
    for arguments in (
        ("inspect", tmp_path / "no.hdf5"),
        ("convert", "skel4d", tmp_path / "no.hdf5", tmp_path / "out"),
        ("convert", "instantmesh", tmp_path, tmp_path / "out", "--paths-json", tmp_path / "no.json"),
    ):
        done = command("data", *arguments)
        assert done.exit_code == 2
        assert str(tmp_path / "no.") in done.stderr
