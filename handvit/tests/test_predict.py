"""The predictor: laws of mirrors, batches and cameras, left hands as smplx poses them, and wrong calls."""

import sys
from pathlib import Path

import numpy as np
import pytest
import smplx
import torch
import trimesh

sys.path.append(str(Path(__file__).parent))

from random_runs import SMALL, noise_picture, random_predictor

from handvit.cameras import Intrinsics
from handvit.hand import close_wrist, mirror_arrays, mirror_axis_angle, write_hand
from handvit.model.prediction import HandPrediction, Heatmap, TranslationPrediction
from handvit.predict import Hands, project_mm, root_confidence
from handvit.reposing import posed_again
from handvit.standin import standin_arrays
from posecore.errors import InputError

K = np.array([[300.0, 0, 70.5], [0, 310.0, 66.0], [0, 0, 1]])
BOXES = np.array([[20.0, 30.0, 70.0, 90.0], [60.0, 40.0, 140.0, 100.0], [5.0, 60.0, 50.0, 118.0]])
SIDES = ("right", "left", "left")
HEADS = {
    "hand sizes": (),
    "turned camera": ("train.turn_camera=true",),
    "log depth": ("model.norm_by_hand=false", "model.handec.translation.kind=log_depth"),
}


@pytest.fixture(scope="module", params=list(HEADS))
def predictor(request, tmp_path_factory):
    head = HEADS[request.param]
    settings = (*SMALL[:3], *head) if "model.norm_by_hand=false" in head else (*SMALL, *head)
    return random_predictor(tmp_path_factory.mktemp("run"), *settings)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return random_predictor(tmp_path_factory.mktemp("run"), *SMALL)


@pytest.fixture(scope="module")
def picture():
    return noise_picture(120, 160)


def same(found: Hands, expected: Hands, atol=1e-3):
    for name in ("joints_mm", "vertices_mm", "root_mm", "translation_mm", "hand_size_mm"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=atol, err_msg=name)
    for name in ("rotations", "betas", "score"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=2e-5, err_msg=name)
    np.testing.assert_allclose(found.joints_px, expected.joints_px, rtol=0, atol=1e-3)


def test_a_mirrored_picture_with_a_mirrored_camera_gives_the_mirrored_hand_of_the_other_side(predictor, picture):
    hands = predictor(picture, BOXES, SIDES, K)
    width = picture.shape[1]
    mirrored_K = K.copy()
    mirrored_K[0, 2] = width - 1 - K[0, 2]
    boxes = np.stack([width - 1 - BOXES[:, 2], BOXES[:, 1], width - 1 - BOXES[:, 0], BOXES[:, 3]], 1)
    others = ["left" if side == "right" else "right" for side in SIDES]
    mirrored = predictor(np.ascontiguousarray(picture[:, ::-1]), boxes, others, mirrored_K)
    flip = np.array([-1.0, 1.0, 1.0])
    for name in ("joints_mm", "vertices_mm"):
        found, expected = (getattr(x, name) - x.root_mm[:, None] for x in (mirrored, hands))
        np.testing.assert_allclose(
            found * flip, expected, rtol=0, atol=3e-4
        )  # differences of float32 at 1 m: steps of 1e-4
    for name in ("root_mm", "translation_mm"):
        found, expected = getattr(mirrored, name) * flip, getattr(hands, name)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(mirrored.joints_px * [-1, 1] + [width - 1, 0], hands.joints_px, rtol=0, atol=1e-3)
    np.testing.assert_allclose(mirrored.betas, hands.betas, rtol=0, atol=1e-5)
    back = mirror_axis_angle(torch.from_numpy(mirrored.pose)).numpy()
    np.testing.assert_allclose(np.cos(back), np.cos(hands.pose), rtol=0, atol=1e-4)
    np.testing.assert_allclose(back[:, 3:], hands.pose[:, 3:], rtol=0, atol=1e-4)


def test_hands_at_once_are_the_hands_one_by_one_in_any_order(predictor, picture):
    other = noise_picture(90, 70, seed=1)
    boxes = [*BOXES, [10.0, 10.0, 50.0, 60.0]]
    sides, index = [*SIDES, "right"], [0, 0, 0, 1]
    together = predictor([picture, other], boxes, sides, K, index)
    for row in range(4):
        alone = predictor([picture, other][index[row]], [boxes[row]], sides[row], K)
        same(together.rows([row]), alone)
    order = [2, 0, 3, 1]
    shuffled = predictor(
        [other, picture], [boxes[i] for i in order], [sides[i] for i in order], K, [1 - index[i] for i in order]
    )
    same(shuffled, together.rows(order))


def test_what_is_told_of_a_hand_agrees_with_its_parameters(predictor, picture):
    hands = predictor(picture, BOXES, SIDES, K)
    again = posed_again(hands.without_vertices(), predictor.loaded.hand)
    same(again, hands)
    np.testing.assert_allclose(again.pose, hands.pose, atol=1e-5)
    np.testing.assert_allclose(hands.joints_mm[:, 0], hands.root_mm, atol=1e-3)


