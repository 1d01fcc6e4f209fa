"""Networks of a run: what they begin with, what is trained in them, and what an earlier stage hands on."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from keypoint_nvs.assembly import build_network, find_beginning
from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.loading import load_network
from keypoint_nvs.model.system import KeypointNvsNetwork
from posecore.config import load_config
from posecore.errors import InputError

sys.path.append(str(Path(__file__).parent))
from weight_folders import as_stable_diffusion, edit_json, save_folder, tiny_modules

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def zero123plus_folder(tmp_path_factory) -> Path:
    """In Zero123++'s layout, for input views of 32 px."""
    folder = save_folder(tmp_path_factory.mktemp("weights") / "tiny", tiny_modules(seed=3))
    (folder / "feature_extractor_vae").mkdir()
    (folder / "feature_extractor_vae" / "preprocessor_config.json").write_text('{"crop_size": 32}')
    return folder


@pytest.fixture(scope="module")
def sd_folder(tmp_path_factory) -> Path:
    """Stable Diffusion's layout and schedule."""
    return as_stable_diffusion(save_folder(tmp_path_factory.mktemp("weights") / "sd", tiny_modules(seed=4)))


@pytest.fixture(scope="module")
def vision_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "vision"
    tiny_modules(seed=5)["vision_encoder"].save_pretrained(folder)
    return folder


def config_of(settings, stage: str, *overrides: str) -> KeypointNvsConfig:
    return load_config(KeypointNvsConfig, f"tiny_{stage}.json", settings(stage, *overrides))


def built(config: KeypointNvsConfig, seed: int = 0) -> KeypointNvsNetwork:
    torch.manual_seed(seed)
    return build_network(config, find_beginning(config))


def trained_names(network: KeypointNvsNetwork) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def weights_after(folder: Path, step: int = 2) -> dict[str, torch.Tensor]:
    from posecore.training import load_checkpoint

    return load_checkpoint(folder / "checkpoints" / f"step-{step:08d}", "keypoint_nvs").weights


@pytest.mark.parametrize(
    ("stage", "changes", "expected"),
    [
        ("autoencoder", (), lambda name: name.startswith("autoencoder.vae.")),
        ("nvs", (), lambda name: name.startswith("zero123.unet.") or name == "zero123.ramp"),
        ("nvs", ("nvs.train_ramp=false",), lambda name: name.startswith("zero123.unet.")),
        (
            "nvs",
            ("nvs.train=attention",),
            lambda name: name == "zero123.ramp" or ".attn1." in name or ".attn2.to_k." in name or ".attn2.to_v." in name,
        ),
        ("nvs", ("nvs.train=lora",), lambda name: name == "zero123.ramp" or "lora_" in name),
        ("keypoints", (), lambda name: name == "keypoints.tokens"),
        (
            "keypoints",
            ("keypoints.train_unet=true",),
            lambda name: name == "keypoints.tokens" or name.startswith("zero123.unet."),
        ),
        (
            "joint",
            (),
            lambda name: name in ("keypoints.tokens", "zero123.ramp") or name.startswith("zero123.unet."),
        ),
    ],
    ids=["autoencoder", "all", "no ramp", "attention", "lora", "keypoints", "keypoints with unet", "joint"],
)  # fmt: skip
def test_each_stage_trains_what_it_says_and_nothing_else(stage, changes, expected, settings):
    network = built(config_of(settings, stage, *changes))
    names = {name for name, _ in network.named_parameters()}
    encoder_only = {name for name in names if ".vision." in name or ".unet.attn2." in name}
    assert trained_names(network) == {name for name in names - encoder_only if expected(name)}
    assert trained_names(network)


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        ("nvs", ("nvs.train=attention",)),
        ("nvs", ("nvs.train=lora", "train.warmup_steps=0")),
        ("keypoints", ()),
        ("joint", ()),
    ],
    ids=["attention", "lora", "keypoints", "joint"],
)
def test_what_is_trained_moves_and_all_else_stays_to_the_bit(stage, changes, settings, trained):
    """Against the network as it was before the first step."""
    before = {"nvs": "autoencoder"}.get(stage, "nvs")
    config = config_of(settings, stage, f"model.weights={trained(before)}", *changes)
    network = built(config, seed=0)
    begun, after = network.state_dict(), weights_after(trained(stage, *changes))
    moving = trained_names(network)
    states = ("balance.", "votes.")
    learnt = {name for name in begun if not torch.equal(begun[name], after[name]) and not name.startswith(states)}
    random_parts = {"zero123.prompt_embeds"} | {name for name in begun if name.startswith("zero123.vision.")}
    if stage == "nvs":  # begins with an autoencoder alone: the rest is random, from the run's own generator
        fixed = {name for name in begun if name.startswith("zero123.vae.")}
        assert not fixed & learnt
        return
    assert not random_parts & learnt
    assert learnt <= moving, sorted(learnt - moving)[:3]
    assert len(moving - learnt) <= 0.05 * len(moving), "some that cannot matter here stay, such as biases of keys"
    assert "keypoints.tokens" in learnt


