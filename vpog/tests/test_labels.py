"""Flow labels: reference vectors, and scenes whose depth is known exactly because rays are cast in closed form."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from posecore.errors import InputError
from vpog.config.labels import LabelConfig
from vpog.data.sample import Instance, PoseBatch
from vpog.labels import dense
from vpog.labels.dense_view import dense_view, dense_visibility_view, pixel_matches
from vpog.labels.flow_labels import flow_labels, labels_of_batch, template_to_query_centres
from vpog.labels.records import FlowLabels
from vpog.labels.rules import LabelRules
from vpog.labels.surfaces import dehomogenise, look_up
from vpog.labels.warping import warp_template_to_query

SIZE, PATCH = 112, 8
GRID, NUM_PATCHES = SIZE // PATCH, (SIZE // PATCH) ** 2
CENTRE = (SIZE - 1) / 2
K = np.array([[420.0, 0, CENTRE], [0, 420.0, CENTRE], [0, 0, 1]])
EXACT = LabelRules(patch_size=PATCH, tol_mm=0.5, tol_diameter=0.0)
BALL_CENTRE, BALL_RADIUS = np.array([25.0, 5.0, 20.0]), 22.0
BOX_HALF = np.array([35.0, 25.0, 18.0])


@dataclass(frozen=True)
class View:
    """The object (a box with a ball on it) from one camera; float64, mm."""

    depth: np.ndarray
    points_obj: np.ndarray
    cam_from_obj: np.ndarray

    @property
    def rgb(self) -> np.ndarray:
        """A smooth texture of the surface, waves of 30 mm; black outside."""
        waves = 128 + 100 * np.sin(2 * np.pi * self.points_obj / 30 + np.array([0.0, 1.0, 2.0]))
        return np.where(self.depth[..., None] > 0, waves, 0).astype(np.uint8)


def pose(rotation_vector, distance=400.0, shift=(0.0, 0.0)):
    cam_from_obj = np.eye(4)
    cam_from_obj[:3, :3] = Rotation.from_rotvec(rotation_vector).as_matrix()
    cam_from_obj[:3, 3] = (*shift, distance)
    return cam_from_obj


def surface_depth(cam_from_obj, px):
    """z of the surface behind each pixel (any, not only whole ones); inf where there is none."""
    rays_cam = np.concatenate([px, np.ones((*px.shape[:-1], 1))], -1) @ np.linalg.inv(K).T
    R, t = cam_from_obj[:3, :3], cam_from_obj[:3, 3]
    rays, origin = rays_cam @ R, -R.T @ t
    with np.errstate(divide="ignore"):
        slabs = np.sort(np.stack([(-BOX_HALF - origin) / rays, (BOX_HALF - origin) / rays]), 0)
    entry, leave = slabs[0].max(-1), slabs[1].min(-1)
    box = np.where(entry < leave, entry, np.inf)
    return np.minimum(box, ball_depth(rays, origin - BALL_CENTRE, BALL_RADIUS))


def ball_depth(rays, origin, radius):
    a, b, c = (rays**2).sum(-1), rays @ origin, origin @ origin - radius**2
    inside = b**2 - a * c
    return np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)


def pixels():
    return np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="xy"), -1).astype(float)


def render(cam_from_obj):
    z = surface_depth(cam_from_obj, pixels())
    depth = np.where(np.isfinite(z), z, 0)
    return View(depth, back(cam_from_obj, pixels(), depth), cam_from_obj)


def back(cam_from_obj, px, depth):
    points = np.concatenate([px, np.ones((*px.shape[:-1], 1))], -1) @ np.linalg.inv(K).T * depth[..., None]
    return (points - cam_from_obj[:3, 3]) @ cam_from_obj[:3, :3]


def project(cam_from_obj, points_obj):
    points = points_obj @ cam_from_obj[:3, :3].T + cam_from_obj[:3, 3]
    return (points @ K.T)[..., :2] / points[..., 2:], points[..., 2]


def tensors(query, templates, mask=None):
    """Arguments of `flow_labels` for one sample."""
    f = lambda array: torch.from_numpy(np.asarray(array, np.float32))[None]  # noqa: E731
    mask = torch.from_numpy(query.depth > 0 if mask is None else mask)[None]
    stacked = (np.stack([t.depth for t in templates]), np.stack([K] * len(templates)))
    poses = np.stack([t.cam_from_obj for t in templates])
    return [f(query.depth), mask, f(K), f(query.cam_from_obj), f(stacked[0]), f(stacked[1]), f(poses)]


QUERY_TURN = np.array([0.5, -0.4, 0.3])


@pytest.fixture(scope="module")
def scene():
    """A query and three templates: 12 and 35 degrees away, and from behind."""
    query = render(pose(QUERY_TURN, 390, (3, -2)))
    turns = ([0.2, 0.05, 0.03], [-0.3, 0.5, 0.2], [0, np.pi * 0.9, 0])
    templates = [
        render(pose((Rotation.from_rotvec(turn) * Rotation.from_rotvec(QUERY_TURN)).as_rotvec(), 420)) for turn in turns
    ]
    return query, templates


@pytest.fixture(scope="module")
def labels(scene) -> FlowLabels:
    return flow_labels(*tensors(*scene), EXACT)


@pytest.mark.parametrize("case", ["s1", "s10"])
def test_labels_are_those_of_the_reference(reference, case):
    """The package's own copy is the first sample of either case with its first template."""
    arrays = {
        k.split("/")[1]: torch.from_numpy(v) for k, v in reference("flow_labels").items() if k.startswith(f"{case}/")
    }
    rules = LabelRules(
        patch_size=8,
        tol_mm=float(arrays["tol_q_mm"]),
        tol_template_units=float(arrays["tol_t_template_units"]),
        lookup="reference",
    )
    names = ("q_depth", "q_mask", "q_K", "q_pose", "t_depth", "t_K", "t_pose")
    labels = flow_labels(*(arrays[name] for name in names), rules, sigma=float(arrays["sigma"]))
    for ours, name in (
        (labels.patch_cls, "patch_cls"),
        (labels.visibility, "visibility"),
        (labels.visibility, "center_visible"),
        (labels.patch_visibility, "patch_visibility_min4"),
    ):
        assert (ours != arrays[name]).float().mean() <= 0.002, name
    assert (labels.coarse_flows != arrays["coarse_flows"]).float().mean() <= 0.002
    both = labels.visibility & arrays["visibility"]
    torch.testing.assert_close(labels.flows[both], arrays["flows_residual"][both], rtol=0, atol=2e-4)
    matched = labels.patch_cls == arrays["patch_cls"]
    matched &= labels.visibility
    seen, wanted = dense_visibility_view(labels)[matched], arrays["dense_visibility"][matched]
    assert (seen != wanted).float().mean() <= 0.002
    flow, wanted_flow = dense_view(labels)[matched], arrays["dense_flow_masked"][matched]
    torch.testing.assert_close(flow[seen & wanted], wanted_flow[seen & wanted], rtol=0, atol=2e-4)
    assert seen.sum() > 1000


