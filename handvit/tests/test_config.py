"""The configuration: presets hold the published values, and what cannot be is told in one line."""

import json
from typing import Any

import pytest

from handvit.config import HandvitConfig
from posecore.config import json_schema, load_config, preset_names
from posecore.errors import InputError


@pytest.mark.parametrize("name", preset_names(HandvitConfig.presets))
def test_every_preset_resolves_and_survives_being_saved(name):
    config = load_config(HandvitConfig, name)
    assert HandvitConfig.from_dict(json.loads(json.dumps(config.to_json_dict()))) == config


def test_the_shipped_schema_is_the_models_own():
    file = HandvitConfig.presets / "handvit.schema.json"
    assert json.loads(file.read_text()) == json_schema(HandvitConfig), "run: make schemas"


def test_every_preset_names_the_schema_for_editors():
    for file in HandvitConfig.presets.glob("*.json"):
        if file.name != "handvit.schema.json":
            assert json.loads(file.read_text())["$schema"] == "handvit.schema.json", file.name


PUBLISHED = {
    "general": {"total_step": 100_000, "log_step": 10, "vis_step": 100, "checkpoint_step": 3000, "warmup_step": 5000,
                "dropout_warmup_step": 10_000, "cosine_cycle": 0.4},
    "model": {"stage": 1, "num_frame": 1, "img_size": 224, "joint_type": "6d", "norm_by_hand": True},
    "train": {"lr": 1e-4, "backbone_lr": 1e-5, "sample_per_device": 32, "grad_accum_step": 1, "max_grad": 1.0,
              "weight_decay": 1e-4, "mixed_precision": "bf16", "expansion_ratio": 2.0},
}  # fmt: skip


@pytest.mark.parametrize("name", ["stage1.json", "dinov2-large.json"])
def test_the_first_stage_has_the_published_values(name):
    config = load_config(HandvitConfig, name).to_json_dict()
    found = {section: {field: config[section][field] for field in fields} for section, fields in PUBLISHED.items()}
    assert found == PUBLISHED
    weights = config["loss"]["weights"]
    assert [weights[term] for term in ("theta", "shape", "rel", "img")] == [3.0, 3.0, 0.012, 0.002]


def test_the_second_stage_takes_six_clips_of_seven_frames_for_half_as_many_steps():
    config = load_config(HandvitConfig, "stage2.json")
    assert (config.model.stage, config.model.num_frame, config.train.sample_per_device) == (2, 7, 6)
    assert config.general.total_step == 50_000
    temporal = config.model.temporal_encoder
    assert (temporal.kind, temporal.num_layer, temporal.trope_scalar, temporal.zero_linear) == ("last", 2, 20.0, True)


@pytest.mark.parametrize(("norm", "weight"), [(True, 0.05), (False, 0.001)])
def test_the_root_counts_less_where_it_is_in_millimetres(norm, weight):
    config = load_config(HandvitConfig, "dinov2-large.json" if norm else "dinov2-large-no-norm.json")
    assert config.model.norm_by_hand is norm
    assert config.loss.published_weights(norm)["trans"] == weight


@pytest.mark.parametrize("base", ["dinov2-large", "dinov2-base", "mae-large", "swinv2-large"])
def test_presets_without_norm_by_hand_differ_in_nothing_else(base):
    config, other = (load_config(HandvitConfig, f"{base}{end}.json").to_json_dict() for end in ("", "-no-norm"))
    assert config["model"].pop("norm_by_hand") is True
    assert other["model"].pop("norm_by_hand") is False
    assert config == other


