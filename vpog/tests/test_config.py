"""The configuration: presets, the shipped schema, and what cannot be is told in one line."""

import json
from typing import Any

import pytest

from posecore.config import json_schema, load_config, preset_names
from posecore.errors import InputError
from vpog.config.run import VpogConfig
from vpog.data.groups import GroupRules
from vpog.experiment import group_rules
from vpog.selection import SelectionRules


@pytest.mark.parametrize("name", preset_names(VpogConfig.presets))
def test_every_preset_resolves_and_survives_being_saved(name):
    config = load_config(VpogConfig, name)
    assert VpogConfig.from_dict(json.loads(json.dumps(config.to_json_dict()))) == config


def test_the_shipped_schema_is_the_models_own():
    file = VpogConfig.presets / "vpog.schema.json"
    assert json.loads(file.read_text()) == json_schema(VpogConfig), "run: make schemas"


def test_every_preset_names_the_schema_for_editors():
    for file in VpogConfig.presets.glob("*.json"):
        if file.name != "vpog.schema.json":
            assert json.loads(file.read_text())["$schema"] == "vpog.schema.json", file.name


PUBLISHED: dict[str, dict[str, Any]] = {
    "model": {"img_size": 224, "patch_size": 16},
    "train": {
        "lr": 1e-4, "encoder_lr": 1e-5, "betas": [0.9, 0.999], "weight_decay": 0.01, "batch_size": 8,
        "warmup_steps": 1000, "floor": 0.01, "clip_norm": 1.0, "precision": "bf16",
    },
    "inference": {"kept_views": 4, "min_probability": 0.2, "iterations": 1000, "inlier_px": 4.0, "merge_deg": 10.0},
}  # fmt: skip


@pytest.mark.parametrize("name", ["base.json", "large.json"])
def test_presets_for_real_data_have_the_specified_values(name):
    config = load_config(VpogConfig, name).to_json_dict()
    found = {section: {field: config[section][field] for field in fields} for section, fields in PUBLISHED.items()}
    assert found == PUBLISHED
    assert config["loss"]["pnp"] == {"weight": 0.02, "from_step": 2000, "ramp_steps": 0}
    selection = config["data"]["selection"]
    assert [selection[n] for n in ("num_positive", "num_negative", "min_negative_angle_deg")] == [4, 2, 90.0]


def test_what_is_configured_is_what_samples_are_made_with():
    config = load_config(VpogConfig, "tiny.json", ["data.selection.num_positive=2", "data.crop_scale=1.3"])
    rules = group_rules(config, vary=True)
    assert rules == GroupRules(
        112,
        SelectionRules(num_positive=2, num_negative=1, d_ref_random_ratio=config.data.selection.d_ref_random_ratio),
        1.3,
        config.data.background,
        config.data.augmentation,
    )
    assert group_rules(config, vary=False).augmentation is None
    still = config.model_copy(update={"data": config.data.model_copy(update={"augment": False})})
    assert group_rules(still, vary=True).augmentation is None


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "images": "a", "templates": "b", **more}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model_": {}}, "model_: no such field; did you mean model?"),
    ({"train": {"learning_rate": 1}}, "train.learning_rate: no such field"),
    ({"train": {"warmup": 1}}, "train.warmup: no such field; did you mean train.warmup_steps?"),
    ({"train": {"lr": 0}}, "train.lr: input should be greater than 0, not 0"),
    ({"train": {"precision": "bf32"}}, "train.precision: input should be 'no', 'bf16' or 'fp16', not"),
    ({"train": {"steps": "many"}}, "train.steps"),
    ({"train": {"floor": 2}}, "train.floor: input should be less than or equal to 1"),
    ({"data": {"background": "blur"}}, "data.background: input should be 'keep', 'mask' or 'replace'"),
    ({"data": {"train": [{"name": "a", "images": "b"}]}}, "data.train.0.templates"),
    ({"data": {"train": [named("a", kind="coco")]}}, "kind: input should be 'shards', 'megapose' or 'bop'"),
    ({"data": {"val": [named("a"), named("a")]}}, "val: two data sets are named 'a'; give each its own name"),
    ({"data": {"train": [named("a"), named("b", weight=2)]}}, "b has a weight and a has none"),
    (
        {"data": {"selection": {"mode": "random_within_range", "range_deg": 95}}},
        "range_deg is 95.0, but min_negative_angle_deg is 90.0",
    ),
    ({"data": {"selection": {"min_negative_angle_deg": 200}}}, "min_negative_angle_deg: input should be less than"),
    ({"model": {"encoder": {"kind": "resnet"}}}, "model.encoder: "),
    ({"model": {"encoder": {"dept": 3}}}, "model.encoder.dept: no such field; did you mean model.encoder.depth?"),
    ({"loss": {"dense_kind": "l2"}}, "loss.dense_kind: input should be 'laplace', 'l1' or 'huber'"),
    ({"loss": {"label_smoothing": 1}}, "loss.label_smoothing: input should be less than 1"),
    ({"loss": {"solver": {"monte_carlo": {"num_samples": 30}}}}, "num_samples 30 is no multiple of num_rounds 4"),
    (
        {"loss": {name: {"weight": 0} for name in ("classification", "dense", "invisible", "centre", "pnp")}},
        "needs a weight above 0, or nothing is learned",
    ),
    ({"inference": {"solver": "opencv"}}, "inference.solver: input should be 'ransac' or 'epro'"),
    ({"inference": {"mode": "all"}}, "inference.mode: input should be 'cluster', 'global' or 'subset'"),
]


@pytest.mark.parametrize(("data", "expected"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_a_wrong_configuration_is_told_in_one_line(data, expected):
    with pytest.raises(InputError) as caught:
        VpogConfig.from_dict(data, "c.json")
    (line,) = caught.value.problems
    assert line.startswith("c.json: ")
    assert expected in line


def test_several_wrong_fields_are_told_at_once():
    with pytest.raises(InputError) as caught:
        VpogConfig.from_dict({"train": {"lr": -1}, "inference": {"mode": "x"}, "datas": {}}, "c.json")
    assert len(caught.value.problems) == 3
