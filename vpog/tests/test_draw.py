"""Pictures show what they are given: checked at pixels whose colour is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from posecore.draw import PREDICTION, TRUTH
from vpog.data.sample import Instance, Sample, collate
from vpog.draw import (
    PosedMesh,
    color_wheel,
    draw_axes,
    draw_case,
    draw_classification,
    draw_correspondences,
    draw_dense_label,
    draw_dense_patch,
    draw_directions,
    draw_flow_fields,
    draw_group,
    draw_hue_flow,
    draw_label_check,
    draw_labels,
    draw_matching,
    draw_patch_grid,
    draw_pose,
    draw_poses,
    flow_to_hues,
    group_of_batch,
    group_of_sample,
)
from vpog.draw.canvas import ABSENT, enlarge, enlarged_points, patch_centres
from vpog.draw.flows import colored_signed
from vpog.draw.patches import MATCHED, RIGHT_UNMATCHED, UNMATCHED, WRONG_PLACE
from vpog.labels.flow_labels import labels_of_batch
from vpog.labels.rules import LabelRules
from vpog.objects.mesh import Mesh
from vpog.objects.rendering import render
from vpog.views import view_directions, view_rotations

SIZE, PATCH = 64, 16
K = np.array([[250.0, 0, 31.5], [0, 250, 31.5], [0, 0, 1]])
CORNERS = np.array([[x, y, z] for x in (-40, 40) for y in (-30, 30) for z in (-20, 20)], np.float32)
QUADS = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))
BOX = Mesh(
    CORNERS,
    np.array([t for a, b, c, d in QUADS for t in ((a, b, c), (a, c, d))]),
    (128 + 3 * CORNERS).clip(0, 255).astype(np.uint8),
)


def pose(rotation, z=420.0):
    out = np.eye(4)
    out[:3, :3], out[2, 3] = rotation, z
    return out


@pytest.fixture(scope="module")
def sample():
    directions = view_directions(0)
    query = pose(view_rotations(0)[7] @ Rotation.from_euler("xyz", [0.1, 0.15, 0.2]).as_matrix())
    from_query = directions @ -query[2, :3]
    views = np.array([from_query.argmax(), from_query.argmin()])
    poses = np.stack([query, *(pose(view_rotations(0)[view]) for view in views)])
    cameras = np.tile(K, (3, 1, 1))
    seen = render(BOX, poses, cameras, (SIZE, SIZE))
    return Sample(
        np.ascontiguousarray(seen.rgb.transpose(0, 3, 1, 2)),
        seen.mask,
        seen.depth_mm,
        cameras,
        poses,
        directions[views[0]],
        views,
        np.array([0, 1]),
        np.eye(3),
        K,
        Instance("toy", 0, 0, 0, 5, 0.83, 107.7),
        0,
    )


@pytest.fixture(scope="module")
def batch(sample):
    return collate([sample])


@pytest.fixture(scope="module")
def labels(batch):
    return labels_of_batch(batch, LabelRules(patch_size=PATCH))


def has_color(picture, color, tolerance=0):
    return bool((np.abs(picture.astype(int) - np.array(color)).max(-1) <= tolerance).any())


def test_a_group_drawn_from_a_batch_is_that_of_its_sample(sample, batch):
    from_sample, from_batch = group_of_sample(sample), group_of_batch(batch, 0)
    np.testing.assert_array_equal(from_sample.pictures, sample.images.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(draw_group(from_sample, 64), draw_group(from_batch, 64))
    assert from_sample.angles_deg[0] < 25
    assert from_sample.angles_deg[1] > 150
    assert draw_group(from_sample, 192, PATCH).shape[1] > 4 * 192


def test_directions_lie_as_far_from_the_middle_as_their_angle(sample):
    group = group_of_sample(sample)
    picture = draw_directions(group, 388)
    far = np.argwhere((picture == (210, 80, 60)).all(-1)).mean(0)
    px_per_deg = (388 / 2 - 14) / 180
    assert np.hypot(*(far - 193.5)) == pytest.approx(group.angles_deg[1] * px_per_deg, abs=1)


def test_label_colours_follow_the_class_of_each_patch():
    image = np.zeros((32, 32, 3), np.uint8)
    picture = draw_labels(image, np.array([[-1, 0], [4, 3]]), 16)
    assert picture[8, 8].tolist() == [0, 0, 0]
    for (row, column), color in {(8, 24): MATCHED, (24, 24): MATCHED, (24, 8): UNMATCHED}.items():
        np.testing.assert_allclose(picture[row, column], 0.45 * np.array(color), atol=1)
    with pytest.raises(ValueError, match="a grid of 2 x 2 patches does not fill a picture of 33 x 32 px"):
        draw_labels(np.zeros((33, 32, 3), np.uint8), np.zeros((2, 2), int), 16)


def test_the_network_s_choices_are_judged_by_colour():
    labels = np.array([[0, 4], [2, 4]])
    probabilities = np.eye(5)[[0, 4, 1, 3]]
    picture = draw_classification(np.zeros((32, 32, 3), np.uint8), probabilities, labels, 16)
    centres = {(8, 8): MATCHED, (8, 24): RIGHT_UNMATCHED, (24, 8): WRONG_PLACE, (24, 24): UNMATCHED}
    assert {place: tuple(picture[place].tolist()) for place in centres} == centres


def test_a_grid_has_lines_between_patches_only():
    picture = draw_patch_grid(np.zeros((48, 48, 3), np.uint8), 16)
    assert np.flatnonzero(picture[5, :, 0]).tolist() == [16, 32]
    assert np.flatnonzero(picture[:, 5, 0]).tolist() == [16, 32]


def test_hues_tell_directions_and_saturation_lengths():
    flow = np.array([[[1.0, 0], [-1, 0], [0, 0], [0.5, 0], [9, 9]]])
    valid = np.array([[True, True, True, True, False]])
    picture = flow_to_hues(flow, valid, 1.0)
    assert picture[0].tolist() == [[255, 0, 0], [0, 255, 255], [255] * 3, [255, 128, 128], list(ABSENT)]
    wheel = color_wheel(65)
    assert wheel[32, 64].tolist() == [255, 0, 0]
    assert wheel[32, 0].tolist() == [0, 255, 255]
    assert draw_hue_flow(flow, valid).shape[1] > wheel.shape[1]


def test_flow_fields_hold_without_a_valid_pixel_and_signs_have_colours():
    flow = np.array([[[-1.0, 0], [1, 0], [0, 0]]])
    picture = colored_signed(flow[..., 0], np.ones((1, 3), bool), 1.0)
    assert picture[0].tolist() == [[40, 90, 200], [200, 50, 40], [255, 255, 255]]
    nothing = draw_flow_fields(flow, np.zeros((1, 3), bool), 4)
    assert has_color(nothing, ABSENT)
    assert has_color(draw_flow_fields(flow, np.ones((1, 3), bool), 4), (200, 50, 40))


def test_a_dense_patch_lands_where_its_flow_says():
    query = np.zeros((32, 32, 3), np.uint8)
    flow, visible = np.zeros((16, 16, 2)), np.zeros((16, 16), bool)
    visible[8, 15] = True
    picture = draw_dense_patch(query, query, 3, 0, flow, visible, side=192)
    landing = picture[:, -198:]
    assert has_color(landing, flow_to_hues(np.array([[[7.5, 0.5]]]), np.ones((1, 1), bool), 8.0)[0, 0], 2)
    row, column = np.argwhere(landing.max(-1).astype(int) - landing.min(-1) > 60).mean(0)
    # the patch's centre is pixel 8 of 16, after half a patch around it, six times enlarged, below the caption
    assert column == pytest.approx(enlarged_points(np.array([[16.0, 16.0]]), 6)[0, 0], abs=2)
    assert row - 24 == pytest.approx(enlarged_points(np.array([[16.0, 16.0]]), 6)[0, 1], abs=2)


def test_lines_join_the_given_points_and_the_least_sure_are_left_out():
    black = np.zeros((64, 64, 3), np.uint8)
    points = np.array([[10.0, 10], [50, 50]])
    picture = draw_correspondences(black, black, points, points[:, ::-1].copy(), np.array([0.1, 0.9]), 64, most=1)
    assert picture[50, 50].tolist() == picture[50, 64 + 12 + 50].tolist()
    assert picture[50, 50].max() > 200
    assert picture[10, 10].tolist() == [0, 0, 0]
    none = draw_correspondences(black, black, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), 64)
    np.testing.assert_array_equal(none[:64, :64], black)


def test_labels_rebuild_the_query_from_its_template(sample, labels):
    group = group_of_sample(sample)
    picture = draw_label_check(group, labels, 0, 0, SIZE)
    cells = [picture[24 : 24 + SIZE, 6 + i * (SIZE + 6) : 6 + i * (SIZE + 6) + SIZE] for i in range(5)]
    rebuilt = cells[2].astype(int)
    is_set = rebuilt.max(-1) > 0
    assert is_set.sum() > 100
    apart = np.abs(rebuilt - group.pictures[0])[is_set]
    assert np.median(apart) < 25
    assert np.median(np.abs(rebuilt[:, ::-1] - group.pictures[0])[is_set[:, ::-1]]) > 2 * np.median(apart)
    np.testing.assert_array_equal(cells[1], group.pictures[1])
    assert draw_dense_label(group, labels, 0).shape[1] > 4 * 192


def test_labels_without_a_match_give_an_empty_check(sample, labels):
    unseen = torch.where(labels.patch_cls >= 0, labels.patch_cls[0, 0].numel(), -1)
    nothing = replace(
        labels,
        patch_cls=unseen,
        pairs=labels.pairs[:0],
        dense_flow=labels.dense_flow[:0],
        dense_visibility=labels.dense_visibility[:0],
    )
    picture = draw_label_check(group_of_sample(sample), nothing, 0, 0, SIZE)
    rebuilt = picture[24 : 24 + SIZE, 6 + 2 * (SIZE + 6) : 6 + 2 * (SIZE + 6) + SIZE]
    assert (rebuilt == 0).all()


def test_right_probabilities_are_called_right(sample, labels):
    group = group_of_sample(sample)
    patch_cls = labels.patch_cls[0].numpy()
    patches = patch_cls[0].size
    probabilities = torch.nn.functional.one_hot(torch.from_numpy(patch_cls).clamp(min=0).flatten(1), patches + 1)
    picture = draw_matching(group, probabilities.double().numpy(), patch_cls, 64)
    assert has_color(picture, MATCHED)
    assert has_color(picture, RIGHT_UNMATCHED)
    assert not has_color(picture, WRONG_PLACE)
    assert not has_color(picture, UNMATCHED)


def test_axes_start_at_the_origin_and_point_along_the_object_s_axes():
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture = draw_axes(black, pose(np.eye(3), 400.0), K, 40.0)
    red = np.argwhere((picture[..., 0] > 150) & (picture[..., 1] < 120))
    green = np.argwhere((picture[..., 1] > 150) & (picture[..., 0] < 120))
    assert red[:, 1].max() == pytest.approx(31.5 + 25, abs=2)  # 40 mm * 250 px / 400 mm to the right
    assert green[:, 0].max() == pytest.approx(31.5 + 25, abs=2)
    np.testing.assert_array_equal(draw_axes(black, pose(np.eye(3), 10.0) @ pose(np.eye(3), -40.0), K, 40.0), black)


def test_outlines_enclose_the_silhouette_and_leave_the_input_as_it_is():
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    true, estimated = pose(np.eye(3)), pose(Rotation.from_euler("z", 20, degrees=True).as_matrix())
    picture = draw_pose(image, PosedMesh(BOX, true, TRUTH), K, axes=False)
    drawn = np.argwhere((picture != 90).any(-1))
    mask = np.argwhere(render(BOX, true[None], K[None], (SIZE, SIZE)).mask[0])
    np.testing.assert_allclose(drawn.min(0), mask.min(0), atol=1)
    np.testing.assert_allclose(drawn.max(0), mask.max(0), atol=1)
    assert (image == 90).all()
    both = draw_poses(image, [PosedMesh(BOX, true, TRUTH), PosedMesh(BOX, estimated)], K, axes=False)
    assert has_color(both, TRUTH, 60)
    assert has_color(both, PREDICTION, 60)
    assert draw_case(image, BOX, K, true, estimated, "case").shape[1] == 4 * (SIZE + 6) + 6
    assert not has_color(draw_case(image, BOX, K, true, None, "case"), PREDICTION, 30)


def test_of_crossing_objects_the_nearest_shows_at_each_pixel_whichever_origin_is_nearer():
    slab = Mesh(CORNERS * np.float32([2.5, 1, 0.2]), BOX.faces, np.full((8, 3), (255, 0, 0), np.uint8))
    cube = Mesh(CORNERS / np.float32([4, 3, 2]), BOX.faces, np.full((8, 3), (0, 255, 0), np.uint8))
    leaning = pose(Rotation.from_euler("y", 45, degrees=True).as_matrix(), 420.0)  # its left end is the far one
    before_its_end = pose(np.eye(3), 435.0)
    before_its_end[0, 3] = -30.0
    black = np.zeros((SIZE, SIZE, 3), np.uint8)
    posed = [PosedMesh(slab, leaning), PosedMesh(cube, before_its_end)]
    picture = draw_poses(black, posed, K, axes=False, fill=1.0)
    assert picture[31, 14, 1] > 100  # the cube, whose origin is the farther one: -30 mm * 250 px / 435 mm + 31.5 px
    assert picture[31, 14, 0] == 0
    assert picture[31, 40, 0] > 100
    np.testing.assert_array_equal(draw_poses(black, [], K, fill=1.0), black)


def test_enlarged_pixels_keep_their_centres_and_patches_theirs():
    assert enlarge(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), 3).shape == (6, 6, 3)
    np.testing.assert_array_equal(enlarged_points(np.array([[0.0, 1]]), 4), [[1.5, 5.5]])
    np.testing.assert_array_equal(patch_centres(2, 3, 16)[4], [24, 24])