def test_a_warped_template_lies_on_the_query_within_half_a_pixel(scene, labels):
    query, templates = scene
    low, high = (morph(query.rgb, np.ones((3, 3), np.uint8)).astype(int) for morph in (cv2.erode, cv2.dilate))
    for index, least in ((0, 700), (1, 300)):
        warped = warp_template_to_query(torch.from_numpy(templates[index].rgb), labels, 0, index)
        is_set, rgb = warped.is_set.numpy(), warped.rgb.numpy().astype(int)
        fits = ((rgb >= low - 3) & (rgb <= high + 3)).all(-1)
        assert is_set.sum() > least
        assert fits[is_set].mean() > 0.995
        assert not rgb[~is_set].any()
        moved = ((rgb >= np.roll(low, 4, 1) - 3) & (rgb <= np.roll(high, 4, 1) + 3)).all(-1)
        assert moved[is_set].mean() < 0.8  # four pixels aside the pictures disagree


def test_each_pixel_match_is_one_point_of_the_object_seen_in_both_pictures(scene, labels):
    query, templates = scene
    for index, template in enumerate(templates[:2]):
        matches = pixel_matches(labels, 0, index)
        column, row = matches.template_px.long().unbind(-1)
        points = template.points_obj[row, column]
        px, z = project(query.cam_from_obj, points)
        np.testing.assert_allclose(matches.query_px.numpy(), px, atol=1e-3)
        assert (z <= surface_depth(query.cam_from_obj, px) + 2).mean() > 0.995  # 0.5 mm, and the slope within a pixel


