"""`handvit predict` on pictures: what is written, how it is named, and what is refused before anything is."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh

sys.path.append(str(Path(__file__).parent))

from random_runs import SMALL, STAGE_2, noise_picture, random_run

from handvit.array_spool import ArraySpool
from handvit.hand_boxes import HandBox
from handvit.hand_finding import HandFinder
from handvit.predict import Predictor
from handvit.predict_files import PredictOptions, predict_files
from handvit.prediction_inputs import distinct_names, find_inputs
from posecore.data.images import decode_image, encode_jpeg, encode_png
from posecore.errors import InputError


def hand_box(box, *rest, **more):
    return HandBox(tuple(float(number) for number in box), *rest, **more)


HANDS = {
    "a.png": [{"box": [20, 30, 70, 90], "side": "right"}, {"box": [60, 40, 140, 100], "side": "left", "score": 0.75}],
    "b.jpg": [{"box": [5, 60, 50, 118], "side": "left"}, {"box": [80, 20, 150, 90], "side": "left"}],
    "none.png": [],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return random_run(tmp_path_factory.mktemp("run"), *SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three pictures and their boxes."""
    root = tmp_path_factory.mktemp("in")
    (root / "hands").mkdir()
    (root / "hands" / "a.png").write_bytes(encode_png(noise_picture(120, 160, 0)))
    (root / "hands" / "b.jpg").write_bytes(encode_jpeg(noise_picture(120, 160, 1)))
    (root / "hands" / "none.png").write_bytes(encode_png(noise_picture(50, 60, 2)))
    (root / "hands" / "notes.txt").write_text("no picture")
    (root / "boxes.json").write_text(json.dumps(HANDS))
    return root


@pytest.fixture(scope="module")
def predicted(run, folder, tmp_path_factory):
    """(summary, output folder) of all three."""
    output = tmp_path_factory.mktemp("out") / "new"
    options = PredictOptions(boxes=folder / "boxes.json", intrinsics="300,310,70.5,66", watertight=True, batch_size=3)
    return predict_files([folder / "hands"], run, output, options, device="cpu"), output


def read(output):
    with np.load(output / "predictions.npz", allow_pickle=False) as arrays:
        return json.loads((output / "results.json").read_text()), dict(arrays)


def test_everything_that_is_promised_is_written_and_listed(predicted):
    summary, output = predicted
    results, _ = read(output)
    assert {file.name for file in output.iterdir()} == {*results["files"], "results.json"}
    pictures = {f"{name}_{kind}.png" for name in "ab" for kind in ("overlay", "side")}
    stems = ("a_right", "a_left", "b_left_0", "b_left_1")
    meshes = {f"{stem}.{kind}" for stem in stems for kind in ("obj", "ply")}
    assert set(results["files"]) == {*pictures, *meshes, "predictions.npz", "smplx_hands.npz"}
    assert {k: summary[k] for k in ("pictures", "pictures_without_hands", "videos", "hands", "hand")} == {
        "pictures": 3, "pictures_without_hands": 1, "videos": 0, "hands": 4, "hand": "stand-in",
    }  # fmt: skip
    assert results["is_complete"]
    assert not results["is_depth_assumed"]