def test_all_names_of_the_original_sections_are_accepted():
    HandvitConfig.from_dict(
        {
            "general": {
                "total_step": 10, "log_step": 1, "vis_step": 2, "checkpoint_step": 5, "warmup_step": 1,
                "dropout_warmup_step": 1, "cosine_cycle": 0.4, "seed": 3,
            },
            "train": {
                "lr": 1e-4, "backbone_lr": None, "sample_per_device": 2, "grad_accum_step": 2, "max_grad": 1.0,
                "weight_decay": 0.0, "mixed_precision": "fp16", "expansion_ratio": 1.5,
            },
            "model": {
                "stage": 2, "num_frame": 7, "img_size": 224, "joint_type": "quaternion", "norm_by_hand": True,
                "backbone": {"backbone_str": "facebook/dinov2-base", "infusion_layer": [2, 5, 8, 11], "drop_cls": True,
                             "kwargs": {"drop_path_rate": 0.1}},
                "handec": {"num_layer": 6},
                "persp_info_embed": {"type": "dense", "num_sample": 8, "pie_fusion": "patch"},
                "temporal_encoder": {"num_layer": 2, "num_head": 8, "trope_scalar": 20.0, "zero_linear": True},
            },
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    "weights",
    [
        {"theta": 2.81, "shape": 1.38, "trans": 0.123, "rel": 0.000305, "img": 0.00512},
        {"kind": "grouped", "lambda_param": 1.0, "lambda_rel": 0.0001, "lambda_proj": 0.001},
    ],
)
def test_both_published_groupings_of_loss_weights_are_accepted(weights):
    config = HandvitConfig.from_dict({"loss": {"weights": weights}})
    terms = config.loss.term_weights("softargmax3d", True)
    assert {"theta", "shape", "trans", "rel", "img"} <= terms.keys()


MULTIBIN = {"kind": "patch_uv_rho_multibin"}
STAGE_2 = {"stage": 2, "num_frame": 7}
KIND = {"backbone_str": "dinov2", "kwargs": {"patch_size": 8}}
ONE, TWO = {"name": "a", "shards": "x"}, {"name": "b", "shards": "y", "weight": 2.0}

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"generals": {}}, "generals: no such field; did you mean general?"),
    ({"train": {"learning_rate": 1}}, "train.learning_rate: no such field"),
    ({"train": {"backbone_learning": 1}}, "train.backbone_learning: no such field; did you mean train.backbone_lr?"),
    ({"train": {"lr": 0}}, "train.lr: input should be greater than 0, not 0"),
    ({"train": {"mixed_precision": "bf32"}}, "train.mixed_precision: input should be 'no', 'bf16' or 'fp16', not"),
    ({"general": {"cosine_cycle": 0.7}}, "general.cosine_cycle: input should be less than or equal to 0.5, not 0.7"),
    ({"general": {"total_step": "many"}}, "general.total_step"),
    ({"model": {"joint_type": "euler"}}, "model.joint_type: input should be '6d', 'axis_angle' or 'quaternion'"),
    ({"model": {"stage": 3}}, "model.stage: input should be 1 or 2, not 3"),
    ({"model": {"num_frame": 7}}, "stage 1 sees single frames: num_frame should be 1, not 7, or stage be 2"),
    ({"model": {"stage": 2, "num_frame": 1}}, "stage 2 needs clips: num_frame should be 2 or more"),
    (
        {"model": {"handec": {"translation": MULTIBIN}}},
        "norm_by_hand true goes with handec.translation.kind softargmax3d only, not with patch_uv_rho_multibin",
    ),
    ({"model": {"img_size": 225}}, "img_size 225 is no multiple of 14"),
    ({"model": {"img_size": 100, "backbone": KIND}}, "img_size 100 is no multiple of 8"),
    ({"model": {"backbone": {"backbone_str": "dinov2"}}}, "backbone_str dinov2 is a kind without sizes"),
    ({"model": {"backbone": {"infusion_layer": [4, 2]}}}, "infusion_layer [4, 2] should be a rising list of layers"),
    ({"model": {"backbone": {"kwargs": {"image_size": 64}}}}, "kwargs.image_size cannot be given: model.img_size"),
    (
        {"model": {"backbone": {"drop_cls": True}, "persp_info_embed": {"type": "dense", "pie_fusion": "cls"}}},
        "persp_info_embed.pie_fusion cls needs the class token that backbone.drop_cls drops",
    ),
    ({"loss": {"velocity": 0.1}}, 'loss.velocity is 0.1: it needs loss.frames "all", not "last"'),
    (
        {"loss": {"frames": "all"}, "model": STAGE_2},
        'loss.frames is "all", but model.temporal_encoder.kind last answers for the last frame of a clip only',
    ),
    (
        {"loss": {"frames": "all", "velocity": 0.1}},
        "loss.velocity is 0.1: it needs clips of 2 frames or more, but model.num_frame is 1",
    ),
    (
        {
            "loss": {"frames": "all", "acceleration": 0.1},
            "model": {"stage": 2, "num_frame": 2, "temporal_encoder": {"kind": "causal"}},
        },
        "loss.acceleration is 0.1: it needs clips of 3 frames or more, but model.num_frame is 2",
    ),
    (
        {"loss": {"supervise_global": False, "weights": {"rel": 0}}},
        "loss.supervise_global false keeps only the term rel, whose weight in loss.weights is 0",
    ),
    ({"general": {"stage1_path": "runs/a"}}, "general.stage1_path is for model.stage 2"),
    (
        {"general": {"stage1_path": "runs/a", "weights_path": "runs/b"}, "model": STAGE_2},
        "general.stage1_path and general.weights_path both name where the run begins; give one",
    ),
    ({"data": {"train": {"datasets": [ONE, TWO]}}}, "b has a weight and a has none; give all of them one, or none"),
    ({"data": {"val": {"datasets": [ONE, ONE]}}}, "two are named 'a'; give each its own name"),
    ({"data": {"val": {"clips_per_sequence": 2}}}, "clips_per_sequence is 2, but sampling is dense"),
    ({"data": {"train": {"depth_bins": True, "datasets": [TWO]}}}, "depth_bins is true, but datasets.b has a weight"),
    ({"data": {"train": {"filter": {"min_valid_joints": 22}}}}, "min_valid_joints: input should be less than or equal"),
    ({"train": {"augmentation": {"focal_scale": [1.1, 0.9]}}}, "the smaller bound comes first"),
    ({"train": {"augmentation": {"depth_scale": [0.9, 1.1]}}}, "both change the depth; one of them must be [1, 1]"),
    ({"train": {"augmentation": {"pixels": {"gaussian_blur": {"kernel_size": 4}}}}}, "an odd number has a middle"),
    ({"hand": {"tips": "mano"}}, "hand.tips: input should be 'smplx'"),
]


@pytest.mark.parametrize(("data", "expected"), WRONG, ids=[text[:40] for _, text in WRONG])
def test_a_wrong_configuration_is_told_in_one_line(data, expected):
    with pytest.raises(InputError) as caught:
        HandvitConfig.from_dict(data, "c.json")
    (line,) = caught.value.problems
    assert line.startswith("c.json: ")
    assert expected in line


def test_several_wrong_fields_are_told_at_once():
    with pytest.raises(InputError) as caught:
        HandvitConfig.from_dict({"train": {"lr": -1}, "model": {"joint_type": "x"}, "datas": {}}, "c.json")
    assert len(caught.value.problems) == 3
