"""`vpog predict`: pictures and folders in; results, BOP's file and overlays out; wrong input is told in a line."""

import json
import shutil

import cv2
import numpy as np
import pytest

from vpog.data.boxes import box_of_bop
from vpog.data.opening import open_dataset
from vpog.layout import dataset_of_folder
from vpog.results_csv import read_results


@pytest.fixture(scope="module")
def record(data):
    return open_dataset(dataset_of_folder(data / "synth" / "val"), 64, 64).images.read(0)


@pytest.fixture(scope="module")
def photo(record, tmp_path_factory):
    """photo.png and mask.png of the first object, and what the command line needs to know of them."""
    folder = tmp_path_factory.mktemp("photo")
    cv2.imwrite(str(folder / "photo.png"), record.rgb[..., ::-1])
    instance = record.instances[0]
    cv2.imwrite(str(folder / "mask.png"), instance.mask_visib.decode().astype(np.uint8) * 255)
    return folder


def intrinsics(K):
    return f"{K[0, 0]},{K[1, 1]},{K[0, 2]},{K[1, 2]}"


@pytest.fixture(scope="module")
def mesh(data, record):
    return data / "synth" / "models" / f"obj_{record.instances[0].obj_id:06d}.ply"


@pytest.fixture(scope="module")
def scene(record, data, tmp_path_factory):
    """A folder as people without BOP's data have it."""
    folder = tmp_path_factory.mktemp("scene") / "table"
    folder.mkdir()
    cv2.imwrite(str(folder / "image.png"), record.rgb[..., ::-1])
    (folder / "camera.json").write_text(json.dumps({"K": record.K.tolist()}))
    listed = []
    for place, instance in enumerate(record.instances):
        label = f"thing{instance.obj_id}"
        (folder / "meshes" / label).mkdir(parents=True, exist_ok=True)
        model = data / "synth" / "models" / f"obj_{instance.obj_id:06d}.ply"
        shutil.copy(model, folder / "meshes" / label / "thing.ply")
        cv2.imwrite(str(folder / f"mask{place}.png"), instance.mask_visib.decode().astype(np.uint8) * 255)
        listed.append({"label": label, "mask": f"mask{place}.png"})
    (folder / "detections.json").write_text(json.dumps(listed))
    return folder


def test_a_picture_a_mesh_and_a_mask_give_a_pose(command, run, photo, mesh, record, tmp_path):
    words = ("--mesh", mesh, "--mask", photo / "mask.png", "--k", intrinsics(record.K), "--level", 0)
    done = command("predict", photo / "photo.png", "--checkpoint", run, *words, "--hypotheses", 2, "--output", tmp_path)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["objects"] == 1
    (row,) = json.loads((tmp_path / "results.json").read_text())
    assert row["failure"] is None
    pose = np.array(row["poses"][0]["cam_from_obj_mm"])
    assert pose[2, 3] > 0
    found = read_results(tmp_path / "vpog_photo-predict.csv")
    assert len(found) == len(row["poses"]) <= 2
    np.testing.assert_allclose(found[0].cam_from_obj_mm, pose, atol=1e-4)
    overlay = cv2.imread(str(tmp_path / "photo_overlay.png"))
    assert overlay.shape == record.rgb.shape
    assert (overlay[..., ::-1] != record.rgb).any()


def test_a_field_of_view_is_as_good_as_the_focal_length_that_it_means(command, run, photo, mesh, tmp_path):
    fov = np.degrees(2 * np.arctan(48 / 120))
    answers = []
    for name, words in (("k", ("--k", "120,120,47.5,47.5")), ("fov", ("--fov", fov))):
        common = ("--mesh", mesh, "--mask", photo / "mask.png", "--level", 0, "--output", tmp_path / name)
        assert command("predict", photo / "photo.png", "--checkpoint", run, *words, *common).exit_code == 0
        answers.append(json.loads((tmp_path / name / "results.json").read_text())[0]["poses"][0]["cam_from_obj_mm"])
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-3, atol=0.1)


def test_a_folder_tells_everything_itself(command, run, scene, record, tmp_path):
    done = command("predict", scene, "--checkpoint", run, "--level", 0, "--output", tmp_path)
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["label"] for row in rows] == [f"thing{i.obj_id}" for i in record.instances]
    assert (tmp_path / "table_overlay.png").is_file()


def test_run_lengths_are_as_good_as_a_picture_of_the_mask(command, run, scene, record, tmp_path):
    folder = tmp_path / "table"
    shutil.copytree(scene, folder)
    listed = [{"label": f"thing{i.obj_id}", "mask": i.mask_visib.to_json()} for i in record.instances]
    (folder / "detections.json").write_text(json.dumps(listed))
    answers = []
    for source, name in ((scene, "a"), (folder, "b")):
        done = command("predict", source, "--checkpoint", run, "--level", 0, "--output", tmp_path / name)
        assert done.exit_code == 0, done.output
        answers.append(json.loads((tmp_path / name / "results.json").read_text()))
    assert answers[0] == answers[1]


def test_boxes_are_enough_for_a_network_that_saw_backgrounds(command, trained, photo, mesh, record, tmp_path):
    kept = trained("data.background=keep")
    box = ",".join(map(str, box_of_bop(record.instances[0].bbox_visib_xywh)))
    words = ("--mesh", mesh, "--box", box, "--k", intrinsics(record.K), "--level", 0, "--output", tmp_path)
    done = command("predict", photo / "photo.png", "--checkpoint", kept, *words)
    assert done.exit_code == 0, done.output
    (row,) = json.loads((tmp_path / "results.json").read_text())
    np.testing.assert_allclose(row["box_xyxy"], [float(v) for v in box.split(",")])