@pytest.mark.parametrize("mode", ["attention", "lora"])
def test_a_part_of_a_unet_is_trained_while_the_rest_stays_to_the_bit(mode, zero123plus_folder, trained):
    changes = (f"model.weights={zero123plus_folder}", f"nvs.train={mode}", "train.warmup_steps=0", "train.lr=0.01")
    after = weights_after(trained("nvs", *changes))
    unet = tiny_modules(seed=3)["unet"].state_dict()
    own = {
        name.removeprefix("zero123.unet."): value for name, value in after.items() if name.startswith("zero123.unet.")
    }
    if mode == "lora":
        assert {name for name in own if "lora_" in name}
        own = {name.replace(".base_layer.", "."): value for name, value in own.items() if "lora_" not in name}
    moved = {name for name, value in unet.items() if not torch.equal(value, own[name])}
    if mode == "lora":
        assert moved == set()
        assert any(value.any() for name, value in after.items() if "lora_B" in name), "the updates begin at 0 and moved"
    else:
        assert moved
        assert all(".attn1." in n or ".attn2.to_k." in n or ".attn2.to_v." in n for n in moved), sorted(moved)[:3]


def test_a_frozen_backbone_from_a_folder_of_stable_diffusion_never_moves(settings, trained, sd_folder):
    frozen = ("keypoints.backbone=frozen", f"keypoints.weights={sd_folder}", "train.token_lr=0.01")
    run = trained("joint", *frozen)
    after = weights_after(run)
    for part in ("unet", "vae"):
        saved = tiny_modules(seed=4)[part].state_dict()
        own = {
            n.removeprefix(f"keypoints.own_{part}."): v
            for n, v in after.items()
            if n.startswith(f"keypoints.own_{part}.")
        }
        assert own.keys() == saved.keys()
        assert all(torch.equal(own[name], saved[name]) for name in saved)
    network = load_network(run, CPU).network
    assert network.keypoints is not None
    assert network.zero123 is not None
    assert network.keypoints.unet is not network.zero123.unet
    assert network.keypoints._signal == pytest.approx((1 - 0.00085) ** 0.5), "scaled-linear: the first noise level"


def test_a_run_needs_none_of_the_folders_it_began_with(settings, command, sd_folder, trained, tmp_path):
    import shutil

    moved = shutil.copytree(sd_folder, tmp_path / "sd")
    run = trained("joint", "keypoints.backbone=frozen", f"keypoints.weights={moved}")
    before = load_network(run, CPU).network.state_dict()
    shutil.rmtree(moved)
    after = load_network(run, CPU).network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_stable_diffusion_2_and_an_image_encoder_begin_novel_views(
    settings, sd_folder, vision_folder, tmp_path, trained
):
    """Published phase 1: UNet, autoencoder and empty prompt of the one, image encoder of the other, ramp i / 77."""
    import shutil

    folder = shutil.copytree(sd_folder, tmp_path / "sd2")
    edit_json(folder / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    weights = (f"model.weights={folder}", f"model.vision_weights={vision_folder}", "nvs.train=attention")
    network = built(config_of(settings, "nvs", *weights))
    model = network.zero123
    assert model is not None
    assert model.vision is not None
    sd, vision = tiny_modules(seed=4), tiny_modules(seed=5)["vision_encoder"].state_dict()
    assert all(torch.equal(value, model.unet.state_dict()[name]) for name, value in sd["unet"].state_dict().items())
    assert all(torch.equal(value, model.vision.state_dict()[name]) for name, value in vision.items())
    assert model.ramp.tolist() == pytest.approx([i / 77 for i in range(77)], abs=1e-7)
    assert model.prompt_embeds.abs().sum() > 0
    betas = torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64)
    assert torch.allclose(model.schedule.alphas_cumprod.double(), (1 - betas).cumprod(0), atol=1e-6), (
        "linear, not SD's own"
    )


def test_a_model_that_predicts_noise_cannot_begin_novel_views(settings, sd_folder, vision_folder):
    config = config_of(settings, "nvs", f"model.weights={sd_folder}", f"model.vision_weights={vision_folder}")
    with pytest.raises(InputError, match="sd predicts epsilon; novel views need a model of v_prediction"):
        find_beginning(config)


def test_stable_diffusion_alone_has_no_image_encoder(settings, sd_folder):
    with pytest.raises(InputError, match=r"sd has no image encoder; .* name one in model.vision_weights"):
        find_beginning(config_of(settings, "nvs", f"model.weights={sd_folder}"))


def test_another_unet_replaces_that_of_the_folder(settings, zero123plus_folder, tmp_path):
    other = tiny_modules(seed=9)["unet"].state_dict()
    save_file({f"unet.{name}": value for name, value in other.items()}, tmp_path / "white.safetensors")
    weights = (f"model.weights={zero123plus_folder}", f"model.unet_weights={tmp_path / 'white.safetensors'}")
    network = built(config_of(settings, "nvs", *weights))
    assert network.zero123 is not None
    assert all(torch.equal(value, other[name]) for name, value in network.zero123.unet.state_dict().items())


