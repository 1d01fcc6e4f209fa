"""Fits without a network: synthetic animals are found again, from clean and from poor labels, and become labels."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from posecore.cameras import project
from posecore.errors import InputError
from posecore.rotations import axis_angle_to_matrix, geodesic_distance
from smil_regressor.data.files import open_file
from smil_regressor.data.insect import insect_body
from smil_regressor.data.sample import collate
from smil_regressor.data.synthetic import EXACT, Difficulty, synthesise
from smil_regressor.fitting.energy import silhouettes
from smil_regressor.fitting.files import parse_samples
from smil_regressor.fitting.labels import with_fit
from smil_regressor.fitting.measure import measure
from smil_regressor.fitting.optimise import fit
from smil_regressor.fitting.options import FitOptions
from smil_regressor.fitting.problem import Problem
from smil_regressor.fitting.start import aligned_start, robust_points
from smil_regressor.fitting.unknowns import Unknowns
from smil_regressor.model.body import Body, to_cameras

KEYPOINTS_ONLY = FitOptions(steps=120, masks=False, points=False)


@pytest.fixture(scope="module")
def body():
    return Body(insect_body(), "mesh_scale")


@pytest.fixture(scope="module")
def scenes(body):
    def make(samples=2, views=3, seed=1, difficulty=EXACT, **changes):
        made = synthesise(body.model, samples=samples, views=views, resolution=64, seed=seed, difficulty=difficulty)
        return replace(collate(list(made)), **changes)

    return make


@pytest.fixture(scope="module")
def outlined(body, scenes):
    """A batch and its fits with and without masks."""
    batch = scenes()
    options = FitOptions(steps=200, points=False)
    return batch, fit(batch, body, options), fit(batch, body, KEYPOINTS_ONLY)


def label_errors_px(found, batch, body):
    pixels, _ = project(to_cameras(body.joints(found.body), found.cam_from_world), batch.K)
    return (pixels - batch.keypoints_px).norm(dim=-1)[batch.visibility > 0]


def turned(batch, angle_deg, first=1, seed=0):
    """The batch with all cameras from `first` on turned about random axes, the same in all samples."""
    axis = torch.nn.functional.normalize(
        torch.randn(3 - first, 3, generator=torch.Generator().manual_seed(seed)), dim=1
    )
    cameras = batch.cam_from_world.clone()
    turn = axis_angle_to_matrix(axis * np.radians(angle_deg))
    cameras[:, first:, :3] = turn @ cameras[:, first:, :3]
    return replace(batch, cam_from_world=cameras)


def test_a_synthetic_animal_is_found_again(outlined, body):
    batch, found, _ = outlined
    assert label_errors_px(found, batch, body).mean() < 1
    angles = torch.rad2deg(geodesic_distance(found.body.rotations, batch.rotations))
    # the twist of a limb shows in its outline only, which is a pixel or two wide here
    assert angles.median() < 12
    assert angles[:, 0].max() < 4
    torch.testing.assert_close(found.body.translation, batch.translation, rtol=0, atol=0.05)
    torch.testing.assert_close(found.body.mesh_scale, torch.ones(2), rtol=0, atol=0.05)


def test_masks_bring_outline_and_shape_closer(outlined, body):
    batch, with_masks, without = outlined
    better, worse = (np.array([row["iou"] for row in measure(f, batch, body, "warp")]) for f in (with_masks, without))
    assert (better > worse + 0.05).all()
    assert better.min() > 0.8
    shape = [(f.body.betas - batch.betas).abs().mean() for f in (with_masks, without)]
    assert shape[0] < shape[1]


def test_the_measured_overlap_is_that_of_hard_masks(outlined, body):
    batch, found, _ = outlined
    rows = found.problem.mask_rows
    alpha = silhouettes(found.cam_from_world, found.problem, body, found.body, rows, "warp")
    drawn, mask = alpha > 0.5, batch.masks[rows]
    iou = (drawn & mask).sum((1, 2)) / (drawn | mask).sum((1, 2))
    told = [row["iou"] for row in measure(found, batch, body, "warp")]
    np.testing.assert_allclose(told, iou.reshape(2, 3).mean(1), rtol=1e-6)


def test_noise_outliers_and_missing_labels_do_not_spoil_a_fit(body, scenes):
    batch = scenes(seed=4, difficulty=Difficulty(keypoint_noise_px=0.7, outliers=0.05, missing_joints=0.1))
    found = fit(batch, body, KEYPOINTS_ONLY)
    assert label_errors_px(found, batch, body).median() < 1
    distance = (body.joints(found.body) - batch.keypoints_world).norm(dim=-1)
    assert distance.median() < 0.03 * 2.3  # of the animal's length


def test_an_outlier_in_one_of_four_views_does_not_move_a_triangulated_point(body, scenes):
    batch = scenes(samples=1, views=4, visibility=torch.ones(1, 4, 19))
    pixels = batch.keypoints_px.clone()
    pixels[0, 2, 5] += torch.tensor([15.0, -9.0])
    problem = Problem.of(replace(batch, keypoints_px=pixels), FitOptions(points=False))
    points, valid = robust_points(problem)
    assert valid.all()
    torch.testing.assert_close(points, batch.keypoints_world, rtol=0, atol=1e-3)


def test_refining_brings_cameras_that_are_turned_by_3_degrees_back(body, scenes):
    right = scenes(samples=4, seed=2)
    wrong = turned(right, 3.0)
    found = fit(wrong, body, replace(KEYPOINTS_ONLY, steps=200, refine_cameras=True))
    relative = [c[:, 1:, :3, :3] @ c[:, :1, :3, :3].mT for c in (found.cam_from_world, right.cam_from_world)]
    assert torch.rad2deg(geodesic_distance(*relative)).max() < 1.5
    torch.testing.assert_close(found.cam_from_world[:, 0], wrong.cam_from_world[:, 0], rtol=0, atol=0)
    fixed = fit(wrong, body, replace(KEYPOINTS_ONLY, steps=60))
    assert label_errors_px(found, right, body).mean() < 0.5 * label_errors_px(fixed, right, body).mean()


def test_a_fit_is_deterministic_and_each_sample_is_fitted_as_if_alone(body, scenes):
    batch, options = scenes(samples=3), replace(KEYPOINTS_ONLY, steps=20)
    first, again = fit(batch, body, options), fit(batch, body, options)
    alone = fit(scenes(samples=1), body, options)
    for name in ("rotations", "translation", "betas", "mesh_scale"):
        assert torch.equal(getattr(first.body, name), getattr(again.body, name))
        torch.testing.assert_close(getattr(first.body, name)[:1], getattr(alone.body, name), rtol=0, atol=1e-3)


def test_unlabelled_nan_keypoints_and_absent_views_leave_the_fit_finite(body, scenes):
    batch = scenes(difficulty=Difficulty(missing_views=0.5, missing_joints=0.3))
    pixels = torch.where(batch.visibility[..., None] > 0, batch.keypoints_px, torch.nan)
    found = fit(replace(batch, keypoints_px=pixels), body, replace(KEYPOINTS_ONLY, steps=20))
    clean = fit(batch, body, replace(KEYPOINTS_ONLY, steps=20))
    assert torch.equal(found.body.rotations, clean.body.rotations)
    assert found.body.rotations.isfinite().all()


def test_one_view_is_fitted_when_the_size_is_given_and_refused_when_not(body, scenes):
    batch = scenes(views=1, seed=5)
    with pytest.raises(InputError, match=r"synthetic_0000\[0\]: too few joints .* give --mesh-scale"):
        fit(batch, body, KEYPOINTS_ONLY)
    found = fit(batch, body, replace(KEYPOINTS_ONLY, mesh_scale=1.0))
    assert label_errors_px(found, batch, body).mean() < 1
    assert torch.equal(found.body.mesh_scale, torch.ones(2))


def test_known_3d_points_place_an_animal_of_one_view(body, scenes):
    batch = scenes(views=1)
    start, is_placed = aligned_start(Problem.of(batch, FitOptions()), body, None)
    assert is_placed.all()
    assert torch.rad2deg(geodesic_distance(start.rotation, batch.rotations[:, 0])).max() < 15
    found = fit(batch, body, replace(KEYPOINTS_ONLY, points=True))
    assert (body.joints(found.body) - batch.keypoints_world).norm(dim=-1).mean() < 0.05


def test_a_sample_without_labels_in_calibrated_views_is_named(body, scenes):
    batch = scenes(has_camera=torch.tensor([[True, True, True], [False, False, False]]))
    with pytest.raises(InputError, match=r"^synthetic_0000\[1\]: 0 joints with a label in a calibrated view; a fit"):
        fit(batch, body, KEYPOINTS_ONLY)


def test_a_session_shares_shape_and_limbs_where_asked(body, scenes):
    options = replace(KEYPOINTS_ONLY, steps=20, share_shape=True, limbs=True)
    found = fit(scenes(samples=3), body, options).body
    for values in (found.betas, found.mesh_scale, found.log_scales, found.joint_offsets):
        assert torch.equal(values[0], values[2])
    assert found.log_scales.abs().max() > 0
    assert not torch.equal(found.rotations[0], found.rotations[2])


def test_camera_corrections_do_not_depend_on_the_frame_of_the_world(body, scenes):
    """Sessions have the first valid view of each frame as their world."""
    batch = scenes(samples=1)
    world_from_other = torch.eye(4)
    world_from_other[:3, :3] = axis_angle_to_matrix(torch.tensor([0.4, -1.0, 0.3]))
    world_from_other[:3, 3] = torch.tensor([2.0, 1.0, -4.0])
    moved = replace(batch, cam_from_world=batch.cam_from_world @ world_from_other)
    options, corrected = FitOptions(refine_cameras=True), []
    for scene in (batch, moved):
        problem = Problem.of(scene, options)
        start, _ = aligned_start(problem, body, None)
        unknowns = Unknowns(body.model, problem, start, options)
        with torch.no_grad():
            unknowns.camera.copy_(torch.linspace(-1, 1, unknowns.camera.numel()).reshape(unknowns.camera.shape))
            corrected.append(unknowns.cameras())
    torch.testing.assert_close(corrected[0] @ world_from_other, corrected[1], rtol=0, atol=1e-2)


def test_the_command_writes_what_predict_writes_and_labels_that_are_the_fit(smil, insects_file, tmp_path):
    labels = tmp_path / "labels.h5"
    result = smil(
        "fit", insects_file, "--output", tmp_path / "fits", "--samples", "0,3", "--steps", 40, "--no-masks",
        "--limbs", "--write-labels", labels, "--device", "cpu", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    written = sorted(path.name for path in (tmp_path / "fits").iterdir())
    assert written == sorted(
        ["animation.npz", "cameras.json", "fit.json"]
        + [f"sample_{n:06d}{end}" for n in (0, 3) for end in (".json", ".obj", "_overlay.png")]
    )
    summary = json.loads(result.stdout)
    assert summary["samples_fitted"] == 2
    assert summary["median_error_px"] < summary["median_error_px_before"]
    sample = open_file(labels).read(1, np.arange(2), 64)
    parameters = json.loads((tmp_path / "fits" / "sample_000003.json").read_text())
    assert sample.has_joint_rotations
    assert sample.has_log_scales
    np.testing.assert_allclose(sample.translation, parameters["translation"], atol=1e-6)
    np.testing.assert_allclose(sample.joint_offsets, parameters["joint_offsets"], atol=1e-6)
    fitted = axis_angle_to_matrix(torch.tensor(parameters["axis_angles"]))
    torch.testing.assert_close(torch.from_numpy(sample.rotations), fitted, rtol=0, atol=1e-5)
    original = open_file(insects_file).read(3, np.arange(2), 64)
    np.testing.assert_allclose(sample.keypoints_px, original.keypoints_px, atol=1e-3)
    np.testing.assert_array_equal(sample.masks, original.masks)


def test_labels_leave_out_3d_points_that_the_fit_was_told_to_ignore(body):
    sample = next(iter(synthesise(body.model, samples=1, views=3, resolution=64, seed=1)))
    for points in (True, False):
        found = fit(collate([sample]), body, replace(KEYPOINTS_ONLY, steps=20, points=points))
        assert (with_fit(sample, found, 0).has_keypoints_world == points).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0,99"], "--samples 99: {file} has samples 0 to 15"),
        (["--samples", "first"], "--samples first: all, or numbers between commas are needed, for example 0,4,7"),
        (["--mesh-scale", "0"], "--mesh-scale 0.0: a number above 0 is needed"),
        (["--write-labels", "{file}"], "--write-labels {file}: is the file that is read; give another name"),
    ],
)
def test_wrong_arguments_are_told_in_one_line(arguments, message, smil, insects_file, tmp_path):
    given = [argument.format(file=insects_file) for argument in arguments]
    result = smil("fit", insects_file, "--output", tmp_path, *given)
    assert result.exit_code == 2
    assert message.format(file=insects_file) in result.output


def test_samples_are_all_or_numbers():
    assert parse_samples("all") is None
    assert parse_samples("0,4,7") == [0, 4, 7]