def test_a_pose_is_solved_from_labels_alone(scene, labels):
    query, templates = scene
    matches = pixel_matches(labels, 0, 0)
    column, row = matches.template_px.long().unbind(-1)
    points = templates[0].points_obj[row, column]
    ok, turn, trans = cv2.solvePnP(points, matches.query_px.numpy().astype(float), K, None, flags=cv2.SOLVEPNP_SQPNP)
    error = Rotation.from_matrix(cv2.Rodrigues(turn)[0] @ query.cam_from_obj[:3, :3].T).magnitude()
    assert ok
    assert np.rad2deg(error) < 0.1
    assert np.linalg.norm(trans[:, 0] - query.cam_from_obj[:3, 3]) < 0.001 * 390


@given(turn=st.tuples(*[st.floats(-1.2, 1.2)] * 3))
def test_a_centre_is_matched_where_and_only_where_no_part_of_the_object_hides_it(scene, turn):
    query, _ = scene
    template = render(pose((Rotation.from_rotvec(turn) * Rotation.from_rotvec(QUERY_TURN)).as_rotvec(), 420))
    labels = flow_labels(*tensors(query, [template]), replace(EXACT, tol_mm=6.0))
    centres = slice(PATCH // 2, None, PATCH)
    on = query.depth[centres, centres] > 0
    px, z = project(template.cam_from_obj, query.points_obj[centres, centres])
    behind = z - surface_depth(template.cam_from_obj, px)
    hidden, seen = on & (behind > 20), on & (behind < 1e-6) & is_flat_around(template.depth, px)
    visible = labels.visibility[0, 0].numpy()
    assert not (visible & hidden).any()
    assert (visible | ~seen).all()
    assert (labels.patch_cls[0, 0].numpy() == -1).tolist() == (~on).tolist()
    assert (labels.patch_cls[0, 0].numpy()[on & ~visible] == NUM_PATCHES).all()
    cells = labels.patch_cls[0, 0].numpy()[visible]
    corner = np.stack([cells % GRID, cells // GRID], -1) * PATCH
    found = corner + PATCH // 2 + PATCH * labels.flows[0, 0].numpy()[visible]
    np.testing.assert_allclose(found, px[visible], atol=1e-3)
    assert np.abs(labels.flows.numpy()).max() <= 0.5


def is_flat_around(depth, px):
    """Are depths within a pixel of it alike? Elsewhere the nearest pixel may show what lies before or behind an edge."""
    kernel = np.ones((3, 3), np.uint8)
    flat = (depth > 0) & (cv2.dilate(depth, kernel) - cv2.erode(depth, kernel) < 6)
    column, row = np.clip(np.floor(px + 0.5), 0, SIZE - 1).astype(int).transpose(2, 0, 1)
    return flat[row, column]


def test_the_object_hides_parts_of_itself(scene):
    query, templates = scene
    labels = flow_labels(*tensors(query, templates), EXACT)
    on_object = (labels.patch_cls >= 0).sum((-2, -1))[0]
    matched = labels.visibility.sum((-2, -1))[0]
    assert (on_object == on_object[0]).all()
    assert matched[0] > 0.8 * on_object[0] > matched[1] > matched[2]
    open_eyed = flow_labels(*tensors(query, templates), replace(EXACT, compute_visibility=False))
    assert (open_eyed.visibility | ~labels.visibility).all()
    assert open_eyed.visibility[0, 2].sum() > matched[2] + 10


def test_what_stands_before_the_object_hides_it_by_the_mask_and_by_depth(scene):
    query, templates = scene
    rays = np.concatenate([pixels(), np.ones((SIZE, SIZE, 1))], -1) @ np.linalg.inv(K).T
    ball = ball_depth(rays, -np.array([8.0, 5.0, 300.0]), 15.0)
    covered = np.isfinite(ball) & (query.depth > 0)
    assert 0.1 < covered.sum() / (query.depth > 0).sum() < 0.9
    seen = replace(query, depth=np.where(covered, ball, query.depth))
    by_mask = flow_labels(*tensors(seen, templates, (query.depth > 0) & ~covered), EXACT)
    by_depth = flow_labels(*tensors(seen, templates, query.depth > 0), EXACT)
    for labels in (by_mask, by_depth):
        landed = np.zeros((SIZE, SIZE), bool)
        for index in range(len(templates)):
            column, row = torch.floor(pixel_matches(labels, 0, index).query_px + 0.5).long().unbind(-1)
            landed[row, column] = True
        assert landed.any()
        assert not (landed & covered).any()
    centres = slice(PATCH // 2, None, PATCH)
    assert (by_mask.patch_cls[0, 0].numpy()[covered[centres, centres]] == -1).all()


@given(sigma=st.floats(0.05, 50))
def test_the_scale_of_the_templates_mesh_changes_no_label(scene, labels, sigma):
    arguments = tensors(*scene)
    arguments[4] = arguments[4] * sigma
    arguments[6] = arguments[6].clone()
    arguments[6][..., :3, 3] *= sigma
    scaled = flow_labels(*arguments, EXACT, sigma=sigma)
    same = scaled.patch_cls == labels.patch_cls
    assert same.float().mean() >= 0.998
    torch.testing.assert_close(scaled.flows[same], labels.flows[same], rtol=0, atol=1e-4)
    seen, wanted = dense_visibility_view(scaled)[same], dense_visibility_view(labels)[same]
    assert (seen != wanted).float().mean() <= 0.002
    both = seen & wanted
    torch.testing.assert_close(dense_view(scaled)[same][both], dense_view(labels)[same][both], rtol=0, atol=2e-4)


@given(angle=st.floats(-np.pi, np.pi))
def test_turning_a_template_about_the_axis_turns_where_centres_lie(scene, labels, angle):
    query, templates = scene
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0, 0, angle]).as_matrix()
    turned = flow_labels(*tensors(query, [render(turn @ templates[0].cam_from_obj)]), EXACT)
    both = (turned.visibility[0, 0] & labels.visibility[0, 0]).flatten()
    assert both.sum() > 0.85 * labels.visibility[0, 0].sum()
    before, after = (located(each)[both].double().numpy() - CENTRE for each in (labels, turned))
    np.testing.assert_allclose(after, before @ turn[:2, :2].T, atol=1e-3)


def located(labels):
    """Where the centres lie in template 0."""
    cell = labels.patch_cls[0, 0].flatten()
    corner = torch.stack((cell % GRID, cell // GRID), -1) * PATCH
    return corner + PATCH // 2 + PATCH * labels.flows[0, 0].flatten(0, 1)


def test_a_picture_as_its_own_template_gives_each_patch_itself(scene):
    query, _ = scene
    labels = flow_labels(*tensors(query, [query]), EXACT)
    on = labels.patch_cls[0, 0] >= 0
    assert (labels.patch_cls[0, 0].flatten() == torch.arange(NUM_PATCHES))[on.flatten()].all()
    assert labels.visibility[0, 0][on].all()
    assert labels.flows.abs().max() < 1e-4
    assert torch.equal(labels.patch_visibility, labels.visibility)
    row, column = labels.dense_visibility.nonzero()[:, 1:].unbind(-1)
    steps = torch.stack((column, row), -1) / PATCH - 0.5
    torch.testing.assert_close(labels.dense_flow[labels.dense_visibility], steps, rtol=0, atol=1e-4)


def test_patches_are_visible_where_enough_pixels_land_in_them(scene, labels):
    inside = (dense_visibility_view(labels) & (dense_view(labels).abs() <= 0.5).all(-1)).sum((-2, -1))
    for least in (1, 4, 24):
        found = flow_labels(*tensors(*scene), replace(EXACT, min_visible_pixels=least)).patch_visibility
        assert torch.equal(found, (inside >= least) & labels.visibility)
    assert 10 < found.sum() < labels.visibility.sum() - 10
    unasked = flow_labels(*tensors(*scene), replace(EXACT, compute_patch_visibility=False))
    assert torch.equal(unasked.patch_visibility, labels.visibility)


def test_centres_of_templates_followed_to_the_query_lie_where_dense_labels_say(scene, labels):
    centres = template_to_query_centres(*tensors(*scene), EXACT)
    sample, template, _, patch = labels.pairs.unbind(-1)
    middle = labels.dense_visibility[:, PATCH // 2, PATCH // 2]
    assert torch.equal(centres.visibility.flatten(2)[sample, template, patch], middle)
    px = centres.target_px.flatten(2, 3)[sample, template, patch][middle]
    query_patch = labels.pairs[middle, 2]
    corner = torch.stack((query_patch % GRID, query_patch // GRID), -1) * PATCH
    dense_px = corner + PATCH // 2 + PATCH * labels.dense_flow[middle, PATCH // 2, PATCH // 2]
    torch.testing.assert_close(px, dense_px, rtol=0, atol=1e-3)
    assert middle.sum() > 20


def test_pairs_are_the_matches_and_the_dense_view_is_empty_elsewhere(labels):
    flat = labels.patch_cls.flatten(2)
    sample, template, query_patch, template_patch = labels.pairs.unbind(-1)
    assert torch.equal(flat[sample, template, query_patch], template_patch)
    assert len(labels.pairs) == labels.visibility.sum()
    view = dense_view(labels)
    assert view.shape == (1, 3, GRID, GRID, PATCH, PATCH, 2)
    torch.testing.assert_close(view.flatten(2, 3)[sample, template, query_patch], labels.dense_flow)
    assert not view[~labels.visibility].any()
    assert not dense_visibility_view(labels)[~labels.visibility].any()


def test_pieces_and_autocast_change_nothing(scene, labels, monkeypatch):
    monkeypatch.setitem(dense.PIXELS_AT_ONCE, "cpu", 700)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = flow_labels(*tensors(*scene), EXACT)
    for name in FlowLabels.__dataclass_fields__:
        assert torch.equal(getattr(again, name), getattr(labels, name)), name


def test_samples_of_a_batch_do_not_mix(scene, labels):
    query, templates = scene
    other = tensors(templates[1], [templates[0], query, templates[2]])
    both = flow_labels(*(torch.cat(pair) for pair in zip(other, tensors(*scene), strict=True)), EXACT)
    mine = both.pairs[:, 0] == 1
    assert torch.equal(both.patch_cls[1], labels.patch_cls[0])
    assert torch.equal(both.dense_flow[mine], labels.dense_flow)
    assert torch.equal(both.patch_visibility[1], labels.patch_visibility[0])


def test_an_object_that_covers_no_patch_s_centre_has_no_pairs(scene):
    query, templates = scene
    mask = np.zeros((SIZE, SIZE), bool)
    mask[SIZE // 2 + 1 : SIZE // 2 + 3, SIZE // 2 + 1 : SIZE // 2 + 3] = True
    labels = flow_labels(*tensors(query, templates, mask), EXACT)
    assert (labels.patch_cls == -1).all()
    assert labels.pairs.shape == (0, 4)
    assert not dense_view(labels).any()
    assert not warp_template_to_query(torch.from_numpy(templates[0].rgb), labels, 0, 0).is_set.any()


@given(depth=st.floats(-60, 60), seed=st.integers(0, 5))
def test_a_camera_within_the_object_gives_no_number_that_is_not_finite(scene, depth, seed):
    query, _ = scene
    rng = np.random.default_rng(seed)
    inside = replace(
        query, depth=rng.uniform(20, 60, (SIZE, SIZE)), cam_from_obj=pose(rng.normal(size=3), depth, (9, 9))
    )
    labels = flow_labels(*tensors(query, [inside]), replace(EXACT, compute_visibility=False))
    for values in (labels.flows, labels.coarse_flows, labels.dense_flow):
        assert values.isfinite().all()
    assert not labels.dense_flow[~labels.dense_visibility].any()


@pytest.mark.parametrize(("lookup", "index"), [("nearest", 2), ("reference", 1)])
def test_integers_are_pixel_centres(lookup, index):
    found, inside = look_up(dehomogenise(torch.tensor([[1.6], [0.2], [1.0]])), (4, 4), lookup)
    assert (found.tolist(), inside.tolist()) == ([index], [True])
    _, inside = look_up(dehomogenise(torch.tensor([[3.6], [0.2], [1.0]])), (4, 4), lookup)
    assert inside.tolist() == [lookup == "reference"]


def test_the_diameter_widens_the_tolerance(scene):
    query, templates = scene
    strict = flow_labels(*tensors(query, templates), replace(EXACT, tol_diameter=0.1))
    wide = flow_labels(*tensors(query, templates), replace(EXACT, tol_diameter=0.1), diameter_mm=torch.tensor([200.0]))
    named = flow_labels(*tensors(query, templates), replace(EXACT, tol_mm=20.0))
    assert wide.visibility.sum() > strict.visibility.sum()
    assert torch.equal(wide.patch_cls, named.patch_cls)


BROKEN = {
    "query: the visible mask is empty; it must show the object": lambda a: a[1].zero_(),
    "query: depth: 0 all over the object; labels are made of depth": lambda a: a[0].zero_(),
    "query: depth: at most 0.431, which looks like metres; it must be in mm": lambda a: a[0].mul_(0.431 / a[0].max()),
    "template 1: K: focal length 0 px; it must be positive, all finite": lambda a: a[5][0, 1, 0, 0].zero_(),
    "template 2: K: the last row is not (0, 0, 1); is it transposed?": lambda a: a[5][0, 2, 2, 0].add_(CENTRE),
    "template 0: pose: the rotation's determinant is 1000, not 1; divide any scale of the mesh out": (
        lambda a: a[6][0, 0, :3, :3].mul_(10)
    ),
    "template 1: depth: 1000 times the distance in the pose; both must be in mm": (
        lambda a: a[6][0, 1, :3, 3].copy_(torch.tensor([0, 0, a[4][0, 1].max() / 1000]))
    ),
    "template 0: depth: has -1; it must be finite, 0 where there is none, else positive": lambda a: a[4][
        0, 0, 0, 0
    ].fill_(-1),
    "template 0: depth: has nan; it must be finite, 0 where there is none, else positive": (
        lambda a: a[4][0, 0, 0, 0].fill_(float("nan"))
    ),
}


@pytest.mark.parametrize("message", BROKEN)
def test_input_that_cannot_be_right_is_told_with_sample_and_picture(scene, message):
    arguments = [argument.clone() for argument in tensors(*scene)]
    BROKEN[message](arguments)
    with pytest.raises(InputError) as raised:
        flow_labels(*arguments, EXACT)
    assert str(raised.value) == f"sample 0: {message}"


def test_a_picture_without_a_whole_number_of_patches_is_refused(scene):
    with pytest.raises(InputError, match="112 x 112 px have no whole number of patches of 9 px"):
        flow_labels(*tensors(*scene), LabelRules(patch_size=9))


def batch_of(scene) -> PoseBatch:
    depth_q, mask, K_q, pose_q, depth_t, K_t, pose_t = tensors(*scene)
    beyond = torch.where(mask, depth_q, 500)[:, None]
    one = torch.zeros(1, 3, dtype=torch.int64)
    return PoseBatch(
        images=torch.zeros(1, 4, 3, SIZE, SIZE, dtype=torch.uint8),
        masks=torch.cat((mask[:, None], depth_t > 0), 1),
        depth_mm=torch.cat((beyond, depth_t), 1),
        K=torch.cat((K_q[:, None], K_t), 1),
        cam_from_obj_mm=torch.cat((pose_q[:, None], pose_t), 1),
        d_ref=torch.tensor([[0.0, 0, 1]]),
        template_indices=one,
        template_types=one,
        crop_from_image=torch.eye(3)[None],
        K_image=K_q,
        diameter_mm=torch.tensor([100.0]),
        seed=torch.tensor([5]),
        instances=(Instance("gso", 3, 14, 2, 77, 0.9, 100.0),),
    )


def test_a_batch_is_labelled_by_its_parts_and_its_instance_is_named(scene, labels):
    batch = batch_of(scene)
    assert torch.equal(labels_of_batch(batch, EXACT).patch_cls, labels.patch_cls)
    message = r"^gso scene 3 image 14 instance 2 \(object 77\): query: the visible mask is empty"
    with pytest.raises(InputError, match=message):
        labels_of_batch(replace(batch, masks=torch.zeros_like(batch.masks)), EXACT)


def test_the_configuration_gives_rules_and_refuses_more_pixels_than_a_patch_has():
    rules = LabelConfig(tol_mm=2.0, lookup="reference").rules(16)
    assert (rules.patch_size, rules.tol_mm, rules.lookup, rules.min_visible_pixels) == (16, 2.0, "reference", 4)
    with pytest.raises(ValueError, match=r"min_visible_pixels: 65 is not within 1\.\.64"):
        LabelConfig(min_visible_pixels=65).rules(8)
