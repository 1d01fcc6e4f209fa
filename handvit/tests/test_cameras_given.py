"""Intrinsics that people give: matrices, fields of view, none at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handvit.cameras import Intrinsics
from posecore.errors import InputError


@given(fov=st.floats(1, 179), width=st.integers(2, 5000), height=st.integers(2, 5000))
def test_the_edges_of_the_picture_are_seen_under_the_field_of_view(fov, width, height):
    camera = Intrinsics.from_fov(fov, (width, height))
    left, right = (np.linalg.inv(camera.K) @ [x, 0, 1] for x in (-0.5, width - 0.5))
    angle = np.arctan2(-left[0], 1) + np.arctan2(right[0], 1)
    np.testing.assert_allclose(np.rad2deg(angle), fov, atol=1e-6)
    assert camera.princpt == ((width - 1) / 2, (height - 1) / 2)
    assert not camera.is_assumed


def test_without_a_camera_the_focal_length_is_assumed_and_told():
    camera = Intrinsics.assumed((640, 480))
    assert camera == Intrinsics((768.0, 768.0), (319.5, 239.5), is_assumed=True)


def test_a_matrix_comes_back_as_it_was_given():
    K = np.array([[500.0, 0, 10], [0, 700, -20], [0, 0, 1]])
    np.testing.assert_array_equal(Intrinsics.from_matrix(K).K, K)


WRONG = {
    "skew": (np.array([[500.0, 1, 10], [0, 700, 20], [0, 0, 1]]), "has a skew or no 1 at its end; undistort"),
    "scaled": (np.diag([500.0, 500, 2]), "has a skew or no 1 at its end; undistort"),
    "nan": (np.diag([np.nan, 500, 1]), r"K has shape \(3, 3\); a finite 3 x 3 matrix is needed"),
    "2 x 2": (np.eye(2), r"K has shape \(2, 2\); a finite 3 x 3 matrix is needed"),
    "negative": (np.diag([500.0, -500, 1]), "focal length 500, -500 px; it has to be above 0"),
}


@pytest.mark.parametrize("case", list(WRONG))
def test_a_matrix_that_is_no_camera_is_told(case):
    K, message = WRONG[case]
    with pytest.raises(InputError, match=f"^intrinsics: .*{message}"):
        Intrinsics.from_matrix(K)


@pytest.mark.parametrize("fov", [0.0, -10.0, 180.0, float("nan")])
def test_a_field_of_view_that_no_lens_has_is_told(fov):
    with pytest.raises(InputError, match="degrees; a horizontal field of view between 0 and 180 is needed"):
        Intrinsics.from_fov(fov, (640, 480))
