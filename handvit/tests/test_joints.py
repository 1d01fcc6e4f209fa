"""Joint orders against each other, the reference and smplx."""

from collections.abc import Callable

import numpy as np
import pytest
from smplx.vertex_ids import vertex_ids

from handvit.joints import (
    CANONICAL_TO_HO3D,
    FINGERTIPS,
    INTERHAND_TO_CANONICAL,
    JOINT_NAMES,
    MANO_JOINT_NAMES,
    MANO_PARENTS,
    MANO_TO_CANONICAL,
    MIDDLE_CHAIN,
    PARENTS,
    WRIST,
)

Reference = Callable[[str], dict[str, np.ndarray]]
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
MANO_AND_TIPS = (*MANO_JOINT_NAMES, *(f"{finger}4" for finger in FINGERS))


def gather(names: tuple[str, ...], order: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(names[i] for i in order)


def test_manos_joints_and_tips_gathered_are_the_canonical_ones() -> None:
    assert gather(MANO_AND_TIPS, MANO_TO_CANONICAL) == JOINT_NAMES


def test_canonical_joints_gathered_for_ho3d_are_manos_joints_and_tips() -> None:
    assert gather(JOINT_NAMES, CANONICAL_TO_HO3D) == MANO_AND_TIPS


def test_interhands_joints_run_from_the_tip_to_the_base_and_end_with_the_wrist() -> None:
    theirs = (*(f"{finger}{i}" for finger in FINGERS for i in (4, 3, 2, 1)), "wrist")
    assert gather(theirs, INTERHAND_TO_CANONICAL) == JOINT_NAMES


@pytest.mark.parametrize(("names", "parents"), [(JOINT_NAMES, PARENTS), (MANO_JOINT_NAMES, MANO_PARENTS)])
def test_a_joints_parent_is_the_joint_before_it_on_its_finger(names: tuple[str, ...], parents: tuple[int, ...]) -> None:
    assert parents[WRIST] == -1
    for name, parent in zip(names[1:], parents[1:], strict=True):
        finger, number = name[:-1], int(name[-1])
        assert names[parent] == ("wrist" if number == 1 else f"{finger}{number - 1}")


def test_the_middle_chain_is_the_middle_finger() -> None:
    assert gather(JOINT_NAMES, MIDDLE_CHAIN) == ("middle1", "middle2", "middle3", "middle4")


def test_the_default_fingertips_are_those_of_smplx() -> None:
    theirs = vertex_ids["mano"]
    assert FINGERTIPS["smplx"] == tuple(theirs[finger] for finger in FINGERS)


def test_orders_and_fingertips_are_those_of_the_reference(reference: Reference) -> None:
    arrays = reference("mano_forward")
    assert tuple(arrays["openpose_order"].tolist()) == MANO_TO_CANONICAL
    for name in ("smplx", "manopth_right", "manopth_left", "freihand", "ho3d"):
        assert FINGERTIPS[name] == tuple(arrays[f"tips_ids_{name}"].tolist()), name