def test_the_files_say_what_the_predictor_says(predicted, run, folder):
    _, output = predicted
    results, arrays = read(output)
    assert [frame["name"] for frame in results["frames"]] == ["a", "b", "none"]
    assert results["frames"][2] == {
        "source": str(folder / "hands" / "none.png"), "name": "none", "number": None, "time_ms": None,
        "size_px": [60, 50], "hands": [],
    }  # fmt: skip
    predictor, K = Predictor.load(run, device="cpu"), np.array([[300.0, 0, 70.5], [0, 310.0, 66], [0, 0, 1]])
    row = 0
    for index, name in enumerate(("a.png", "b.jpg")):
        boxes, sides = [hand["box"] for hand in HANDS[name]], [hand["side"] for hand in HANDS[name]]
        expected = predictor(decode_image(folder / "hands" / name), boxes, sides, K)
        for number, hand in enumerate(results["frames"][index]["hands"]):
            assert hand["side"] == sides[number]
            assert hand["detector_score"] == HANDS[name][number].get("score")
            for field in ("box", "K", "pose", "betas", "translation_mm", "root_mm", "joints_mm", "joints_px"):
                wanted = getattr(expected, "boxes" if field == "box" else field)[number]
                np.testing.assert_allclose(hand[field], wanted, rtol=0, atol=2e-3, err_msg=field)
            np.testing.assert_allclose(hand["hand_size_mm"], expected.hand_size_mm[number], atol=1e-3)
            assert arrays["frame_index"][row] == index
            assert arrays["handedness"][row] == sides[number]
            np.testing.assert_allclose(arrays["vertices_mm"][row], expected.vertices_mm[number], atol=2e-3)
            np.testing.assert_allclose(arrays["pose"][row], hand["pose"], atol=1e-6)
            row += 1
    assert len(arrays["pose"]) == row
    assert arrays["frame_names"].tolist() == ["a", "b", "none"]
    assert arrays["detector_score"][1] == 0.75
    assert np.isnan(arrays["detector_score"][[0, 2, 3]]).all()


def test_meshes_are_watertight_in_metres_say_so_and_both_formats_hold_the_same(predicted):
    _, output = predicted
    _, arrays = read(output)
    for row, stem in enumerate(("a_right", "a_left", "b_left_0", "b_left_1")):
        obj, ply = (trimesh.load(output / f"{stem}.{kind}", process=False) for kind in ("obj", "ply"))
        for mesh in (obj, ply):
            np.testing.assert_allclose(mesh.vertices, arrays["vertices_mm"][row] / 1000, atol=1e-6)
            assert mesh.is_watertight
            assert mesh.volume > 0
        np.testing.assert_array_equal(obj.faces, ply.faces)
        head = (output / f"{stem}.obj").read_text().splitlines()[:2]
        assert "metres" in head[0]
        assert head[1] == "# stand-in hand, not MANO"
        assert b"comment handvit: metres" in (output / f"{stem}.ply").read_bytes()


def test_the_overlay_is_the_picture_but_where_a_hand_is(predicted, folder):
    _, output = predicted
    before, after = (decode_image(f) for f in (folder / "hands" / "a.png", output / "a_overlay.png"))
    assert before.shape == after.shape
    changed = (before != after).any(-1)
    assert 0.01 < changed.mean() < 0.95
    assert decode_image(output / "a_side.png").shape == (384, 384, 3)


def test_smplx_gets_the_poses_of_both_hands_in_the_names_and_conventions_it_takes(predicted):
    _, output = predicted
    _, arrays = read(output)
    with np.load(output / "smplx_hands.npz", allow_pickle=False) as file:
        poses = dict(file)
    assert not poses["use_pca"]
    assert poses["flat_hand_mean"]
    assert poses["frame_index"].tolist() == [0, 1, 1]  # the second picture has two left hands
    assert poses["person"].tolist() == [0, 0, 1]
    assert poses["has_left_hand"].tolist() == [True, True, True]
    assert poses["has_right_hand"].tolist() == [True, False, False]
    np.testing.assert_array_equal(poses["left_hand_pose"], arrays["pose"][1:, 3:])
    np.testing.assert_array_equal(poses["right_hand_pose"][0], arrays["pose"][0, 3:])
    np.testing.assert_array_equal(poses["right_wrist_orient"][0], arrays["pose"][0, :3])
    assert not poses["right_hand_pose"][1:].any()


def test_batches_change_nothing_even_where_a_picture_has_more_hands_than_go_at_once(predicted, run, folder, tmp_path):
    options = PredictOptions(boxes=folder / "boxes.json", intrinsics="300,310,70.5,66", meshes="none", batch_size=1)
    predict_files([folder / "hands"], run, tmp_path, options, device="cpu")
    one, many = read(tmp_path)[1], read(predicted[1])[1]
    for name in ("joints_mm", "vertices_mm", "translation_mm"):
        np.testing.assert_allclose(one[name], many[name], rtol=0, atol=2e-3)
    assert not list(tmp_path.glob("*.obj"))


