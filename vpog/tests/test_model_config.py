"""What is told of configurations that make no network."""

from typing import Any

import pytest

from posecore.errors import InputError
from vpog.config.model import JointDecoderConfig, ModelConfig


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"img_size": 225}, "img_size 225 is no multiple of patch_size 16"),
        ({"decoder": {"window": 5}}, "decoder.window 5 does not divide the grid of img_size / patch_size = 14"),
        (
            {"decoder": {"position": {"px": 13, "py": 13}}},
            "px 13, py 13, ps 2 make 2 (px + py + 6 ps) = 76 channels, but a head has decoder.dim / decoder.heads = 64; "
            "px 10, py 10, ps 2 would fit",
        ),
        ({"decoder": {"position": {"px": 13, "py": 13, "ps": 1}}}, "ps"),
        ({"decoder": {"heads": 5}}, "decoder.dim 768 should be a multiple of 4 times decoder.heads 5"),
        ({"encoder": {"heads": 7}}, "encoder.dim 768 should be a multiple of 4 times encoder.heads 7"),
        ({"encoder": {"stem": "conv", "weights": "CroCo.pth"}}, "encoder.weights CroCo.pth needs encoder.stem patch"),
        (
            {"patch_size": 28, "encoder": {"stem": "conv"}, "decoder": {"window": 8}},
            "patch_size 28 should be a multiple",
        ),
        ({"encoder": {"kind": "dino"}}, "patch_size 16 should be 14, that of encoder.name vit_base_patch14_dinov2"),
        (
            {"decoder": {"position": {"kind": "rotation_block", "channels": 20}}},
            "decoder.position.channels 20 should be a multiple of 3",
        ),
        ({"decoder": {"windows": 7}}, "did you mean"),
    ],
)
def test_a_network_that_cannot_be_is_told_with_both_fields(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as caught:
        ModelConfig.from_dict(settings)
    assert told in str(caught.value)


def test_the_defaults_are_the_base_preset() -> None:
    config = ModelConfig()
    assert config.grid == (14, 14)
    assert isinstance(config.decoder, JointDecoderConfig)
    assert config.decoder.head_dim == 64


def test_a_configuration_survives_its_json() -> None:
    settings = {"img_size": 224, "patch_size": 14, "encoder": {"kind": "dino"}, "decoder": {"window": 8}}
    config = ModelConfig.from_dict(settings)
    assert ModelConfig.from_dict(config.to_json_dict()) == config