WRONG = {
    "no object": (["--mask", "MASK", "--k", "100,100,48,48"], "give either --objects"),
    "both objects": (
        ["--mask", "MASK", "--k", "100,100,48,48", "--mesh", "MESH", "--objects", "x"], "give either --objects",
    ),
    "nowhere": (["--mesh", "MESH", "--k", "100,100,48,48"], "where in the picture is the object?"),
    "no camera": (["--mesh", "MESH", "--mask", "MASK"], "give either --k fx,fy,cx,cy or --fov"),
    "both cameras": (["--mesh", "MESH", "--mask", "MASK", "--fov", "60", "--k", "1,1,1,1"], "give either --k"),
    "three numbers": (["--mesh", "MESH", "--mask", "MASK", "--k", "100,100,48"], "--k 100,100,48: fx,fy,cx,cy are needed"),
    "words": (["--mesh", "MESH", "--mask", "MASK", "--k", "a,b,c,d"], "four numbers"),
    "zero focal": (["--mesh", "MESH", "--mask", "MASK", "--k", "0,100,48,48"], "--k"),
    "wide": (["--mesh", "MESH", "--mask", "MASK", "--fov", "190"], "--fov 190: an angle between 0 and 180"),
    "flat box": (["--mesh", "MESH", "--box", "5,5,5,9", "--fov", "60"], "has no area"),
    "box outside": (["--mesh", "MESH", "--box", "500,5,520,9", "--fov", "60"], "lies outside of the picture"),
    "no mask, as trained": (["--mesh", "MESH", "--box", "5,5,50,50", "--fov", "60"], "trained on masked pictures"),
    "mesh": (["--mesh", "missing.ply", "--mask", "MASK", "--fov", "60"], "missing.ply: no such mesh file"),
    "mask": (["--mesh", "MESH", "--mask", "missing.png", "--fov", "60"], "missing.png"),
    "folder": (["--objects", "missing", "--mask", "MASK", "--fov", "60"], "vpog onboard"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_told_in_one_line(case, command, run, photo, mesh, tmp_path):
    words, message = WRONG[case]
    given = [{"MASK": photo / "mask.png", "MESH": mesh}.get(word, word) for word in words]
    done = command("predict", photo / "photo.png", "--checkpoint", run, *given, "--level", 0, "--output", tmp_path)
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert done.stdout == ""
    assert not (tmp_path / "results.json").exists()


def test_an_object_that_is_not_in_the_folder_is_told_with_those_that_are(command, run, photo, mesh, tmp_path):
    assert command("onboard", mesh, "--checkpoint", run, "--output", tmp_path / "k", "--level", 0).exit_code == 0
    words = ("--objects", tmp_path / "k", "--obj-id", 99, "--mask", photo / "mask.png", "--fov", 60)
    done = command("predict", photo / "photo.png", "--checkpoint", run, *words, "--output", tmp_path)
    assert done.exit_code == 2
    assert "(object 99): this object was not added; known are: " in done.stderr


WRONG_FOLDERS = {
    "no camera": (lambda f: (f / "camera.json").unlink(), "camera.json"),
    "no K": (lambda f: (f / "camera.json").write_text('{"k": 1}'), "camera.json: has no 'K'; it has k"),
    "zero focal": (lambda f: (f / "camera.json").write_text('{"K": [[0,0,1],[0,1,1],[0,0,1]]}'), "camera.json: K"),
    "flat K": (lambda f: (f / "camera.json").write_text('{"K": [1,2,3]}'), "camera.json: K"),
    "no picture": (lambda f: (f / "image.png").unlink(), "has 0 pictures named image.png"),
    "broken json": (lambda f: (f / "detections.json").write_text("[{"), "detections.json: is not JSON"),
    "no label": (lambda f: (f / "detections.json").write_text('[{"bbox": [1,2,3,4]}]'), "has no 'label'"),
    "not listed": (lambda f: (f / "detections.json").write_text('{"label": "a"}'), "detections.json"),
    "no mesh": (lambda f: shutil.rmtree(f / "meshes"), "has 0 meshes"),
    "no box": (
        lambda f: (f / "detections.json").write_text(json.dumps([{"label": (f / "meshes").iterdir().__next__().name}])),
        "has no 'bbox'",
    ),
}


@pytest.mark.parametrize("case", WRONG_FOLDERS)
def test_a_wrong_folder_is_told_by_file_and_field(case, command, run, scene, tmp_path):
    damage, message = WRONG_FOLDERS[case]
    folder = tmp_path / "table"
    shutil.copytree(scene, folder)
    damage(folder)
    done = command("predict", folder, "--checkpoint", run, "--level", 0, "--output", tmp_path / "out")
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert str(folder) in line


def test_pictures_and_folders_are_not_mixed(command, run, scene, photo, tmp_path):
    done = command("predict", scene, photo / "photo.png", "--checkpoint", run, "--output", tmp_path)
    assert done.exit_code == 2
    assert "give pictures or folders, not both" in done.stderr
    done = command("predict", scene, "--checkpoint", run, "--output", tmp_path, "--fov", 60)
    assert done.exit_code == 2
    assert "--fov: for pictures only" in done.stderr
