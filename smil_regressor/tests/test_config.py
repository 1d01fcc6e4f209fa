"""The configuration: the original's files load unchanged and resolve to what the original made of them."""

import json

import numpy as np
import pytest

from posecore.config import json_schema, load_config, preset_names
from posecore.errors import InputError
from smil_regressor.config import SmilConfig

SOURCES = ["seed_example", "multiview_sticks", "singleview_baseline", "minimal_multiview", "minimal_singleview"]
OURS = {
    "smal_model": {"smal_data_file"},
    "dataset": {"split_by"},
    "model": {
        *("pretrained", "pretrained_path", "decoder_context", "rot6d_convention", "separate_limbs"),
        *("start_from_mean_pose", "fused_in_patches", "camera_dropout"),
    },
    "training": {
        *("max_steps", "warmup_steps", "ema_decay", "validate_every", "log_every", "trackers", "devices", "nodes")
    },
}


def original_view(config: SmilConfig) -> dict:
    """The resolved configuration without the fields that the original does not have."""
    data = config.to_json_dict()
    del data["losses"]
    for section, names in OURS.items():
        for name in names:
            del data[section][name]
    return data


def known_part(source: dict) -> dict:
    """The `partial` source holds two unknown keys, which the original ignores and we refuse."""
    source = json.loads(json.dumps(source))
    source.pop("unknown_section", None)
    source.get("model", {}).pop("not_a_field", None)
    return source


@pytest.fixture(scope="module")
def stored(reference):
    return reference("configs")


@pytest.mark.parametrize("name", [*SOURCES, "partial"])
def test_an_original_file_resolves_to_the_stored_merge(stored, name, tmp_path):
    file = tmp_path / "c.json"
    file.write_text(json.dumps(known_part(json.loads(str(stored[f"{name}/input_json"])))))
    assert original_view(load_config(SmilConfig, file)) == expected_merge(stored, f"{name}/merged_json")
    flags = [
        f"{section}.{key}={json.dumps(value)}"
        for section, fields in json.loads(str(stored["cli_overrides_json"])).items()
        for key, value in fields.items()
        if value is not None
    ]
    overridden = load_config(SmilConfig, file, flags)
    assert original_view(overridden) == expected_merge(stored, f"{name}__cli/merged_json")


def expected_merge(stored: dict, key: str) -> dict:
    expected = json.loads(str(stored[key]))
    if expected["mode"] == "singleview":  # the original has no such field in this mode; ours only has no use for it
        expected["output"].setdefault("singleview_visualizations_dir", "multiview_singleview_renders")
    return expected


@pytest.mark.parametrize("name", [*SOURCES, "partial"])
def test_rates_weights_and_widths_follow_the_stored_schedule(stored, name):
    config = SmilConfig.from_dict(known_part(json.loads(str(stored[f"{name}/input_json"]))))
    assert config.model.hidden_width == stored[f"{name}/hidden_dim"]
    names = [str(n) for n in stored[f"{name}/names"]]
    for row, epoch in enumerate(stored["epochs"].tolist()):
        assert config.learning_rate(epoch) == pytest.approx(stored[f"{name}/lr"][row], rel=1e-12)
        for with_mode, key in [(True, "weights"), (False, "weights_curriculum_only")]:
            weights = config.loss_weights(epoch, with_mode)
            found = [weights.get(n, np.nan) for n in names]
            np.testing.assert_allclose(found, stored[f"{name}/{key}"][row], rtol=1e-12)


def test_the_original_unknown_keys_are_errors_with_a_suggestion(stored):
    with pytest.raises(InputError) as caught:
        SmilConfig.from_dict(json.loads(str(stored["partial/input_json"])), "partial.json")
    assert len(caught.value.problems) == 2
    assert any("model.not_a_field: no such field" in line for line in caught.value.problems)


@pytest.mark.parametrize("name", preset_names(SmilConfig.presets))
def test_every_preset_resolves_and_survives_being_saved(name):
    config = load_config(SmilConfig, name)
    assert SmilConfig.from_dict(json.loads(json.dumps(config.to_json_dict()))) == config


def test_the_shipped_schema_is_the_models_own():
    file = SmilConfig.presets / "smil.schema.json"
    assert json.loads(file.read_text()) == json_schema(SmilConfig), "run: make schemas"


WRONG = [
    ({}, "mode: is missing and has no default"),
    ({"mode": "stereo"}, "mode: input should be 'singleview' or 'multiview', not \"stereo\""),
    ({"mode": "multiview", "trainings": {}}, "trainings: no such field; did you mean training?"),
    (
        {"mode": "multiview", "model": {"backbone": "x"}},
        "model.backbone: no such field; did you mean model.backbone_name?",
    ),
    (
        {"mode": "multiview", "training": {"batch_size": 0}},
        "training.batch_size: input should be greater than 0, not 0",
    ),
    ({"mode": "multiview", "optimizer": {"lr_schedule": {"ten": 1e-4}}}, "optimizer.lr_schedule.ten"),
    ({"mode": "multiview", "dataset": {"train_ratio": 0.9, "val_ratio": 0.2}}, "add up to 1.2; at most 1 is possible"),
    (
        {"mode": "multiview", "loss_curriculum": {"base_weights": {"keypoints_2d": 1}}},
        "loss_curriculum.base_weights.keypoints_2d: no such loss term; did you mean keypoint_2d?",
    ),
    (
        {"mode": "singleview", "cross_attention_heads": 4},
        "cross_attention_heads: only in mode multiview, but mode is singleview",
    ),
    ({"mode": "multiview", "num_views_to_use": 1}, "num_views_to_use is 1, fewer than min_views_per_sample 2"),
    (
        {"mode": "singleview", "dataset": {"frame_convention": "camera_centric"}},
        "frame_convention camera_centric needs dataset.from_multiview true",
    ),
    ({"mode": "multiview", "smal_model": {"shape_family": 1}}, "smal_model.smal_data_file must name the file"),
    ({"mode": "multiview", "multi_dataset": {"enabled": True}}, "multi_dataset.datasets holds no enabled dataset"),
    ({"mode": "multiview", "augmentation": {"gaussian_blur_kernel_range": [3, 6]}}, "odd numbers are needed"),
    (
        {"mode": "multiview", "training": {"batch_size": 6, "gradient_accumulation_steps": 4}},
        "it must be a multiple of devices x nodes x gradient_accumulation_steps = 4",
    ),
    (
        {"mode": "multiview", "model": {"rgb_only": True}, "loss_curriculum": {"base_weights": {"silhouette": 1}}},
        "model.rgb_only reads no masks",
    ),
]


@pytest.mark.parametrize(("data", "expected"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_a_wrong_configuration_is_told_in_one_line(data, expected):
    with pytest.raises(InputError) as caught:
        SmilConfig.from_dict(data, "c.json")
    (line,) = caught.value.problems
    assert line.startswith("c.json: ")
    assert expected in line
