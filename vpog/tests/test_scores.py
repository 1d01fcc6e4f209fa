"""Estimates in, report out: pictures with true poses of a box (object 5) and of a can (object 12)."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from vpog.data.records import ImageRecord, InstanceRecord, InstanceTable
from vpog.data.rle import Rle
from vpog.data.targets import Target
from vpog.estimates import Estimate
from vpog.metrics import EvaluationModel, mean_over_datasets, report_to_markdown, score_estimates, write_report
from vpog.metrics.vsd_scenes import mesh_depths
from vpog.objects.mesh import Mesh
from vpog.objects.models_info import ContinuousSymmetry, ModelInfo, symmetry_transforms
from vpog.objects.rendering import render_scene

BOX, CAN = 5, 12
K = np.array([[190.0, 0, 80], [0, 190, 60], [0, 0, 1]])
SIZE = (120, 160)


def mesh_of(shape):
    return Mesh(shape.vertices.astype(np.float32), shape.faces.astype(np.int64))


MESHES = {
    BOX: mesh_of(trimesh.creation.box((80, 60, 40))),
    CAN: mesh_of(trimesh.creation.cylinder(30, 90, sections=40)),
}
NO_DISCRETE = np.empty((0, 4, 4))
ABOUT_Z = (ContinuousSymmetry(np.array([0.0, 0, 1]), np.zeros(3)),)
INFOS = {
    BOX: ModelInfo(107.7, np.array([-40.0, -30, -20]), np.array([80.0, 60, 40])),
    CAN: ModelInfo(108.2, np.array([-30.0, -30, -45]), np.array([60.0, 60, 90]), NO_DISCRETE, ABOUT_Z),
}
MODELS = {
    obj_id: EvaluationModel(mesh.vertices_mm, INFOS[obj_id].diameter_mm, symmetry_transforms(INFOS[obj_id], 0.1))
    for obj_id, mesh in MESHES.items()
}


class Pictures:
    """Records in memory, as an ImageSource."""

    dataset = "toy"

    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    @property
    def instances(self):
        rows = [
            (i, x.gt_index, r.scene_id, r.image_id, x.obj_id) for i, r in enumerate(self.records) for x in r.instances
        ]
        visible = [x.visib_fract for r in self.records for x in r.instances]
        columns = np.array(rows, np.int64).T
        return InstanceTable(*columns, np.array(visible, np.float32), np.full(len(rows), 50, np.float32))

    def read(self, index, *, depth=True):
        return self.records[index] if depth else replace(self.records[index], depth_mm=None)

    def where(self, index):
        return f"toy picture {index}"


def pose(seed, x=0.0):
    out = np.eye(4)
    out[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    out[:3, 3] = x, 10 * np.sin(seed), 600 + 10 * seed
    return out


def picture(image_id, objects, visible=None):
    poses = np.stack([pose(7 * image_id + j, 130.0 * (j - 1)) for j in range(len(objects))])
    scene = render_scene([MESHES[obj_id] for obj_id in objects], poses, K, SIZE)
    instances = tuple(
        InstanceRecord(
            j,
            o,
            poses[j],
            1.0 if visible is None else visible[j],
            np.zeros(4),
            np.zeros(4),
            Rle.of(scene.instance_ids == j),
        )
        for j, o in enumerate(objects)
    )
    return ImageRecord("toy", 3, image_id, scene.rgb, scene.depth_mm, K, instances)


@pytest.fixture(scope="module")
def pictures():
    return Pictures([picture(10, (BOX, CAN, CAN)), picture(11, (CAN, BOX)), picture(14, (CAN,))])


def perfect(pictures, time_s=0.5):
    return [
        Estimate(r.scene_id, r.image_id, x.obj_id, 0.9, x.cam_from_obj_mm, time_s)
        for r in pictures.records
        for x in r.instances
    ]


def moved(estimate, mm, degrees=0.0):
    out = estimate.cam_from_obj_mm.copy()
    out[:3, :3] = out[:3, :3] @ Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    out[2, 3] += mm
    return replace(estimate, cam_from_obj_mm=out)


def test_true_poses_score_1_in_everything(pictures):
    report = score_estimates(perfect(pictures), pictures, MODELS, render_depth=mesh_depths(MESHES))
    names = ["ar", "ar_vsd", "ar_mssd", "ar_mspd", "ap", "add_recall", "add_or_s_recall", "answered"]
    assert {name: report.overall[name] for name in names} == dict.fromkeys(names, pytest.approx(1))
    # the can's copies turned by its symmetry have the same add
    assert report.overall["median_translation_mm"] == 0
    assert report.overall["seconds_per_image"] == 0.5
    assert set(report.per_object) == {BOX, CAN}
    assert report.per_object[CAN]["targets"] == 4


def test_a_can_turned_about_its_axis_is_right_and_a_box_is_not(pictures):
    turned = [moved(e, 0, 77.0) for e in perfect(pictures)]
    report = score_estimates(turned, pictures, MODELS, render_depth=mesh_depths(MESHES))
    can, box = report.per_object[CAN], report.per_object[BOX]
    assert can["ar"] == pytest.approx(1, abs=0.02)  # symmetries are 0.1 rad apart
    assert can["median_rotation_deg"] == pytest.approx(77, abs=1e-6)
    assert can["median_symmetric_rotation_deg"] < 3
    assert can["add_or_s_recall"] == 1
    assert box["ar"] < 0.4
    assert box["add_or_s_recall"] == 0


def test_recall_falls_at_the_thresholds_of_the_error(pictures):
    # 16.16 mm of 107.7 and 108.2 mm: above 0.05 and 0.10, just above 0.15 for the box (16.155), just below it for the can
    report = score_estimates([moved(e, 16.16) for e in perfect(pictures)], pictures, MODELS)
    assert report.per_object[BOX]["ar_mssd"] == pytest.approx(0.7)
    assert report.per_object[CAN]["ar_mssd"] == pytest.approx(0.8)
    assert "ar" not in report.overall
    assert "ar_vsd" not in report.overall
    assert report.overall["ar_mssd_mspd"] == pytest.approx((report.overall["ar_mssd"] + report.overall["ar_mspd"]) / 2)


def test_vsd_in_the_objects_window_is_vsd_of_the_whole_picture(pictures):
    estimates = [moved(e, 9.0, 5.0) for e in perfect(pictures)]
    inside = score_estimates(estimates, pictures, MODELS, render_depth=mesh_depths(MESHES))

    def whole(obj_id, poses, shifted, size):
        full = mesh_depths(MESHES)(obj_id, poses, np.tile(K, (len(poses), 1, 1)), SIZE)
        left, top = (K - shifted[0])[:2, 2].round().astype(int)
        assert (full > 0).sum() == (full[:, top : top + size[0], left : left + size[1]] > 0).sum()
        return full[:, top : top + size[0], left : left + size[1]]

    outside = score_estimates(estimates, pictures, MODELS, render_depth=whole)
    np.testing.assert_array_equal(inside.targets.recall_vsd, outside.targets.recall_vsd)
    assert 0 < inside.overall["ar_vsd"] < 1


def test_surplus_estimates_lower_precision_but_not_recall(pictures):
    right = perfect(pictures)
    wrong = [replace(moved(e, 300.0), score=0.1) for e in right]
    sure_and_wrong = [replace(e, score=1.0) for e in wrong]
    base = score_estimates(right, pictures, MODELS).overall
    after = score_estimates(right + wrong, pictures, MODELS).overall
    assert after["ar_mssd"] == base["ar_mssd"] == pytest.approx(1)
    assert after["ap_mssd"] == pytest.approx(1)  # less sure than all right ones
    before = score_estimates(right + sure_and_wrong, pictures, MODELS).overall
    assert before["ar_mssd"] == 0  # as many as there are targets are looked at, the surest
    assert before["ap_mssd"] == pytest.approx(0.5)


def test_an_object_seen_too_little_need_not_be_found_and_finding_it_costs_nothing():
    pictures = Pictures([picture(1, (BOX, CAN), visible=(1.0, 0.05))])
    everything = perfect(pictures)
    report = score_estimates(everything, pictures, MODELS)
    assert len(report.targets) == 1
    assert report.overall["ap"] == pytest.approx(1)
    twice = Pictures([picture(1, (CAN, CAN), visible=(0.05, 1.0))])
    hidden_surer = [replace(e, score=1.0 - 0.1 * i) for i, e in enumerate(perfect(twice))]
    assert score_estimates(hidden_surer, twice, MODELS).overall["ap_mssd"] == pytest.approx(1)


def test_targets_ask_for_the_most_visible_instances():
    pictures = Pictures([picture(1, (CAN, CAN), visible=(0.4, 0.8))])
    report = score_estimates(perfect(pictures)[1:], pictures, MODELS, targets=[Target(3, 1, CAN, 1)])
    assert report.targets.gt_index.tolist() == [1]
    assert report.overall["ar_mssd"] == 1
    assert [(low, high) for low, high, _ in report.per_visibility] == [(0.7, 0.9)]


def test_what_nobody_answered_counts_as_missed(pictures):
    report = score_estimates(perfect(pictures)[:3], pictures, MODELS)
    for name in ("answered", "ar_mssd", "add_or_s_auc"):
        assert report.overall[name] == pytest.approx(0.5), name
    assert report.targets.estimate.tolist().count(-1) == 3
    assert report.targets.estimate[report.worst(3)].tolist() == [-1, -1, -1]
    none = score_estimates([], pictures, MODELS)
    assert none.overall["ar_mspd"] == none.overall["ap"] == 0
    assert "seconds_per_image" not in none.overall


def test_a_report_is_written_as_json_markdown_and_csv(pictures, tmp_path):
    report = score_estimates(perfect(pictures)[:3], pictures, MODELS, render_depth=mesh_depths(MESHES))
    write_report(report, tmp_path)
    numbers = json.loads((tmp_path / "metrics.json").read_text())
    assert numbers["overall"]["ar"] == 0.5
    assert list(numbers["per_object"]) == ["5", "12"]
    with (tmp_path / "targets.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["estimate"] for row in rows] == ["0", "1", "2", "-1", "-1", "-1"]
    assert rows[3]["mssd_mm"] == "inf"
    assert rows[3]["score"] == ""
    assert "| 12 | 4 | 50.0 |" in report_to_markdown(report)
    assert (tmp_path / "report.md").read_text() == report_to_markdown(report)
    with (tmp_path / "visibility.csv").open() as file:
        assert [row["visible_from"] for row in csv.DictReader(file)] == ["0.9"]


def test_the_final_score_is_the_mean_over_data_sets(pictures):
    a, b = (score_estimates(perfect(pictures)[:count], pictures, MODELS) for count in (6, 3))
    means = mean_over_datasets([a, b])
    assert means["ar_mssd"] == 0.75
    assert "median_translation_mm" not in means


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": [Target(3, 99, BOX, 1)]}, "toy: targets name scene 3, image 99, which has no objects in the data"),
        (
            {"targets": [Target(3, 14, CAN, 2)]},
            "toy: targets ask for 2 of object 12 in scene 3, image 14, which has 1",
        ),
        ({"targets": []}, "toy: there are no targets, so there is nothing to evaluate"),
        ({"models": {BOX: MODELS[BOX]}}, "toy: targets ask for objects [12], which have no model (models: 5)"),
    ],
)
def test_wrong_targets_are_told(pictures, change, message):
    models = change.pop("models", MODELS)
    with pytest.raises(InputError) as caught:
        score_estimates([], pictures, models, **change)
    assert str(caught.value) == message


def test_wrong_estimates_are_told(pictures):
    good = perfect(pictures)
    with pytest.raises(InputError, match=r"scene 3, image 10: its estimates tell times 0\.5 s and 0\.7 s"):
        score_estimates([*good, replace(good[0], time_s=0.7)], pictures, MODELS)
    with pytest.raises(InputError, match="scene 3, image 10, object 5: its score is not finite"):
        score_estimates([replace(good[0], score=float("nan"))], pictures, MODELS)
    without_depth = Pictures([replace(record, depth_mm=None) for record in pictures.records])
    with pytest.raises(InputError, match="toy picture 0: has no depth, so VSD cannot be computed"):
        score_estimates(good, without_depth, MODELS, render_depth=mesh_depths(MESHES))