def test_stages_hand_their_networks_on(settings, trained):
    autoencoder, nvs, joint = (weights_after(trained(stage)) for stage in ("autoencoder", "nvs", "joint"))
    for name, value in autoencoder.items():
        if name.startswith("autoencoder.vae.") and "quant_conv" not in name:
            assert torch.equal(value, nvs[name.replace("autoencoder.", "zero123.")]), name
    assert any("quant_conv" in name for name in autoencoder), "those alone take up the size of the latents"
    for name, value in nvs.items():
        if name.startswith(("zero123.vae.", "zero123.vision.")) or name == "zero123.prompt_embeds":
            assert torch.equal(value, joint[name]), name


def test_low_rank_updates_are_merged_when_a_run_begins_another(settings, trained, zero123plus_folder):
    lora = trained(
        "nvs", f"model.weights={zero123plus_folder}", "nvs.train=lora", "train.warmup_steps=0", "train.lr=0.01"
    )
    network = built(config_of(settings, "joint", f"model.weights={lora}"))
    source = load_network(lora, CPU).network
    assert network.zero123 is not None
    assert source.zero123 is not None
    assert not any("lora_" in name for name, _ in network.named_parameters())
    x, t, context = torch.randn(1, 4, 8, 8), torch.tensor([5]), torch.randn(1, 7, 64)
    with torch.no_grad():
        merged, beside = (m.unet(x, t, encoder_hidden_states=context).sample for m in (network.zero123, source.zero123))
    torch.testing.assert_close(merged, beside, rtol=1e-4, atol=1e-5)


def test_tokens_of_an_earlier_run_go_on_with_their_votes(settings, trained):
    run = trained("keypoints")
    network, source = built(config_of(settings, "joint", f"model.weights={run}")), load_network(run, CPU).network
    assert network.keypoints is not None
    assert source.keypoints is not None
    assert network.votes is not None
    assert source.votes is not None
    assert torch.equal(network.keypoints.tokens, source.keypoints.tokens)
    assert torch.equal(network.votes.kept(4), source.votes.kept(4))


def test_another_number_of_tokens_is_told(settings, trained):
    run = trained("keypoints")
    with pytest.raises(
        InputError, match=r"has 16 tokens of width 64, this configuration 20 .*set keypoints.num_tokens to 16"
    ):
        built(config_of(settings, "joint", f"model.weights={run}", "keypoints.num_tokens=20"))


def test_the_grid_never_sees_tokens_and_without_keypoints_novel_views_are_plain_zero123plus(settings, trained, stores):
    """keypoints null: outputs and views are those of the same Zero123Plus alone, to the bit; so they are beside tokens.

    Networks of their own agree to rounding only: where their weights lie in memory changes the order of sums.
    """
    from keypoint_nvs.config.data import MultiviewData
    from keypoint_nvs.data.sources import open_source
    from keypoint_nvs.experiment import source_options
    from keypoint_nvs.held_out import held_out_batches

    weights = f"model.weights={trained('nvs')}"
    config = config_of(settings, "nvs", weights)
    plain, joint = built(config).eval(), built(config_of(settings, "joint", weights), seed=1).eval()
    source, _ = open_source([MultiviewData(path=str(stores / "val.h5"))], source_options(config))
    batch = next(held_out_batches(source, config.data, 2))
    pictures = {"cond_imgs": batch.cond_imgs, "target_imgs": batch.target_imgs, "drop_condition": 0.1}
    seeds, passes, views = batch.stored.seed, [], []
    assert plain.keypoints is None
    with torch.no_grad():
        for network, more in ((plain, {}), (joint, {"keypoint_imgs": batch.target_imgs})):
            model = network.zero123
            assert model is not None
            alone = model.training_pass(batch.cond_imgs, batch.target_imgs, seeds, 0.1)
            drawn = model.sample(batch.cond_imgs, 2, 4.0, seeds)
            beside = network(seeds, **pictures, **more)
            assert (beside.keypoints is not None) == bool(more)
            assert torch.equal(beside.nvs.v_pred, alone.v_pred)
            assert torch.equal(beside.nvs.v, alone.v)
            assert torch.equal(model.sample(batch.cond_imgs, 2, 4.0, seeds), drawn), (
                "capturing maps left nothing behind"
            )
            passes.append(alone)
            views.append(drawn)
    torch.testing.assert_close(passes[0].v_pred, passes[1].v_pred, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(views[0], views[1], rtol=1e-4, atol=1e-4)


def test_a_description_in_a_checkpoint_is_plain_json(trained):
    meta = json.loads((trained("joint") / "checkpoints" / "step-00000002" / "meta.json").read_text())
    assert meta["config"]["parts"]["main"]["name"] == "tiny"
    assert meta["config"]["parts"]["keypoints"] is None
