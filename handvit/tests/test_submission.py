"""Benchmarks' files: what is written is read back and scored as officially; what is wrong is told."""

import json
import sys
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from handvit.joints import CANONICAL_TO_HO3D
from handvit.metrics import Frames, frames_of, measure, summarise
from handvit.posing import pose_hands
from handvit.submission import (
    Hands,
    arranged,
    read_dexycb,
    read_freihand,
    read_ho3d,
    read_order,
    read_predictions,
    score_dexycb,
    score_freihand,
    score_ho3d,
    score_submission,
    write_dexycb,
    write_freihand,
    write_ho3d,
    write_predictions,
    write_submission,
)
from handvit.submission.scores import joint_scores, procrustes_aligned, scaled_at_wrist
from posecore.errors import InputError

sys.path.append(str(Path(__file__).parent))
from hand_scenes import PATCH, make_batch, perturbed, standin, true_prediction

OFFICIAL = {"rtol": 0.0, "atol": 1e-6}
MICROMETRE = {"rtol": 0.0, "atol": 6e-4}


def some_hands(n=4, seed=0):
    rng = np.random.default_rng(seed)
    place = np.array([0.0, 0.0, 700.0])
    return Hands(place + rng.uniform(-80, 80, (n, 21, 3)), place + rng.uniform(-80, 80, (n, 778, 3)))


@pytest.fixture
def frames():
    """Eight frames, predicted with an error."""
    import torch

    hand = standin()
    batch = make_batch(hand, b=8, t=1)
    batch = replace(batch, patches=torch.zeros(8, 1, 3, PATCH, PATCH))
    posed = pose_hands(hand, perturbed(true_prediction(batch))[0], norm_by_hand=False, with_vertices=True)
    return frames_of(batch, posed, hand)


@pytest.fixture(scope="module")
def official(reference):
    return reference("metrics_joints")


def test_freihand_comes_back_as_it_was_written(tmp_path):
    hands = some_hands()
    write_freihand(tmp_path / "pred.json", hands, count=4)
    stored = json.loads((tmp_path / "pred.json").read_text())
    assert np.shape(stored[0]) == (4, 21, 3)
    assert np.shape(stored[1]) == (4, 778, 3)
    np.testing.assert_allclose(np.array(stored[0])[2, 5], hands.joints_mm[2, 5] / 1000, atol=1e-6)
    back = read_freihand(tmp_path / "pred.json", count=4)
    np.testing.assert_allclose(back.joints_mm, hands.joints_mm, **MICROMETRE)
    np.testing.assert_allclose(back.vertices_mm, hands.vertices_mm, **MICROMETRE)
    assert [file.name for file in tmp_path.iterdir()] == ["pred.json"]


def test_ho3d_is_written_in_its_own_axes_joint_order_and_sample_order(tmp_path):
    hands, ids = some_hands(), ["SM1/0003", "AP10/0000", "SM1/0001", "XX/0000"]
    order = ["AP10/0000", "SM1/0001", "SM1/0003"]
    write_ho3d(tmp_path / "pred.zip", hands, ids, order)
    with zipfile.ZipFile(tmp_path / "pred.zip") as archive:
        assert archive.namelist() == ["pred.json"]
        joints, vertices = json.loads(archive.read("pred.json"))
    x, y, z = hands.joints_mm[1, 9] / 1000  # the middle finger's base is HO3D's fourth joint
    np.testing.assert_allclose(joints[0][4], [x, -y, -z], atol=1e-6)
    assert np.array(vertices)[..., 2].max() < 0
    back = read_ho3d(tmp_path / "pred.zip", count=3)
    np.testing.assert_allclose(back.joints_mm, hands.joints_mm[[1, 2, 0]], **MICROMETRE)
    np.testing.assert_allclose(back.vertices_mm, hands.vertices_mm[[1, 2, 0]], **MICROMETRE)