def test_an_exif_orientation_is_applied_and_boxes_belong_to_the_turned_picture(run, tmp_path):
    jpeg = encode_jpeg(noise_picture(120, 160))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    turned = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    (tmp_path / "turned.jpg").write_bytes(turned)
    options = PredictOptions(box="20,100,80,150", side="left", meshes="none")
    predict_files([tmp_path / "turned.jpg"], run, tmp_path / "out", options, device="cpu")
    results, arrays = read(tmp_path / "out")
    assert results["frames"][0]["size_px"] == [120, 160]
    upright = np.ascontiguousarray(np.rot90(decode_image(jpeg), -1))
    expected = Predictor.load(run, device="cpu")(upright, [[20, 100, 80, 150]], "left")
    np.testing.assert_allclose(arrays["joints_mm"], expected.joints_mm, atol=1e-3)


def test_a_network_of_stage_2_predicts_single_pictures(tmp_path, folder):
    run = random_run(tmp_path / "run", *STAGE_2)
    options = PredictOptions(box="20,30,70,90", fov_deg=50.0)
    done = predict_files([folder / "hands" / "a.png"], run, tmp_path / "out", options, device="cpu")
    assert done["hands"] == 1


def test_pictures_of_one_name_do_not_overwrite_each_other():
    paths = [Path(name) for name in ("x/one/a.png", "x/two/a.jpg", "x/two/b.jpg")]
    assert distinct_names(paths) == ["one_a", "two_a", "two_b"]
    assert distinct_names([Path("a.png"), Path("B.png")]) == ["a", "B"]
    assert distinct_names([Path("x/a.png"), Path("x/A.jpg")]) == ["000000_a", "000001_A"]


def test_a_folders_pictures_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("frame_10.png", "frame_2.png", "frame_2b.png", "Frame_1.PNG", ".hidden.png"):
        (tmp_path / name).touch()
    found = [path.name for path in find_inputs([tmp_path, tmp_path / "frame_2.png"]).pictures]
    assert found == ["Frame_1.PNG", "frame_2.png", "frame_2b.png", "frame_10.png"]


def test_results_of_ours_are_replaced_with_all_their_files_and_those_of_others_stay(run, folder, tmp_path):
    options = PredictOptions(box="20,30,70,90", fov_deg=50.0)
    predict_files([folder / "hands" / "a.png"], run, tmp_path, options, device="cpu")
    (tmp_path / "mine.txt").write_text("kept")
    predict_files([folder / "hands" / "b.jpg"], run, tmp_path, options, device="cpu")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "b_overlay.png", "b_right.obj", "b_right.ply", "b_side.png", "mine.txt", "predictions.npz", "results.json",
        "smplx_hands.npz",
    ]  # fmt: skip


