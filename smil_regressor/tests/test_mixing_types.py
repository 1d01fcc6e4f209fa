"""Each of several data sets is a file of the kind that its `type` says; dropped labels are told."""

import logging

import pytest

from posecore.errors import InputError
from smil_regressor.config import SmilConfig
from smil_regressor.data.mixing import open_run_data


def mixture(path, kind, **more):
    dataset = {"name": "a", "path": str(path), "type": kind}
    return SmilConfig.from_dict(
        {
            "mode": "multiview",
            "model": {"backbone_name": "tiny_vit", "pretrained": False},
            "multi_dataset": {"enabled": True, "datasets": [dataset]},
            "dataset": {"split_by": "frame"},
            **more,
        }
    )


@pytest.mark.parametrize("kind", ["auto", "sleap", "replicant"])
def test_a_multi_view_file_is_of_every_type_but_the_single_view_one(insects_file, insect, kind):
    assert len(open_run_data(mixture(insects_file, kind), insect).whole)


def test_a_file_of_the_other_kind_than_its_type_is_refused(insects_file, insect):
    with pytest.raises(InputError, match="is a multi-view file, but type is optimized_hdf5; use auto"):
        open_run_data(mixture(insects_file, "optimized_hdf5"), insect)


@pytest.mark.parametrize("verbose", [True, False])
def test_dropped_labels_are_told_if_asked(insects_file, insect, caplog, verbose):
    config = mixture(insects_file, "auto", ignored_joints={"ignored_joint_names": ["b_h"], "verbose": verbose})
    with caplog.at_level(logging.INFO, logger="smil_regressor"):
        open_run_data(config, insect)
    assert ("the labels of b_h are dropped" in caplog.text) is verbose
