"""Run folders of small networks that nobody trained, and pictures for them."""

import json

import numpy as np
import torch

from handvit.assembly import build_hand, hand_facts
from handvit.config import HandvitConfig
from handvit.model.build import build_network
from handvit.predict import Predictor
from handvit.task import SYSTEM
from posecore.config import load_config
from posecore.training.checkpoints import save_checkpoint

KWARGS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2, "patch_size": 16}
SMALL = (
    f"model.backbone.kwargs={json.dumps(KWARGS)}",
    "model.backbone.infusion_layer=null",
    "model.img_size=32",
    "model.handec.num_layer=1",
    "model.handec.translation.num_bins=[16,16,16]",
)
STAGE_2 = (*SMALL, "model.stage=2", "model.num_frame=4")


def random_run(folder, *settings):
    """A run folder whose network's parameters are all other than zero, so that every part has a say."""
    torch.manual_seed(0)
    config = load_config(HandvitConfig, HandvitConfig.presets / "tiny.json", list(settings))
    hand = build_hand(config)
    network = build_network(config.model, mean_rotations=hand.mean_rotations())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    facts = hand_facts(hand, embedded=config.hand.mano_path is None)
    stored = {"config": config.to_json_dict(), "facts": facts.to_dict()}
    save_checkpoint(
        folder,
        system=SYSTEM,
        system_version="0",
        step=1,
        epoch=1,
        weights=network.state_dict(),
        state={},
        config=stored,
    )
    return folder


def random_predictor(folder, *settings):
    return Predictor.load(random_run(folder, *settings), device="cpu")


def noise_picture(height, width, seed=0):
    """Smooth enough that half a pixel is no new picture, and different everywhere."""
    rng = np.random.default_rng(seed)
    grid = torch.from_numpy(rng.uniform(0, 255, (1, 3, 7, 9)))
    picture = torch.nn.functional.interpolate(grid, (height, width), mode="bicubic")[0].permute(1, 2, 0)
    return picture.clamp(0, 255).round().byte().numpy()
