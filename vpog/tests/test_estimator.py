"""The pose estimator: laws that hold for any network, and answers where matches are right."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from posecore.errors import InputError
from vpog.data.boxes import box_of_bop
from vpog.data.crop import crop_depth, crop_mask, crop_matrix
from vpog.data.groups import scaled_box
from vpog.data.opening import open_dataset
from vpog.inference.hypotheses import place_among_own
from vpog.inference.objects import neighbours, view_groups
from vpog.inference.ranking import distinct_poses
from vpog.labels.flow_labels import flow_labels
from vpog.labels.rules import LabelRules
from vpog.layout import dataset_of_folder
from vpog.model.prediction import DenseMatches
from vpog.objects.models_info import symmetry_transforms
from vpog.pose_estimator import Detection, Pose, PoseEstimator
from vpog.views import direction_of, rotations_about_axis


@pytest.fixture(scope="module")
def dataset(data):
    return open_dataset(dataset_of_folder(data / "synth" / "val"), 64, 64)


@pytest.fixture(scope="module")
def scenes(dataset):
    """Pictures, intrinsics, and true detections with their poses."""
    records = [dataset.images.read(index) for index in range(len(dataset.images))]
    asked = [
        (Detection(i.obj_id, place, box_of_bop(i.bbox_visib_xywh), i.mask_visib.decode()), i.cam_from_obj_mm)
        for place, record in enumerate(records)
        for i in record.instances
    ]
    return [r.rgb for r in records], [r.K for r in records], [a for a, _ in asked], [pose for _, pose in asked]


@pytest.fixture
def known(run, dataset):
    """`known("a", ...)`: an estimator of the small run with all objects, in the order given."""

    def make(obj_ids=None, **changes):
        estimator = PoseEstimator.load(run, "cpu")
        estimator.inference = estimator.inference.model_copy(update={"hypotheses": 2, **changes})
        for obj_id in obj_ids or dataset.templates.objects:
            estimator.add_templates(dataset.templates.load_all(obj_id), dataset.models[obj_id])
        return estimator

    return make


def assert_same(first, second):
    """Up to what sums of another batch size round to, made larger by solving."""
    assert (first.failure, first.detection.obj_id) == (second.failure, second.detection.obj_id)
    assert [pose.view_id for pose in first.poses] == [pose.view_id for pose in second.poses]
    for mine, other in zip(first.poses, second.poses, strict=True):
        assert mine.score == pytest.approx(other.score, rel=1e-3)
        np.testing.assert_allclose(mine.cam_from_obj_mm[:3, :3], other.cam_from_obj_mm[:3, :3], atol=2e-3)
        np.testing.assert_allclose(mine.cam_from_obj_mm[:3, 3], other.cam_from_obj_mm[:3, 3], rtol=5e-3, atol=0.5)


@pytest.mark.parametrize(("mode", "solver"), [("cluster", "epro"), ("global", "epro"), ("cluster", "ransac")])
def test_an_answer_does_not_depend_on_the_other_detections(mode, solver, known, scenes):
    images, K, detections, _ = scenes
    estimator = known(mode=mode, solver=solver, refinements=1)
    together = estimator.estimate(images, K, detections).results
    assert any(result.poses for result in together)
    for place in (0, len(detections) - 1):
        assert_same(estimator.estimate(images, K, [detections[place]]).results[0], together[place])


def test_the_order_of_detections_of_pictures_and_of_objects_is_irrelevant(known, scenes, dataset):
    images, K, detections, _ = scenes
    forwards = known().estimate(images, K, detections).results
    last = len(images) - 1
    turned = [replace(detection, image=last - detection.image) for detection in reversed(detections)]
    backwards = known(dataset.templates.objects[::-1]).estimate(images[::-1], K[::-1], turned).results
    for mine, other in zip(forwards, reversed(backwards), strict=True):
        assert_same(mine, other)


def test_the_same_call_twice_gives_the_same_bits(known, scenes):
    images, K, detections, _ = scenes
    estimator = known()
    first, second = (estimator.estimate(images, K, detections).results for _ in range(2))
    for mine, other in zip(first, second, strict=True):
        for pose, again in zip(mine.poses, other.poses, strict=True):
            np.testing.assert_array_equal(pose.cam_from_obj_mm, again.cam_from_obj_mm)


def test_poses_are_motions_with_scores_and_covariances(known, scenes):
    images, K, detections, _ = scenes
    answer = known().estimate(images, K, detections)
    poses = [pose for result in answer.results for pose in result.poses]
    assert poses
    for pose in poses:
        rotation = pose.cam_from_obj_mm[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(rotation) == pytest.approx(1, abs=1e-5)
        assert pose.cam_from_obj_mm[2, 3] > 0
        assert 0 <= pose.score <= 1
        assert 0 <= pose.num_inliers <= pose.num_pairs
        assert np.linalg.eigvalsh(pose.covariance).min() >= 0
    for result in answer.results:
        scores = [pose.score for pose in result.poses]
        assert scores == sorted(scores, reverse=True)
    assert answer.seconds.total > 0


def test_a_shift_of_picture_box_and_principal_point_shifts_nothing_else(known, scenes):
    """The crop is all that the network sees, and its intrinsics move with it."""
    images, K, detections, _ = scenes
    detection = detections[0]
    pad = np.pad(images[detection.image], ((7, 0), (12, 0), (0, 0)))
    moved_K = K[detection.image] + np.array([[0, 0, 12.0], [0, 0, 7.0], [0, 0, 0]])
    moved = Detection(
        detection.obj_id, 0, detection.box_xyxy + np.array([12.0, 7, 12, 7]), np.pad(detection.mask, ((7, 0), (12, 0)))
    )
    estimator = known()
    assert_same(
        estimator.estimate([pad], [moved_K], [moved]).results[0], estimator.estimate(images, K, [detection]).results[0]
    )


def test_a_refinement_never_lowers_the_score(known, scenes):
    images, K, detections, _ = scenes
    plain, refined = (known(refinements=rounds).estimate(images, K, detections).results for rounds in (0, 2))
    for before, after in zip(plain, refined, strict=True):
        if before.poses:
            assert after.poses[0].score >= before.poses[0].score - 1e-6


@pytest.mark.parametrize("solver", ["epro", "ransac"])
def test_without_a_match_there_is_a_reason_and_no_pose(solver, known, scenes):
    images, K, detections, _ = scenes
    answer = known(min_probability=1.0, solver=solver).estimate(images, K, detections)
    assert {result.failure for result in answer.results} == {"too few pairs of a point and a pixel"}
    assert not any(result.poses for result in answer.results)


def test_nothing_asked_is_nothing_answered(known, scenes):
    images, K, _, _ = scenes
    assert known().estimate(images, K, []).results == ()


@pytest.fixture
def truthful(known, dataset, scenes, monkeypatch):
    """`truthful(place, **changes)`: an estimator whose network matches the detection as its true pose has it."""
    _, K, detections, poses = scenes

    def make(place, **changes):
        estimator = known(**{"min_probability": 0.3, "point_stride": 4, "hypotheses": 1, **changes})
        detection, network = detections[place], estimator.network
        oracle = Oracle(estimator, dataset, detection, K[detection.image], poses[place])
        really = network.match
        monkeypatch.setattr(network, "match", lambda *inputs: oracle.match(really(*inputs), inputs[1]))
        monkeypatch.setattr(network, "dense", oracle.dense)
        return estimator

    return make


class Oracle:
    """What a network without error says of one detection."""

    def __init__(self, estimator, dataset, detection, K, pose):
        size = estimator.crop_px
        matrix = crop_matrix(scaled_box(detection.box_xyxy, estimator.config.data.crop_scale), size)
        mask = crop_mask(detection.mask, matrix, size)
        depth = np.where(mask, crop_depth(dataset.images.read(detection.image).depth_mm, matrix, size), 0)
        self.known = estimator.objects[detection.obj_id]
        self.rules = LabelRules(patch_size=estimator.network.patch_size)
        self.query = [as_tensor(value)[None] for value in (depth, mask, matrix @ K, pose)]
        self.labels = None

    def match(self, matching, tokens):
        views = (tokens[:, :, None] - self.known.tokens).abs().flatten(3).amax(3).argmin(2).numpy()
        templates = self.known.templates
        self.labels = flow_labels(
            *(value.expand(len(views), *value.shape[1:]) for value in self.query),
            *(as_tensor(v[views]) for v in (templates.depth_mm, templates.K, templates.cam_from_obj_mm)),
            self.rules,
        )
        classes = self.labels.patch_cls.flatten(2)
        unmatched = matching.logits.shape[-1] - 1
        classes = torch.where(classes < 0, unmatched, classes)
        return replace(matching, logits=torch.full_like(matching.logits, -9.0).scatter(-1, classes[..., None], 9.0))

    def dense(self, matching, pairs):
        assert torch.equal(pairs, self.labels.pairs), "the estimator solves the pairs that are matched"
        scale = torch.where(self.labels.dense_visibility, 0.01, 1000.0)
        sample, template, patch, _ = pairs.unbind(-1)
        return DenseMatches(self.labels.dense_flow, scale, self.labels.flows.flatten(2, 3)[sample, template, patch])


def as_tensor(values):
    values = torch.from_numpy(np.ascontiguousarray(values))
    return values if values.dtype == torch.bool else values.float()


def errors(pose: Pose, true, info):
    """Degrees and millimetres to the nearest symmetric copy."""
    copies = true @ symmetry_transforms(info)
    cosine = (np.einsum("nij,ij->n", copies[:, :3, :3], pose.cam_from_obj_mm[:3, :3]) - 1) / 2
    return np.degrees(np.arccos(np.clip(cosine.max(), -1, 1))), np.linalg.norm(
        true[:3, 3] - pose.cam_from_obj_mm[:3, 3]
    )


@pytest.mark.parametrize(
    "changes",
    [{"solver": "ransac"}, {"solver": "epro"}, {"mode": "global", "solver": "epro"}, {"pairs": "centre"}],
    ids=lambda c: " ".join(c.values()),
)
def test_where_matches_are_right_poses_are(changes, truthful, scenes, dataset):
    """Pictures are of 96 px and crops of 64: depth is that of the nearest pixel, whence the tolerances."""
    images, K, detections, poses = scenes
    for place in (0, 2):
        estimator = truthful(place, **changes)
        info = dataset.models[detections[place].obj_id]
        (pose,) = estimator.estimate(images, K, [detections[place]]).results[0].poses
        angle, shift = errors(pose, poses[place], info)
        coarse = 4 if "pairs" in changes else 1
        assert angle < 2 * coarse, (place, angle, shift)
        assert shift < 0.02 * coarse * np.linalg.norm(poses[place][:3, 3]), (place, angle, shift)
        view = dataset.templates.load_all(detections[place].obj_id)
        row = int(np.flatnonzero(view.view_ids == pose.view_id)[0])
        assert direction_of(poses[place]) @ direction_of(view.cam_from_obj_mm[row], "optical_axis") > 0.6


def test_a_true_hint_finds_the_pose_that_looking_everywhere_finds(truthful, scenes, dataset):
    images, K, detections, poses = scenes
    everywhere = truthful(0).estimate(images, K, [detections[0]]).results[0].poses[0]
    hinted = replace(detections[0], hint_mm=poses[0])
    near = truthful(0, mode="subset").estimate(images, K, [hinted]).results[0].poses[0]
    assert errors(near, everywhere.cam_from_obj_mm, dataset.models[detections[0].obj_id])[0] < 2


def test_a_refinement_from_a_wrong_hint_finds_the_pose(truthful, scenes, dataset):
    images, K, detections, poses = scenes
    tilted = poses[0].copy()
    tilted[:3, :3] = tilted[:3, :3] @ rotations_about_axis(np.array([0.6]))[0].T
    hinted = replace(detections[0], hint_mm=tilted)
    answer = truthful(0, mode="subset", refinements=2).estimate(images, K, [hinted]).results[0]
    assert errors(answer.poses[0], poses[0], dataset.models[detections[0].obj_id])[0] < 2


def turned(pose, degrees):
    out = pose.copy()
    out[:3, :3] = pose[:3, :3] @ rotations_about_axis(np.array([np.radians(degrees)]))[0]
    return out


def test_hypotheses_that_a_symmetry_maps_onto_each_other_are_one():
    pose = np.eye(4)
    pose[2, 3] = 500
    poses = np.stack([turned(pose, angle) for angle in (0.0, 180.0, 90.0, 4.0)])
    scores = np.array([0.5, 0.9, 0.4, 0.3])
    none = np.eye(4)[None]
    half = np.stack([np.eye(4), turned(np.eye(4), 180)])
    assert distinct_poses(poses, scores, 9, none, 10.0, 10.0) == [1, 0, 2]
    assert distinct_poses(poses, scores, 9, half, 10.0, 10.0) == [1, 2]
    assert distinct_poses(poses, scores, 1, none, 10.0, 10.0) == [1]
    moved = poses.copy()
    moved[3, :3, 3] += [0, 0, 50]
    assert distinct_poses(moved, scores, 9, none, 10.0, 10.0) == [1, 0, 2, 3], "near in angle, far in place"


def test_seeds_of_a_query_count_its_own_problems_alone():
    assert place_among_own(torch.tensor([0, 0, 1, 3, 3, 3])).tolist() == [0, 1, 0, 0, 1, 2]
    assert place_among_own(torch.tensor([3, 0, 3])).tolist() == [0, 0, 1]


def test_every_view_is_in_a_group_of_neighbours(dataset):
    directions = direction_of(dataset.templates.load_all(1).cam_from_obj_mm, rule="optical_axis")
    groups = view_groups(directions, 4)
    assert set(groups.ravel().tolist()) == set(range(len(directions)))
    assert all(len(set(group.tolist())) == 4 for group in groups)
    assert neighbours(directions, directions[5], 3)[0] == 5


WRONG = {
    "object": ({"obj_id": 9}, r"detection 0 \(object 9\): this object was not added; known are: 1, 2, 3"),
    "picture": ({"image": 7}, "picture 7 of 1, with 1 intrinsics"),
    "no box": ({"box_xyxy": None, "mask": None}, "has neither a box nor a mask"),
    "empty mask": ({"mask": np.zeros((96, 96), bool)}, "its mask is empty"),
    "mask size": ({"mask": np.ones((96, 90), bool)}, r"its mask is \(96, 90\), the picture \(96, 96\)"),
    "no mask": ({"mask": None}, "trained on masked pictures"),
    "flat box": ({"box_xyxy": np.array([10.0, 10, 10, 40])}, "has no area"),
    "nan box": ({"box_xyxy": np.array([10.0, np.nan, 20, 40])}, "has no area"),
    "outside": ({"box_xyxy": np.array([200.0, 10, 220, 40])}, "lies outside of the picture of 96 x 96 px"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_detection_is_told(case, known, scenes):
    changes, message = WRONG[case]
    images, K, detections, _ = scenes
    with pytest.raises(InputError, match=message):
        known().estimate(images[:1], K[:1], [replace(detections[0], **changes)])


@pytest.mark.parametrize(
    "K", [np.diag([0.0, 100, 1]), np.diag([100.0, -5, 1]), np.full((3, 3), np.nan), np.eye(2)], ids=str
)
def test_intrinsics_without_focal_length_are_told(K, known, scenes):
    images, _, detections, _ = scenes
    with pytest.raises(InputError, match="a 3x3 matrix with positive focal lengths is needed"):
        known().estimate(images[:1], [K], [detections[0]])


def test_a_picture_of_floats_a_missing_hint_and_too_few_templates_are_told(known, scenes, dataset):
    images, K, detections, _ = scenes
    with pytest.raises(InputError, match="uint8 RGB"):
        known().estimate([images[0] / 255], K[:1], detections[:1])
    with pytest.raises(InputError, match="mode subset needs a hint"):
        known(mode="subset").estimate(images, K, detections[:1])
    with pytest.raises(InputError, match=r"has 42 templates, but inference\.group is 43"):
        known(group=43).estimate(images, K, detections[:1])
    small = open_dataset(dataset_of_folder(dataset.templates.root.parents[1] / "synth" / "val"), 32, 64)
    with pytest.raises(InputError, match="templates of 32 px; the network needs some of 64 px"):
        known().add_templates(small.templates.load_all(1), small.models[1])
