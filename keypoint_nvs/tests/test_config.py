"""The configuration: presets, the shipped schema, and what cannot be is told in one line."""

import json
from typing import Any

import pytest

from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.stages import loss_weights
from posecore.config import json_schema, load_config, preset_names
from posecore.errors import InputError

STAGES = {
    "tiny_autoencoder.json": "autoencoder",
    "tiny_nvs.json": "nvs",
    "tiny_keypoints.json": "keypoints",
    "tiny_joint.json": "joint",
    "zero123plus_phase1.json": "nvs",
    "zero123plus_phase2.json": "nvs",
    "zero123plus_finetune.json": "nvs",
    "zero123plus_lora.json": "nvs",
    "stablekeypoints.json": "keypoints",
    "stablekeypoints_upstream.json": "keypoints",
    "joint_frozen.json": "joint",
    "joint_shared.json": "joint",
}


def preset(name: str, *overrides: str) -> KeypointNvsConfig:
    return load_config(KeypointNvsConfig, name, list(overrides))


@pytest.mark.parametrize("name", preset_names(KeypointNvsConfig.presets))
def test_every_preset_resolves_survives_being_saved_and_trains_what_its_name_says(name):
    config = preset(name)
    assert KeypointNvsConfig.from_dict(json.loads(json.dumps(config.to_json_dict()))) == config
    assert config.stage == STAGES[name]


def test_the_shipped_schema_is_the_models_own():
    assert KeypointNvsConfig.presets is not None
    file = KeypointNvsConfig.presets / "keypoint-nvs.schema.json"
    assert json.loads(file.read_text()) == json_schema(KeypointNvsConfig), "run: make schemas"


def test_every_preset_names_the_schema_for_editors():
    assert KeypointNvsConfig.presets is not None
    for file in KeypointNvsConfig.presets.glob("*.json"):
        if file.name != "keypoint-nvs.schema.json":
            assert json.loads(file.read_text())["$schema"] == "keypoint-nvs.schema.json", file.name


