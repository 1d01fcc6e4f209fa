"""The procedural insect is a sound mesh and a sound body model file."""

import numpy as np
import pytest
import trimesh

from posecore.bodymodel import read_model
from smil_regressor.data.insect import insect_arrays, part_of_joint, write_insect

VARIANTS = [("simple", 19), ("full", 55)]


@pytest.mark.parametrize(("variant", "joints"), VARIANTS)
def test_its_tubes_are_closed_and_face_outwards(variant, joints):
    arrays = insect_arrays(variant)
    mesh = trimesh.Trimesh(arrays["v_template"], arrays["f"], process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert all(tube.volume > 0 for tube in mesh.split())
    assert len(arrays["J_names"]) == len(set(arrays["J_names"])) == joints


@pytest.mark.parametrize(("variant", "joints"), VARIANTS)
def test_every_vertex_follows_at_most_two_bones_with_weights_that_sum_to_one(variant, joints):
    weights = insect_arrays(variant)["weights"]
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert (weights > 0).sum(1).max() == 2
    # a ring at a joint belongs half to the bone before it
    assert (weights.max(0) > 0.49).all(), "a joint moves next to nothing"


@pytest.mark.parametrize(("variant", "joints"), VARIANTS)
def test_left_and_right_mirror_each_other(variant, joints):
    arrays = insect_arrays(variant)
    names, places = arrays["J_names"], arrays["J"]
    for name in (n for n in names if n.endswith("_l")):
        other = places[names.index(name[:-2] + "_r")]
        np.testing.assert_allclose(places[names.index(name)] * [1, -1, 1], other, atol=1e-6)


@pytest.mark.parametrize("pose_blend", [False, True])
def test_the_written_file_reads_back_with_the_same_names_and_joints(tmp_path, pose_blend):
    file = tmp_path / "insect.pkl"
    write_insect(file, "simple", pose_blend)
    body, arrays = read_model(file), insect_arrays("simple", pose_blend)
    assert list(body.joint_names) == arrays["J_names"]
    assert (body.num_vertices, body.num_betas, body.num_joints) == (450, 5, 19)
    np.testing.assert_allclose(body.joint_regressor @ body.template, arrays["J"], atol=1e-6)


def test_body_parts_follow_the_naming_of_smil_files():
    names = ["b_t", "b_a_3", "b_h", "l_2_ti_r", "an_1_l", "ma_r", "w_2_l", "tail_base"]
    parts = ["thorax", "abdomen", "head", "leg", "antenna", "mandible", "wing", "other"]
    assert [part_of_joint(n) for n in names] == parts
