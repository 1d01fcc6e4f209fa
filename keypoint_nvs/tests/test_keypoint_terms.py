"""All terms of the keypoint pass together: what the training step adds up."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keypoint_nvs.affine import affine_theta, warp
from keypoint_nvs.config.stages import KeypointsConfig, MultiviewConfig
from keypoint_nvs.coordinates import rc_unit_from_xy_px
from keypoint_nvs.gaussians import gaussian_maps
from keypoint_nvs.losses.settings import KeypointLossSettings, MultiviewSettings
from keypoint_nvs.losses.table import KEYPOINT_TERMS, keypoint_terms, ramped
from keypoint_nvs.losses.view_cameras import ViewCameras
from keypoint_nvs.model.records import KeypointOutput
from keypoint_nvs.rig import zero123plus_rig
from posecore.cameras import project, transform
from posecore.losses import Term

SIDE, SIGMA = 32, 1.5
RIG = zero123plus_rig("v1.2")
SETTINGS = KeypointLossSettings(sigma=SIGMA, multiview=MultiviewSettings())
IDS = ("dog/0", "dog/1", "cat/0", "cat/1")


def cameras_of(objects: int, known: Tensor | None = None) -> ViewCameras:
    cam_from_world = torch.from_numpy(RIG.cam_from_world()).float().expand(objects, 6, 4, 4)
    K = torch.from_numpy(RIG.K(64)).float().expand(objects, 6, 3, 3)
    return ViewCameras.at_map_size(cam_from_world, K, 64, SIDE, known)


def random_points(seed: int, objects: int = 1, k: int = 3) -> Tensor:
    """In the sphere that all views see whole, apart from each other."""
    generator = torch.Generator().manual_seed(seed)
    offsets = torch.randn(objects, k, 3, generator=generator)
    return 0.35 * torch.nn.functional.normalize(offsets, dim=-1) * torch.rand(objects, k, 1, generator=generator).sqrt()


def projections(points: Tensor, cameras: ViewCameras) -> Tensor:
    return project(transform(cameras.cam_from_world, points[:, None]), cameras.K)[0]


def output_of(places_px: Tensor, height: float = 1.0) -> KeypointOutput:
    """Gaussians at the places, and in the warped copies what they should be."""
    maps = height * gaussian_maps(rc_unit_from_xy_px(places_px, SIDE), SIDE, SIGMA)
    b, v, k = maps.shape[:3]
    theta = affine_theta(torch.full((b * v,), 8.0), torch.full((b * v,), 0.9), torch.full((b * v, 2), 0.1))
    warped = warp(maps.flatten(0, 1), theta).unflatten(0, (b, v))
    return KeypointOutput(torch.arange(k).expand(b, k), maps, warped, theta.unflatten(0, (b, v)))


def noise_output(seed: int, objects: int) -> KeypointOutput:
    generator = torch.Generator().manual_seed(seed)
    places = 4 + 24 * torch.rand(objects, 6, 3, 2, generator=generator)
    output = output_of(places, 0.5)
    maps = (output.maps + 0.1 * torch.rand(output.maps.shape, generator=generator)).requires_grad_()
    return replace(output, maps=maps, warped_maps=output.warped_maps.clone().requires_grad_())


def alpha_of(objects: int) -> Tensor:
    alpha = torch.zeros(objects, 6, 64, 64)
    alpha[..., 16:48, 16:48] = 1.0
    return alpha


def means(terms: dict[str, Term]) -> dict[str, float]:
    return {name: float(term.mean().detach()) for name, term in terms.items()}


@given(seed=st.integers(0, 2**31))
@settings(max_examples=15)
def test_maps_at_the_projections_of_points_have_no_multiview_error_until_a_view_is_moved(seed):
    cameras, points = cameras_of(1), random_points(seed)
    points[0, 1:] *= -0.8 * points[0, :1].norm() / points[0, 1:].norm(dim=-1, keepdim=True)
    places = projections(points, cameras)
    terms, measures = keypoint_terms(output_of(places), cameras, None, SETTINGS, 1.0, ("point",))
    assert means(measures)["counted"] == 1
    assert means(measures)["reprojection_px"] < 0.5  # of 320: the window cuts the Gaussian's tail off
    assert means(measures)["heatmap"] < 1e-5
    assert means(terms)["point"] < 5e-5  # Huber's function of 0.5 px
    moved = places.clone()
    moved[0, 2, 0, 0] += 2.0 if moved[0, 2, 0, 0] < 16 else -2.0
    worse, wrong = keypoint_terms(output_of(moved), cameras, None, SETTINGS, 1.0, ("point",))
    assert means(worse)["point"] > 10 * means(terms)["point"]
    assert means(wrong)["heatmap"] > 10 * means(measures)["heatmap"]
    assert means(wrong)["reprojection_px"] > 3 * means(measures)["reprojection_px"]


def test_a_mirrored_view_is_pulled_to_where_the_others_say_and_does_not_move_the_point():
    cameras, points = cameras_of(1), torch.tensor([[[0.0, 0.3, 0.1]]])
    places = projections(points, cameras)
    wrong = places.clone()
    wrong[0, 3, 0, 0] = SIDE - 1 - wrong[0, 3, 0, 0]
    output = output_of(wrong)
    maps = output.maps.clone().requires_grad_()
    terms, measures = keypoint_terms(
        replace(output, maps=maps), cameras, None, replace(SETTINGS, sigma=SIGMA), 1.0, ("localisation",)
    )
    assert means(measures)["counted"] == 1
    terms["localisation"].total.backward()
    col, row = places[0, 3, 0].round().long().tolist()
    assert float(maps.grad[0, 3, 0, row, col]) < 0  # descending raises the right place in the wrong view
    others = maps.grad[0, [0, 1, 2, 4, 5]].abs().amax()
    assert float(others) < 0.2 * float(maps.grad[0, 3].abs().amax())


@pytest.mark.parametrize("ramp", [0.0, 0.5, 1.0])
def test_localisation_mixes_the_own_peak_and_the_projected_point_by_the_ramp(ramp):
    cameras = cameras_of(1)
    output = output_of(projections(random_points(3), cameras) + 0.4)
    terms, measures = keypoint_terms(output, cameras, None, SETTINGS, ramp, ("localisation", "point"))
    found = means(measures)
    assert found["counted"] == 1
    expected = (1 - 0.7 * ramp) * found["sharpening"] + 0.7 * ramp * found["heatmap"]
    assert means(terms)["localisation"] == pytest.approx(expected, rel=1e-4)
    assert ("point" in terms) == (ramp > 0)
    assert ramped({"localisation": 100.0, "point": 300.0}, ramp) == {"localisation": 100.0, "point": 300.0 * ramp}


def test_points_that_do_not_count_keep_their_whole_localisation_and_give_no_other_term():
    cameras = cameras_of(2)
    output = noise_output(0, 2)  # places that no point in space explains
    strict = replace(SETTINGS, multiview=MultiviewSettings(min_views=6, robust_width=0.001))
    terms, measures = keypoint_terms(output, cameras, None, strict, 1.0, ("localisation", "point", "spread"))
    found = means(terms) | means(measures)
    assert found["counted"] == 0
    assert found["localisation"] == pytest.approx(found["sharpening"], rel=1e-6)
    assert found["point"] == found["spread"] == found["heatmap"] == found["spread_3d"] == 0
    assert found["reprojection_px"] > 10
    sum(term.total for term in terms.values()).backward()
    assert output.maps.grad.isfinite().all()


def test_a_view_without_a_camera_teaches_nothing_about_points_and_keeps_its_own_peak():
    known = torch.ones(1, 6, dtype=torch.bool)
    known[0, 5] = False
    cameras = cameras_of(1, known)
    assert torch.equal(cameras.cam_from_world[0, 5], torch.eye(4))
    places = projections(random_points(5), cameras_of(1))
    whole, _ = keypoint_terms(output_of(places), cameras_of(1), None, SETTINGS, 1.0, ("point", "localisation"))
    elsewhere = places.clone()
    elsewhere[0, 5] = torch.tensor([4.0, 27.0])
    terms, measures = keypoint_terms(output_of(elsewhere), cameras, None, SETTINGS, 1.0, ("point", "localisation"))
    assert means(measures)["counted"] == 1
    assert means(measures)["reprojection_px"] < 0.5
    assert means(terms)["point"] < 5e-5
    assert means(terms)["localisation"] <= means(whole)["localisation"] + 1e-6


@pytest.mark.parametrize("maps", ["flat", "zeros", "same place"])
def test_all_terms_have_finite_gradients_in_the_bad_places(maps):
    output = {
        "flat": lambda: replace(noise_output(0, 2), maps=torch.full((2, 6, 3, SIDE, SIDE), 1 / 64)),
        "zeros": lambda: replace(noise_output(0, 2), maps=torch.zeros(2, 6, 3, SIDE, SIDE)),
        "same place": lambda: output_of(projections(torch.zeros(2, 3, 3), cameras_of(2))),
    }[maps]()
    leaf = output.maps.clone().requires_grad_()
    terms, measures = keypoint_terms(
        replace(output, maps=leaf), cameras_of(2), alpha_of(2), SETTINGS, 1.0, KEYPOINT_TERMS, sample_ids=IDS[:2]
    )
    assert set(terms) == set(KEYPOINT_TERMS)
    torch.stack([term.total for term in terms.values()]).sum().backward()
    assert leaf.grad.isfinite().all()
    assert all(torch.isfinite(term.total) for term in (terms | measures).values())


def test_terms_and_measures_of_parts_of_a_batch_add_up_to_those_of_the_whole():
    output, cameras, alpha = noise_output(1, 4), cameras_of(4), alpha_of(4)
    whole = keypoint_terms(output, cameras, alpha, SETTINGS, 0.6, KEYPOINT_TERMS, sample_ids=IDS)
    parts = []
    for part in (slice(0, 2), slice(2, 4)):  # neighbours that follow each other stay together
        some = KeypointOutput(output.selected[part], output.maps[part], output.warped_maps[part], output.theta[part])
        views = ViewCameras(cameras.cam_from_world[part], cameras.K[part], cameras.known[part])
        parts.append(keypoint_terms(some, views, alpha[part], SETTINGS, 0.6, KEYPOINT_TERMS, sample_ids=IDS[part]))
    for table in (0, 1):
        for name, term in whole[table].items():
            shares = [part[table][name].mean(term.count) for part in parts]
            torch.testing.assert_close(torch.stack(shares).sum(), term.mean(), msg=name)
            assert float(term.count) == 4
    total = torch.stack([term.total for term in whole[0].values()]).sum()
    (whole_gradient,) = torch.autograd.grad(total, output.maps, retain_graph=True)
    split = torch.stack([term.total for part in parts for term in part[0].values()]).sum()
    (split_gradient,) = torch.autograd.grad(split, output.maps)
    torch.testing.assert_close(split_gradient, whole_gradient)


def test_a_step_down_the_points_loss_brings_the_places_of_maps_together():
    cameras = cameras_of(1)
    shift = 0.5 * torch.randn(1, 6, 3, 2, generator=torch.Generator().manual_seed(0))
    places = (projections(random_points(1), cameras) + shift).requires_grad_()
    terms, before = keypoint_terms(output_of(places), cameras, None, SETTINGS, 1.0, ("localisation", "point"))
    (step,) = torch.autograd.grad(terms["point"].total, places)
    better = places.detach() - 0.3 * step / step.norm()
    _, after = keypoint_terms(output_of(better), cameras, None, SETTINGS, 1.0, ("point",))
    assert means(after)["reprojection_px"] < means(before)["reprojection_px"]


def test_unrelated_pictures_have_the_terms_that_need_no_cameras():
    output = noise_output(0, 2)
    flat = KeypointLossSettings(sigma=SIGMA)
    names = ("localisation", "equivariance", "foreground")
    terms, measures = keypoint_terms(output, None, alpha_of(2), flat, 0.0, ("nvs", *names))
    assert tuple(terms) == names
    assert set(measures) == {"sharpening", "peak"}
    assert means(terms)["localisation"] == pytest.approx(means(measures)["sharpening"])


def test_losses_are_float32_under_autocast():
    output = noise_output(0, 1)
    plain, _ = keypoint_terms(output, cameras_of(1), None, SETTINGS, 1.0, ("localisation", "equivariance", "point"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = keypoint_terms(output, cameras_of(1), None, SETTINGS, 1.0, ("localisation", "equivariance", "point"))
    assert all(torch.equal(plain[name].total, cast[name].total) for name in plain)


def test_what_a_term_lacks_is_told():
    output, cameras = noise_output(0, 1), cameras_of(1)
    with pytest.raises(ValueError, match="need both their settings and cameras"):
        keypoint_terms(output, None, None, SETTINGS, 1.0, ("point",))
    with pytest.raises(ValueError, match="foreground needs alpha"):
        keypoint_terms(output, cameras, None, SETTINGS, 1.0, ("foreground",))
    with pytest.raises(ValueError, match="temporal needs the samples' ids"):
        keypoint_terms(output, cameras, None, SETTINGS, 1.0, ("temporal",))


def test_settings_follow_the_configuration_and_the_ramp_rises_from_its_start():
    config = KeypointsConfig(sigma=1.0, mask_outside=False, multiview=MultiviewConfig(start_step=10, ramp_steps=20))
    found = KeypointLossSettings.of(config)
    assert (found.sigma, found.mask_outside) == (1.0, False)
    assert [found.ramp_at(step) for step in (0, 10, 20, 30, 99)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert MultiviewSettings(start_step=5).ramp_at(4) == 0
    assert MultiviewSettings(start_step=5).ramp_at(5) == 1
    assert KeypointLossSettings.of(KeypointsConfig(multiview=None)).ramp_at(10**6) == 0
    assert MultiviewSettings().radius_px(128) == 12
    with pytest.raises(ValueError, match="subjects is 2: multiview triangulates one point a token"):
        KeypointsConfig(subjects=2)


def test_cameras_at_the_size_of_the_maps_see_points_at_the_same_part_of_the_picture():
    points = random_points(0)
    large = ViewCameras.at_map_size(cameras_of(1).cam_from_world, cameras_of(1).K, SIDE, 320)
    there, here = projections(points, large), projections(points, cameras_of(1))
    torch.testing.assert_close((there + 0.5) / 320, (here + 0.5) / SIDE, rtol=0, atol=1e-5)


def test_descending_on_free_maps_sharpens_them_and_brings_the_views_to_agree():
    """Blurred maps whose peaks lie beside the projections of three points, one view mirrored."""
    cameras = cameras_of(1)
    points = torch.tensor([[[0.25, 0.1, 0.1], [-0.2, 0.2, 0.0], [0.0, -0.25, -0.15]]])
    generator = torch.Generator().manual_seed(0)
    places = projections(points, cameras) + 0.4 * torch.randn(1, 6, 3, 2, generator=generator)
    places[0, 4, ..., 0] = SIDE - 1 - places[0, 4, ..., 0]
    blurred = 0.4 * gaussian_maps(rc_unit_from_xy_px(places, SIDE), SIDE, 3.0) + 0.02
    logits = torch.logit(blurred).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.3)
    history = []
    for _ in range(40):
        output = replace(output_of(places), maps=logits.sigmoid())
        terms, measures = keypoint_terms(output, cameras, None, SETTINGS, 1.0, ("localisation",))
        history.append(means(measures))
        optimizer.zero_grad()
        terms["localisation"].total.backward()
        optimizer.step()
    first, last = history[0], history[-1]
    assert last["reprojection_px"] < 0.3 * first["reprojection_px"]
    assert last["sharpening"] < 0.1 * first["sharpening"]
    assert last["counted"] == 1
    assert last["peak"] > 0.8