def test_both_hands_are_those_that_smplx_poses_with_manos_files_of_both_sides(plain, picture, tmp_path):
    arrays = standin_arrays()
    write_hand(arrays, tmp_path / "MANO_RIGHT.pkl")
    write_hand(mirror_arrays(arrays), tmp_path / "MANO_LEFT.pkl")
    hands = plain(picture, BOXES, SIDES, K)
    for row, side in enumerate(SIDES):
        layer = smplx.MANO(
            str(tmp_path / f"MANO_{side.upper()}.pkl"), is_rhand=side == "right", use_pca=False, flat_hand_mean=True
        )
        pose, betas, translation = (
            torch.from_numpy(x[row, None]).float() for x in (hands.pose, hands.betas, hands.translation_mm / 1000)
        )
        posed = layer(betas=betas, global_orient=pose[:, :3], hand_pose=pose[:, 3:], transl=translation)
        np.testing.assert_allclose(1000 * posed.vertices[0].numpy(), hands.vertices_mm[row], rtol=0, atol=1e-3)
        np.testing.assert_array_equal(layer.faces, hands.faces(row))


def test_the_normals_of_both_hands_point_outward(plain, picture):
    hands = plain(picture, BOXES[:2], SIDES[:2], K)
    for row in range(2):
        closed = close_wrist(hands.vertices_mm[row], hands.faces(row))
        mesh = trimesh.Trimesh(hands.vertices_mm[row], closed, process=False)
        assert mesh.is_watertight
        assert mesh.volume > 0


def test_a_grey_picture_as_three_equal_channels_is_predicted_and_one_channel_is_refused(plain, picture):
    grey = picture[..., 0]
    hands = plain(np.stack([grey] * 3, -1), BOXES[:1])
    assert np.isfinite(hands.joints_mm).all()
    with pytest.raises(InputError, match=r"^image 0: uint8 \(120, 160\); RGB uint8 \(h, w, 3\) is needed"):
        plain(grey, BOXES[:1])


def test_a_field_of_view_is_the_camera_that_it_describes_and_none_is_told_to_be_assumed(plain, picture):
    fov = Intrinsics.from_fov(60.0, (160, 120))
    same(plain(picture, BOXES, SIDES, 60.0), plain(picture, BOXES, SIDES, fov.K), atol=1e-6)
    assert not plain(picture, BOXES, SIDES, 60.0).is_depth_assumed.any()
    assumed = plain(picture, BOXES, SIDES)
    assert assumed.is_depth_assumed.all()
    np.testing.assert_array_equal(assumed.K[0], Intrinsics.assumed((160, 120)).K)
    per_hand = plain(picture, BOXES, SIDES, np.stack([K, fov.K, K]))
    same(per_hand.rows([1]), plain(picture, BOXES[1:2], "left", fov.K))


def test_pixels_are_projected_joints_and_none_for_what_is_behind_the_camera(plain, picture):
    hands = plain(picture, BOXES, SIDES, K)
    by_hand = hands.joints_mm @ K.T
    np.testing.assert_allclose(hands.joints_px, by_hand[..., :2] / by_hand[..., 2:], atol=1e-6)
    points = np.array([[[0.0, 0, 500], [1.0, 2, 0], [3.0, 4, -500]]])
    px = project_mm(points, K[None])
    np.testing.assert_array_equal(px[0, 0], K[:2, 2])
    assert np.isnan(px[0, 1:]).all()


def test_rows_and_their_concatenation_are_the_same_hands(plain, picture):
    hands = plain(picture, BOXES, SIDES, K)
    again = Hands.concatenated([hands.rows([0]), hands.rows([1, 2])])
    assert again.handedness == SIDES
    for name, value in vars(hands).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(again, name), value, err_msg=name)
    assert hands.rows([2, 0]).handedness == ("left", "right")


def test_the_score_is_one_for_a_certain_root_and_zero_for_one_that_can_be_anywhere():
    certain = torch.full((16,), -1e4)
    certain[3] = 0
    logs = torch.stack([certain, torch.full((16,), -np.log(16.0))])[:, None]
    maps = tuple(Heatmap(logs, torch.linspace(-1, 1, 16)) for _ in range(3))
    empty = torch.zeros(2, 1, 0)
    translation = TranslationPrediction(torch.zeros(2, 1, 3), heatmaps=maps)
    prediction = HandPrediction(torch.zeros(2, 1, 16, 3, 3), empty, torch.zeros(2, 1, 10), translation, empty)
    np.testing.assert_allclose(root_confidence(prediction), [1, 0], atol=1e-6)


WRONG = {
    "box without area": (([[30.0, 30.0, 30.0, 60.0]],), r"^box 0: hand_bbox .*\[30, 30, 30, 60\]; it needs x1 < x2 and y1 < y2"),
    "box outside": (([[200.0, 30.0, 260.0, 60.0]],), r"^box 0: hand_bbox .*outside of its picture of 160 x 120 px"),
    "three numbers": (([[1.0, 2.0, 3.0]],), r"^boxes: shape \(1, 3\); \(n, 4\) with x1, y1, x2, y2 is needed"),
    "a third side": ((BOXES, ["right", "left", "both"]), r"^handedness: .*right or left is needed for each of 3 boxes"),
    "focal length 0": ((BOXES, "right", np.diag([0.0, 1, 1])), r"^intrinsics: focal length 0, 1 px; it has to be above 0"),
    "two K": ((BOXES, "right", np.stack([K, K])), r"^intrinsics: 2 matrices for 3 hands; one, or one a hand, is needed"),
    "third picture": ((BOXES, "right", K, [0, 1, 2]), r"^image_index: \[0, 1, 2\] does not fit 3 boxes in 1 images"),
}  # fmt: skip


@pytest.mark.parametrize("case", list(WRONG))
def test_a_wrong_call_is_told_in_one_line(case, plain, picture):
    arguments, message = WRONG[case]
    with pytest.raises(InputError, match=message) as caught:
        plain(picture, *arguments)
    assert len(caught.value.problems) == 1