def test_a_run_that_fails_on_its_way_says_so_and_the_next_one_cleans_up(run, folder, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((folder / "hands" / "a.png").read_bytes()[:-40])
    options = PredictOptions(box="20,30,70,90", fov_deg=50.0, batch_size=1)
    files = [folder / "hands" / "a.png", folder / "hands" / "b.jpg", broken]
    with pytest.raises(InputError, match=r"broken\.png: PNG file is cut off"):
        predict_files(files, run, tmp_path / "out", options, device="cpu")
    unfinished = json.loads((tmp_path / "out" / "results.json").read_text())
    assert not unfinished["is_complete"]
    assert "a_overlay.png" in unfinished["files"]
    predict_files([folder / "hands" / "b.jpg"], run, tmp_path / "out", options, device="cpu")
    assert not (tmp_path / "out" / "a_overlay.png").exists()


def test_a_detector_of_ones_own_finds_hands_too(folder):
    finder = HandFinder(detector=lambda picture: [hand_box((0, 0, picture.shape[1], 9), "left", score=0.5)])
    image = decode_image(folder / "hands" / "a.png")
    assert finder.in_picture(Path("a.png"), image) == [hand_box((0, 0, 160, 9), "left", score=0.5)]


def wrong_inputs(folder):
    a, clip = folder / "hands" / "a.png", folder / "clip.mp4"
    if not clip.exists():
        writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
        for seed in range(3):
            writer.write(noise_picture(48, 64, seed))
        writer.release()
    (folder / "wrong").mkdir(exist_ok=True)
    sixteen, alpha, empty = (folder / "wrong" / name for name in ("sixteen.png", "alpha.png", "empty.png"))
    sixteen.write_bytes(encode_png(np.zeros((40, 40), np.uint16)))
    cv2.imwrite(str(alpha), np.zeros((40, 40, 4), np.uint8))
    empty.touch()
    (folder / "bare").mkdir(exist_ok=True)
    boxes = {}
    for name, content in {
        "other": {"c.png": []},
        "missing": {"b.jpg": HANDS["b.jpg"]},
        "outside": {"a.png": [{"box": [200, 0, 260, 50], "side": "left"}]},
        "frames": {"a.png": {"0": []}},
        "list": {"clip.mp4": []},
        "late": {"clip.mp4": {"3": HANDS["a.png"]}},
        "numbers": {"0": HANDS["a.png"]},
    }.items():
        boxes[name] = folder / f"{name}.json"
        boxes[name].write_text(json.dumps(content))
    ok = {"box": "1,2,30,40"}
    return {
        "nowhere": ([a], {}, "predict: where are the hands? give --boxes FILE.json"),
        "two ways": ([a], ok | {"boxes": boxes["other"]}, "predict: --boxes and --box are given; one of them says"),
        "two cameras": ([a], ok | {"intrinsics": "1,1,1,1", "fov_deg": 3.0}, "predict: --k and --fov are given"),
        "three numbers": ([a], ok | {"intrinsics": "1,2,3"}, "--k 1,2,3: four numbers fx,fy,cx,cy (px) are needed"),
        "no focal length": ([a], ok | {"intrinsics": "0,2,3,4"}, "intrinsics: focal length 0, 2 px"),
        "fov": ([a], ok | {"fov_deg": 190.0}, "fov: 190 degrees; a horizontal field of view between 0 and 180"),
        "missing": ([folder / "c.png"], ok, f"{folder / 'c.png'}: no such file or folder"),
        "kind": ([folder / "boxes.json"], ok, f"{folder / 'boxes.json'}: neither a picture (.png, "),
        "bare": ([folder / "bare"], ok, f"{folder / 'bare'}: no picture in it (.png, "),
        "16 bits": ([sixteen], ok, f"{sixteen}: has 16 bits a channel; save it with 8"),
        "alpha": ([alpha], ok, f"{alpha}: has transparent pixels; save it without"),
        "empty": ([empty], ok, f"{empty}: is empty; expected a picture"),
        "entry for nothing": ([a], {"boxes": boxes["other"]}, f"{boxes['other']}: c.png: is none of the inputs"),
        "no entry": ([a, folder / "hands" / "b.jpg"], {"boxes": boxes["missing"]},
                     f"{boxes['missing']}: has no entry for {a}; an empty list says that there is no hand"),
        "outside": ([a], {"boxes": boxes["outside"]}, f"{a}: box [200, 0, 260, 50] of hand 0 is outside of the picture"),
        "frames": ([a], {"boxes": boxes["frames"]}, f"{boxes['frames']}: a.png: has frames; a picture needs a list"),
        "list": ([clip], {"boxes": boxes["list"]}, f"{boxes['list']}: clip.mp4: is a list; a video needs frames, such as"),
        "late": ([clip], {"boxes": boxes["late"]},
                 f"{boxes['late']}: clip.mp4: has boxes for frame 3; the last frame is 2"),
        "whose": ([clip, a], {"boxes": boxes["numbers"]},
                  f"{boxes['numbers']}: holds frame numbers only, which one video alone can have"),
        "smooth": ([a], ok | {"smooth": True}, "--smooth: is for videos, and for folders of numbered pictures with --fps"),
        "fps": ([a], ok | {"fps": 25.0}, "--fps: is for videos, and for folders of numbered pictures with --fps"),
        "fps 0": ([clip], ok | {"fps": 0.0}, "--fps 0: has to be above 0"),
        "no detector": ([a], {"detector": folder / "x.task"}, f"--detector {folder / 'x.task'}: no such file; download"),
    }  # fmt: skip


def test_what_cannot_be_is_told_in_one_line_and_only_pictures_are_looked_at_late(run, folder, tmp_path):
    for case, (inputs, changes, message) in wrong_inputs(folder).items():
        output = tmp_path / case
        with pytest.raises(InputError) as caught:
            predict_files(inputs, run, output, PredictOptions(**changes), device="cpu")
        assert caught.value.problems[0].startswith(message), case
        assert len(caught.value.problems) == 1, case
        late = case in ("16 bits", "alpha", "empty", "outside")
        assert output.exists() == late, case


def test_a_folder_with_something_else_in_it_is_not_touched(run, folder, tmp_path):
    (tmp_path / "photo_overlay.png").write_text("mine")
    options = PredictOptions(box="20,30,70,90")
    with pytest.raises(InputError, match="holds files, but no results of handvit; name a new or empty folder"):
        predict_files([folder / "hands" / "a.png"], run, tmp_path, options, device="cpu")
    (tmp_path / "results.json").write_text('{"system": "another", "files": ["photo_overlay.png"]}')
    with pytest.raises(InputError, match="holds files, but no results of handvit"):
        predict_files([folder / "hands" / "a.png"], run, tmp_path, options, device="cpu")
    with pytest.raises(InputError, match=r"results\.json: is a file; name a folder"):
        predict_files([folder / "hands" / "a.png"], run, tmp_path / "results.json", options, device="cpu")
    assert (tmp_path / "photo_overlay.png").read_text() == "mine"


def test_the_command_predicts_and_tells_wrong_input_with_exit_code_2(run, folder, tmp_path, command):
    done = command(
        "predict", folder / "hands" / "a.png", "--checkpoint", run, "--out", tmp_path / "out", "--box", "20,30,70,90",
        "--side", "left", "--meshes", "obj", "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["hands"] == 1
    assert read(tmp_path / "out")[0]["frames"][0]["hands"][0]["side"] == "left"
    wrong = command("predict", folder / "hands" / "a.png", "--checkpoint", run, "--out", tmp_path / "new")
    assert wrong.exit_code == 2
    assert "where are the hands?" in wrong.stderr


def test_arrays_that_grow_on_disk_are_those_that_were_added(tmp_path):
    spool = ArraySpool({"x": ("f4", (2, 3)), "name": ("U5", ())}, tmp_path)
    parts = [np.arange(6 * n).reshape(n, 2, 3) + n for n in (2, 0, 3)]
    for part in parts:
        spool.add(x=part, name=["left"] * len(part))
    with pytest.raises(ValueError, match=r"^x: shape \(1, 2\), expected \(1, 2, 3\)"):
        spool.add(x=np.zeros((1, 2)), name=["left"])
    with pytest.raises(ValueError, match=r"^columns \['x'\] given, \['name', 'x'\] needed"):
        spool.add(x=np.zeros((1, 2, 3)))
    spool.write(tmp_path / "all.npz", extra=np.array(["a"]))
    spool.close()
    with np.load(tmp_path / "all.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["x"], np.concatenate(parts).astype(np.float32))
        assert arrays["name"].tolist() == ["left"] * 5
        assert arrays["extra"].tolist() == ["a"]
    assert [file.name for file in tmp_path.iterdir()] == ["all.npz"]