def test_dexycb_lines_are_id_and_63_millimetres_by_id(tmp_path):
    hands = some_hands()
    write_dexycb(tmp_path / "d.txt", hands, [12, 3, 7, 5])
    lines = (tmp_path / "d.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["3", "5", "7", "12"]
    assert all(len(line.split(",")) == 64 for line in lines)
    ids, back = read_dexycb(tmp_path / "d.txt", count=4)
    assert ids.tolist() == [3, 5, 7, 12]
    np.testing.assert_allclose(back.joints_mm, hands.joints_mm[[1, 3, 2, 0]], rtol=0, atol=1e-4)


def test_scores_of_joints_are_the_official_ones(official):
    pred, truth = (Hands(1000 * official[name]) for name in ("pred_joints", "gt_joints"))
    frei, ho3d, dexycb = score_freihand(pred, truth), score_ho3d(pred, truth), score_dexycb(pred, truth)
    for scores in (frei, ho3d):
        np.testing.assert_allclose(scores["xyz_mean_mm"] / 1000, official["joint_mean"], **OFFICIAL)
        np.testing.assert_allclose(scores["xyz_auc"], official["joint_auc"], **OFFICIAL)
        np.testing.assert_allclose(scores["xyz_al_mean_mm"] / 1000, official["joint_pa_mean"], **OFFICIAL)
        np.testing.assert_allclose(scores["xyz_al_auc"], official["joint_pa_auc"], **OFFICIAL)
    np.testing.assert_allclose(dexycb["absolute_mean_mm"] / 1000, official["joint_mean"], **OFFICIAL)
    np.testing.assert_allclose(dexycb["root_relative_mean_mm"], official["dexycb_rr_mean_mm"], **OFFICIAL)
    np.testing.assert_allclose(dexycb["root_relative_auc"], official["dexycb_rr_auc"], **OFFICIAL)
    np.testing.assert_allclose(dexycb["procrustes_mean_mm"] / 1000, official["joint_pa_mean"], **OFFICIAL)


def test_ho3d_scales_by_the_bone_from_the_wrist_to_joint_4_of_its_own_order(official):
    pred, truth = official["pred_joints"], official["gt_joints"]
    aligned = scaled_at_wrist(pred, truth, bone=(0, 4))  # the vectors' joints are in HO3D's order
    np.testing.assert_allclose(aligned, official["joints_sctr_ho3d"], **OFFICIAL)
    scores = joint_scores("sc", 1000 * aligned, 1000 * truth)
    np.testing.assert_allclose(scores["sc_mean_mm"] / 1000, official["joint_sctr_mean"], **OFFICIAL)
    np.testing.assert_allclose(scores["sc_auc"], official["joint_sctr_auc"], **OFFICIAL)
    back = np.argsort(CANONICAL_TO_HO3D)
    as_ours = score_ho3d(Hands(1000 * pred[:, back]), Hands(1000 * truth[:, back]))
    np.testing.assert_allclose(as_ours["xyz_sc_mean_mm"] / 1000, official["joint_sctr_mean"], **OFFICIAL)


def test_scores_of_meshes_are_the_official_ones(reference):
    full = reference("metrics")
    pred, truth = (
        Hands(1000 * full[f"{n}_joints"], 1000 * full[f"{n}_verts"].astype(np.float64)) for n in ("pred", "gt")
    )
    scores = score_freihand(pred, truth)
    np.testing.assert_allclose(scores["mesh_mean_mm"] / 1000, full["vert_mean"], **OFFICIAL)
    np.testing.assert_allclose(scores["mesh_al_mean_mm"] / 1000, full["vert_pa_mean"], **OFFICIAL)
    np.testing.assert_allclose(scores["mesh_auc"], full["vert_auc"], **OFFICIAL)
    np.testing.assert_allclose([scores["f@5"], scores["f@15"]], full["fscore_5_15"][..., 0].mean(0), **OFFICIAL)
    np.testing.assert_allclose(
        [scores["f_al@5"], scores["f_al@15"]], full["fscore_pa_5_15"][..., 0].mean(0), **OFFICIAL
    )
    aligned = procrustes_aligned(full["pred_joints"], full["gt_joints"])
    np.testing.assert_allclose(aligned, full["joints_pa_freihand"], **OFFICIAL)


def truth_folder(folder, hands, axes, order):
    """Truth as FreiHAND and HO3D publish it."""
    folder.mkdir()
    (folder / "evaluation_xyz.json").write_text(json.dumps((hands.joints_mm[:, order] * axes / 1000).tolist()))
    (folder / "evaluation_verts.json").write_text(json.dumps((hands.vertices_mm * axes / 1000).tolist()))
    return folder


def test_files_are_scored_like_the_hands_in_them(tmp_path):
    pred, truth = some_hands(seed=1), some_hands(seed=2)
    write_freihand(tmp_path / "f.json", pred, count=None)
    plain = truth_folder(tmp_path / "freihand", truth, np.ones(3), list(range(21)))
    expected = score_freihand(pred, truth)
    found = score_submission("freihand", tmp_path / "f.json", plain)
    assert found.keys() == expected.keys()
    close = {"rtol": 1e-4, "atol": 1e-4}  # rounded to the micrometre: a point may pass a threshold
    np.testing.assert_allclose([*found.values()], [*expected.values()], **close)
    ids = ["a/0", "a/1", "a/2", "a/3"]
    write_ho3d(tmp_path / "h.zip", pred, ids, ids)
    turned = truth_folder(tmp_path / "ho3d", truth, np.array([1.0, -1, -1]), list(CANONICAL_TO_HO3D))
    found = score_submission("ho3d", tmp_path / "h.zip", turned)
    np.testing.assert_allclose([*found.values()], [*score_ho3d(pred, truth).values()], **close)
    for name, hands in (("p.txt", pred), ("t.txt", truth)):
        write_dexycb(tmp_path / name, hands, [4, 2, 9, 1])
    found = score_submission("dexycb", tmp_path / "p.txt", tmp_path / "t.txt")
    np.testing.assert_allclose([*found.values()], [*score_dexycb(pred, truth).values()], **close)
    write_dexycb(tmp_path / "other.txt", truth, [4, 2, 9, 8])
    with pytest.raises(InputError, match="2 ids are not in both"):
        score_submission("dexycb", tmp_path / "p.txt", tmp_path / "other.txt")


def named(frames, images):
    return replace(frames, image=tuple(images))


def test_the_frames_of_an_evaluation_become_each_benchmarks_file(frames, tmp_path):
    mixed = [3, 0, 7, 5, 1, 2, 6, 4]
    (tmp_path / "names.txt").write_text("".join(f"{i:08d}\n" for i in range(8)))
    frei = named(frames, [f"FreiHAND/evaluation/rgb/{i:08d}.jpg" for i in mixed])
    back = read_freihand(write_submission("freihand", tmp_path, frei, tmp_path / "names.txt"), count=8)
    np.testing.assert_allclose(back.joints_mm, frames.joint_cam_mm[np.argsort(mixed)], rtol=0, atol=1e-3)

    (tmp_path / "evaluation.txt").write_text("".join(f"SM1/{i:04d}\n" for i in range(8)))
    ho3d = named(frames, [f"HO3D_v3/evaluation/SM1/rgb/{i:04d}.jpg" for i in mixed])
    back = read_ho3d(write_submission("ho3d", tmp_path, ho3d, tmp_path / "evaluation.txt"))
    np.testing.assert_allclose(back.vertices_mm, frames.vertices_mm[np.argsort(mixed)], rtol=0, atol=1e-3)

    dexycb = replace(frames, source_index=tuple(json.dumps({"id": 10 * i, "frame": 0}) for i in mixed))
    ids, back = read_dexycb(write_submission("dexycb", tmp_path, dexycb))
    assert ids.tolist() == [10 * i for i in range(8)]
    np.testing.assert_allclose(back.joints_mm, frames.joint_cam_mm[np.argsort(mixed)], rtol=0, atol=1e-3)


def test_frames_that_do_not_make_a_submission_are_told(frames, tmp_path):
    order = tmp_path / "evaluation.txt"
    order.write_text("SM1/0000\nSM1/0001\n")
    cases = [
        ("freihand", frames, None, "8 frames do not tell their picture"),
        (
            "freihand",
            named(frames, [f"F/rgb/{i:08d}.jpg" for i in range(8)]),
            None,
            "3952 of 3960 samples were not predicted",
        ),
        ("ho3d", named(frames, ["HO3D_v3/evaluation/SM1/rgb/0000.jpg"] * 8), order, "SM1/0001"),
        (
            "ho3d",
            named(frames, ["HO3D_v3/evaluation/SM1/rgb/0000.jpg"] * 8),
            order,
            "1 samples were predicted more than once, the first is SM1/0000",
        ),
        ("ho3d", named(frames, ["x.jpg"] * 8), order, "x.jpg: not a picture of HO3D"),
        ("ho3d", frames, None, "evaluation.txt is needed"),
        ("dexycb", frames, None, "source_index has no id"),
        ("none", frames, None, "name a benchmark"),
        ("ho3d", named(frames, ["H/SM1/rgb/0000.jpg"] * 8), tmp_path / "absent.txt", "no such file"),
    ]
    for benchmark, given, file, told in cases:
        with pytest.raises(InputError, match=told):
            write_submission(benchmark, tmp_path, given, file)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["evaluation.txt"]


def test_an_order_names_missing_and_repeated_samples():
    assert arranged(["b", "a", "x"], ["a", "b"], "here") == [1, 0]
    with pytest.raises(InputError) as told:
        arranged(["a", "a", "b"], ["a", "b", "c"], "here")
    assert told.value.problems == (
        "here: 1 of 3 samples were not predicted, the first is c",
        "here: 1 samples were predicted more than once, the first is a",
    )


def test_an_order_file_has_a_sequence_and_an_id_on_each_line(tmp_path):
    file = tmp_path / "evaluation.txt"
    file.write_text("AP10/0000\n\nAP10/0001\n")
    assert read_order(file) == ["AP10/0000", "AP10/0001"]
    file.write_text("AP10/0000\nAP10\n")
    with pytest.raises(InputError, match=r"evaluation.txt:2: 'AP10', expected SEQUENCE/ID"):
        read_order(file)


def changed(hands, **at):
    joints = hands.joints_mm.copy()
    joints[2] = at.get("value", joints[2])
    return Hands(joints * at.get("factor", 1.0), hands.vertices_mm * at.get("factor", 1.0))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"value": np.nan}, "1 hands have values that are not finite, the first is number 2"),
        ({"factor": 1000.0}, "that looks like millimetres"),
        ({"factor": -1.0}, "4 hands have points without z .*; are they in"),
        ({"value": np.array([0.0, 0.0, -5.0])}, "1 hands have points without z .* the first is number 2$"),
    ],
)
def test_hands_that_no_benchmark_takes_are_not_written(tmp_path, change, told):
    wrong = changed(some_hands(), **change)
    with pytest.raises(InputError, match=told):
        write_freihand(tmp_path / "pred.json", wrong, count=4)
    with pytest.raises(InputError, match=told):
        write_ho3d(tmp_path / "pred.zip", wrong, list("abcd"), list("abcd"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[", "not valid JSON"),
        ("[[]]", r"a list of two is needed"),
        ("[[], []]", "joints: a list of hands is needed"),
        (
            json.dumps([[[[0, 0, 1]] * 20], [[[0, 0, 1]] * 778]]),
            r"joints: hand 0 has shape \(20, 3\), expected \(21, 3\)",
        ),
        (json.dumps([[[[0, 0, 1]] * 21, [[0, 0]]], [[[0, 0, 1]] * 778] * 2]), r"joints: hand 1 has shape \(1, 2\)"),
        (json.dumps([[[[0, 0, 1]] * 21], [[[0, 0, 1]] * 778] * 2]), "joints of 1 hands and vertices of 2"),
        (json.dumps([[[[0, 0, 1]] * 21], [[[0, 0, 1]] * 778]]), "1 hands, the benchmark has 3960"),
        (json.dumps([[[[0, 0, -1]] * 21] * 2, [[[0, 0, -1]] * 778] * 2]), "OpenGL's frame"),
        (json.dumps([[[[0, 0, 700]] * 21] * 2, [[[0, 0, 700]] * 778] * 2]), "looks like millimetres"),
        (json.dumps([[[[0, 0, "x"]] * 21] * 2, [[[0, 0, 1]] * 778] * 2]), "joints: hand 0 "),
    ],
)
def test_a_wrong_freihand_file_is_told(tmp_path, content, told):
    file = tmp_path / "pred.json"
    file.write_text(content)
    count = 3960 if "benchmark has" in told else None
    with pytest.raises(InputError, match=told) as error:
        read_freihand(file, count)
    assert str(file) in str(error.value)


def test_a_wrong_ho3d_file_is_told(tmp_path):
    file = tmp_path / "pred.zip"
    with pytest.raises(InputError, match="no such file"):
        read_ho3d(file)
    file.write_text("no zip")
    with pytest.raises(InputError, match="not a zip"):
        read_ho3d(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("other.json", "[]")
    with pytest.raises(InputError, match=r"holds no pred.json, but other.json"):
        read_ho3d(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("pred.json", json.dumps([[[[0, 0, 1]] * 21] * 2, [[[0, 0, 1]] * 778] * 2]))
    with pytest.raises(InputError, match="OpenCV's frame"):
        read_ho3d(file)
    with pytest.raises(InputError, match=r"ends in .zip"):
        write_ho3d(tmp_path / "pred.json", some_hands(), list("abcd"), list("abcd"))


def test_a_wrong_dexycb_file_is_told(tmp_path):
    file = tmp_path / "d.txt"
    good = ",".join(["700"] * 63)
    for content, told in [
        (f"1,{good}\n2,1,2\n", r"d.txt:2: 3 values, expected an id and 63 numbers"),
        (f"x,{good}\n", r"d.txt:1: invalid literal"),
        (f"1,{good}\n1,{good}\n", r"d.txt:2: id 1 was there before"),
        ("1," + ",".join(["0.7"] * 63), "looks like metres"),
        ("1," + ",".join(["nan"] * 63), "not finite"),
        ("1," + ",".join(["-700"] * 63), "behind the camera"),
        ("", "holds no hands"),
    ]:
        file.write_text(content)
        with pytest.raises(InputError, match=told):
            read_dexycb(file)
    with pytest.raises(InputError, match="one each is needed"):
        write_dexycb(file, some_hands(), [1, 1, 2, 3])


def test_hands_without_a_mesh_make_no_freihand_file_and_unequal_numbers_no_score(tmp_path):
    hands = some_hands()
    with pytest.raises(InputError, match="takes vertices too"):
        write_freihand(tmp_path / "pred.json", Hands(hands.joints_mm), count=4)
    for score in (score_freihand, score_ho3d, score_dexycb):
        with pytest.raises(InputError, match="3 predicted hands, 4 true ones"):
            score(some_hands(3), hands)


def test_metrics_from_a_file_are_the_direct_ones(frames, tmp_path):
    facts = {"checkpoint": "runs/a", "seconds": 1.5, "hand": "stand-in"}
    write_predictions(tmp_path / "p.h5", frames, facts)
    back, told = read_predictions(tmp_path / "p.h5")
    for field in fields(Frames):
        np.testing.assert_array_equal(getattr(back, field.name), getattr(frames, field.name))
    assert told == facts
    assert summarise(measure(back)) == summarise(measure(frames))
    with h5py.File(tmp_path / "p.h5") as file:
        assert file["metadata"].attrs["unit"] == "mm"
        assert file["samples/joint_cam_mm"].shape == (8, 21, 3)


def test_frames_without_a_mesh_are_kept_too(frames, tmp_path):
    bare = replace(frames, vertices_mm=None, true_vertices_mm=None)
    write_predictions(tmp_path / "p.h5", bare, {})
    back, _ = read_predictions(tmp_path / "p.h5")
    assert back.vertices_mm is None
    assert summarise(measure(back)) == summarise(measure(bare))


def some(frames, span):
    return Frames(**{f.name: getattr(frames, f.name)[span] for f in fields(Frames)})


def test_the_parts_of_an_evaluation_make_the_whole(frames, tmp_path):
    parts = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for path, span in zip(parts, (slice(0, 5), slice(5, 8)), strict=True):
        write_predictions(path, some(frames, span), {"checkpoint": "x", "seconds": 1.0})
    whole, facts = read_predictions(parts)
    assert whole.key == frames.key
    assert facts["seconds"] == 2.0
    assert summarise(measure(whole)) == summarise(measure(frames))


def test_parts_that_overlap_or_are_of_different_evaluations_are_refused(frames, tmp_path):
    a, b, c = (tmp_path / f"{name}.h5" for name in "abc")
    write_predictions(a, some(frames, slice(0, 5)), {"checkpoint": "x"})
    write_predictions(b, some(frames, slice(4, 8)), {"checkpoint": "x"})
    write_predictions(c, some(frames, slice(5, 8)), {"checkpoint": "y"})
    with pytest.raises(InputError, match=r"b.h5: 1 frames are in .*a.h5 too, one of clip shard.tar: clip4\[0\]"):
        read_predictions([a, b])
    with pytest.raises(InputError, match=r"c.h5: checkpoint is 'y', but 'x' in"):
        read_predictions([a, c])
    with pytest.raises(InputError, match="no files"):
        read_predictions([])


def damage(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda file: file.__delitem__("samples/joint_cam_mm"), "samples/joint_cam_mm: no such dataset"),
        (lambda file: file["metadata"].attrs.__setitem__("format", 9), "metadata/format is 9, expected 1"),
        (
            lambda file: file["samples/joint_cam_mm"].__setitem__((3, 0, 0), np.nan),
            "joint_cam_mm: 1 values are not finite, .* 3",
        ),
        (lambda file: file.__delitem__("samples/true_vertices_mm"), "both or none"),
        (lambda file: file["samples/is_left"].resize(7, axis=0), "samples/is_left: 7 rows, samples/key has 8"),
        (lambda file: file["metadata"].attrs.__setitem__("facts", "["), "metadata/facts: not valid JSON"),
    ],
)
def test_a_damaged_file_of_predictions_is_told(frames, tmp_path, change, told):
    path = tmp_path / "p.h5"
    write_predictions(path, frames, {})
    damage(path, change)
    with pytest.raises(InputError, match=told):
        read_predictions(path)