PUBLISHED: dict[str, dict[str, Any]] = {
    "zero123plus_phase1.json": {
        "nvs": {"train": "attention", "drop_condition": 0.1},
        "train": {"lr": 7e-5, "warmup_steps": 1000, "steps": 50_000, "schedule": "cosine"},
        "model": {"view_px": 320, "rig": "zero123plus-v1.2"},
        "data": {"vary_condition_px": [128, 512], "background": "grey"},
    },
    "zero123plus_phase2.json": {
        "nvs": {"train": "all"},
        "train": {"lr": 5e-6, "schedule": "constant", "steps": 50_000},
    },
    "zero123plus_finetune.json": {
        "train": {"lr": 1e-5, "schedule": "restarts", "cycle_steps": 3000, "floor": 0.25, "clip_norm": 1.0, "batch_size": 6},
        "data": {"background": "white"},
    },
    "stablekeypoints.json": {
        "keypoints": {
            "num_tokens": 500, "num_keypoints": 10, "candidates": 25, "sigma": 2.0, "map_px": 128, "image_px": 512,
            "noise_t": 0, "selection": "kl", "fps_on": "original", "vote_samples": 100,
        },
        "loss": {"localisation": 100.0, "equivariance": 1000.0},
        "train": {"token_lr": 5e-3, "steps": 500, "batch_size": 4, "clip_norm": None},
        "inference": {"warps": 10, "map_px": 512, "peak": "argmax", "peak_radius": 5.0},
    },
    "stablekeypoints_upstream.json": {"keypoints": {"fps_on": "transformed", "mask_outside": False, "candidates": 25}},
    "joint_frozen.json": {
        "keypoints": {"backbone": "frozen", "train_unet": False},
        "train": {"lr": 1e-5, "token_lr": 1e-4, "weight_decay": 0.01},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_for_real_weights_have_the_published_values(name):
    config = preset(name).to_json_dict()
    found = {
        section: {field: config[section][field] for field in fields} for section, fields in PUBLISHED[name].items()
    }
    assert found == PUBLISHED[name]


def test_the_effective_batch_of_phase_1_is_that_published():
    train = preset("zero123plus_phase1.json").train
    assert train.batch_size * train.accumulation == 256


def test_a_stage_learns_from_its_own_terms_and_those_of_weight_0_are_none():
    assert loss_weights(preset("tiny_autoencoder.json")).keys() == {"reconstruction", "kl"}
    assert loss_weights(preset("tiny_nvs.json")) == {"nvs": 1.0}
    assert loss_weights(preset("tiny_keypoints.json", "loss.equivariance=0")).keys() == {"localisation"}
    assert loss_weights(preset("tiny_joint.json", "loss.point=300")).keys() == {
        "nvs", "localisation", "equivariance", "point",
    }  # fmt: skip


IMAGES = {"kind": "images", "path": "a"}
VIEWS = {"kind": "multiview", "path": "b"}
TOKENS = {"keypoints": {"multiview": None}}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"nvs": {}, "models": {}}, "models: no such field; did you mean model?"),
    ({"nvs": {"drop": 0.1}}, "nvs.drop: no such field"),
    ({"nvs": {}, "train": {"warmup": 1}}, "train.warmup: no such field; did you mean train.warmup_steps?"),
    ({"nvs": {}, "train": {"lr": 0}}, "train.lr: input should be greater than 0, not 0"),
    ({"nvs": {}, "train": {"precision": "bf32"}}, "train.precision: input should be 'no', 'bf16' or 'fp16', not"),
    ({"nvs": {}, "inference": {"guidance": 0.5}}, "inference.guidance: input should be greater than or equal to 1"),
    ({"nvs": {}, "model": {"view_px": 100}}, "view_px 100 is not a multiple of 8"),
    ({"nvs": {}, "model": {"rig": "zero123plus-v2"}}, "model.rig"),
    ({"nvs": {}, "model": {"architecture": "sdxl"}}, "model.architecture: input should be 'tiny', 'sd15', 'sd21'"),
    ({"nvs": {}, "data": {"background": [0, 0, 300]}}, "data.background"),
    ({"nvs": {}, "data": {"vary_condition_px": [512, 128]}}, "vary_condition_px (512, 128) must rise"),
    ({"nvs": {}, "data": {"train": [VIEWS, VIEWS | {"weight": 1}]}}, "b has a weight and others have none"),
    ({}, "one of autoencoder, nvs and keypoints must be set, or nothing is trained"),
    ({"autoencoder": {}, "nvs": {}}, "autoencoder is trained alone"),
    ({"nvs": {}, "data": {"train": [IMAGES]}}, "nvs needs multiview data, but data has a set of kind images"),
    ({"keypoints": {}, "data": {"val": [IMAGES]}}, "keypoints.multiview needs multiview data"),
    (TOKENS | {"data": {"train": [IMAGES, VIEWS]}}, "train: multiview and images cannot be mixed"),
    ({"keypoints": {"num_keypoints": 30}}, "num_keypoints 30 <= candidates 25 <= num_tokens 500 must hold"),
    ({"keypoints": {"num_tokens": 20}}, "num_keypoints 10 <= candidates 25 <= num_tokens 20 must hold"),
    ({"keypoints": {"backbone": "frozen"}}, "backbone frozen needs weights"),
    ({"keypoints": {"weights": "sd"}}, "backbone shared has none of its own"),
    ({"keypoints": {"subjects": 2}}, "subjects is 2: multiview triangulates one point a token"),
    ({"keypoints": {"noise_t": 1000}}, "keypoints.noise_t: input should be less than or equal to 999"),
    (TOKENS | {"loss": {"point": 300}}, "loss.point is 300.0, but keypoints.multiview is null"),
    ({"keypoints": {}, "loss": {"temporal": 1}}, "loss.temporal compares neighbouring frames; set data.frames to 2 or more"),
    ({"keypoints": {}, "loss": {"balance": "ema"}}, "needs both nvs and keypoints"),
    (
        {"nvs": {}, "model": {"rig": {"azimuth_deg": [0] * 5, "elevation_deg": [0] * 6, "fov_deg": 30, "radius": 2}}},
        "azimuth_deg has 5 angles, rows x cols makes 6 views",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "expected"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_a_wrong_configuration_is_told_in_one_line(data, expected):
    with pytest.raises(InputError) as caught:
        KeypointNvsConfig.from_dict(data, "c.json")
    line = caught.value.problems[0]
    assert line.startswith("c.json: ")
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems
    assert all("\n" not in problem for problem in caught.value.problems)


def test_several_wrong_fields_are_told_at_once():
    with pytest.raises(InputError) as caught:
        KeypointNvsConfig.from_dict({"nvs": {"min_snr": -1}, "train": {"lr": -1}, "losses": {}}, "c.json")
    assert len(caught.value.problems) == 3


def test_a_rig_of_ones_own_is_a_configuration():
    rig = {
        "azimuth_deg": [0, 90, 180, 270],
        "elevation_deg": [10] * 4,
        "fov_deg": 30,
        "radius": 2,
        "rows": 2,
        "cols": 2,
    }
    config = KeypointNvsConfig.from_dict({"nvs": {}, "model": {"rig": rig}}, "c.json")
    assert KeypointNvsConfig.from_dict(config.to_json_dict()) == config
