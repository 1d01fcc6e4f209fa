"""Published weight files: the right ones fit exactly, others are told apart."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from posecore.errors import InputError
from vpog.config.model import ModelConfig
from vpog.model.build import build_network
from vpog.model.croco_decoder import CrocoDecoder
from vpog.model.croco_encoder import CrocoEncoder
from vpog.model.cross_decoder import CrossDecoder

KWARGS = {"enc_embed_dim": 32, "enc_depth": 1, "enc_num_heads": 2, "dec_num_heads": 1, "pos_embed": "RoPE100"}


def public_layout() -> dict[str, Any]:
    """A small file just as the public ones are."""
    torch.manual_seed(5)
    state = CrocoEncoder(32, 1, 2, 16).state_dict() | CrocoDecoder(32, 16, 1, 1).state_dict()
    painting = {
        "mask_token": torch.zeros(1, 1, 16),
        "prediction_head.weight": torch.randn(768, 16),
        "prediction_head.bias": torch.zeros(768),
    }
    return {"model": dict(state) | painting, "croco_kwargs": dict(KWARGS)}


def configured(path: Path, encoder: dict[str, Any] | None = None, decoder: dict[str, Any] | None = None) -> ModelConfig:
    settings = {
        "img_size": 64,
        "encoder": {"dim": 32, "depth": 1, "heads": 2, "weights": str(path)} | (encoder or {}),
        "decoder": {"kind": "croco_cross", "dim": 16, "depth": 1, "heads": 1, "weights": str(path)} | (decoder or {}),
        "heads": {"hidden": 16, "proj": 8, "flow_hidden": 16},
    }
    return ModelConfig.from_dict(settings)


def stored(folder: Path, content: Any) -> Path:
    path = folder / "CroCo_V2.pth"
    torch.save(content, path)
    return path


def test_encoder_and_decoder_take_the_files_numbers_and_the_licence_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = public_layout()
    torch.manual_seed(9)
    with caplog.at_level(logging.WARNING):
        net = build_network(configured(stored(tmp_path, content)))
    assert isinstance(net.decoder, CrossDecoder)
    for module in (net.encoder, net.decoder.croco):
        for name, value in module.state_dict().items():
            assert torch.equal(value, content["model"][name]), name
    assert caplog.text.count("CC BY-NC-SA 4.0") == 1


def test_a_checkpoints_network_is_built_without_the_published_files(tmp_path: Path) -> None:
    build_network(configured(tmp_path / "gone.pth"), load_weights=False)
    with pytest.raises(InputError, match=r"model.encoder.weights .*gone.pth: no such file; it should be CroCo_V2"):
        build_network(configured(tmp_path / "gone.pth"))


def broken(content: dict[str, Any], how: str) -> Any:
    model: dict[str, Tensor] = content["model"]
    if how == "v1":
        del content["croco_kwargs"]
        model["enc_pos_embed"] = torch.zeros(16, 32)
    elif how == "no kwargs":
        del content["croco_kwargs"]
    elif how == "no model":
        return {"state_dict": model}
    elif how == "cosine":
        content["croco_kwargs"]["pos_embed"] = "cosine"
    elif how == "heads":
        content["croco_kwargs"]["enc_num_heads"] = 4
    elif how == "missing":
        del model["enc_blocks.0.attn.qkv.bias"]
    elif how == "shape":
        model["enc_norm.weight"] = torch.ones(33)
    elif how == "unexpected":
        model["enc_blocks.1.norm1.weight"] = torch.ones(32)
    elif how == "strange":
        model["head.weight"] = torch.ones(2)
    return content


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("v1", "key croco_kwargs: missing, so this is a CroCo v1 file; take v2"),
        ("no kwargs", "key croco_kwargs: missing, so this is no CroCo v2 file"),
        ("no model", "key model: missing; this is no CroCo checkpoint"),
        ("cosine", "croco_kwargs.pos_embed 'cosine': should be 'RoPE100'"),
        ("heads", "croco_kwargs.enc_num_heads 4: model.encoder.heads is 2"),
        ("missing", "enc_blocks.0.attn.qkv.bias: missing"),
        ("shape", "enc_norm.weight: has shape (33,), the model needs (32,)"),
        ("unexpected", "enc_blocks.1.norm1.weight: not part of the model"),
        ("strange", "model: head: no part of a CroCo v2 network"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, how: str, told: str) -> None:
    path = stored(tmp_path, broken(public_layout(), how))
    with pytest.raises(InputError) as caught:
        build_network(configured(path))
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_too_small_for_the_weights_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "CroCo_V2.pth"
    path.write_text("<html>please log in</html>")
    with pytest.raises(InputError, match=r"26 bytes cannot hold these weights"):
        build_network(configured(path))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = stored(tmp_path, public_layout() | {"args": Path("of a class")})
    with pytest.raises(InputError, match="no torch file of plain tensors"):
        build_network(configured(path))


def dino(weights: str | None, size: int, name: str = "vit_small_patch14_dinov2.lvd142m") -> ModelConfig:
    settings = {
        "img_size": size,
        "patch_size": 14,
        "encoder": {"kind": "dino", "name": name, "weights": weights},
        "decoder": {"dim": 32, "depth": 1, "heads": 1, "window": 2, "position": {"kind": "rope2d"}},
        "heads": {"hidden": 16, "proj": 8, "flow_hidden": 16},
    }
    return ModelConfig.from_dict(settings)


@torch.no_grad()
def test_a_dinov2_file_of_another_picture_size_becomes_an_encoder_of_patch_tokens(tmp_path: Path) -> None:
    published = build_network(dino(None, 28)).encoder.trunk
    content = {name: 1.5 * value for name, value in published.state_dict().items()}
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    torch.save(content | {"mask_token": torch.zeros(1, 384)}, path)  # as in DINOv2's own files
    larger = build_network(dino(str(path), 56))
    assert larger.encoder.image_mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert larger.encode(torch.rand(1, 3, 56, 56)).shape == (1, 16, 384)
    assert torch.equal(larger.encoder.trunk.blocks[0].mlp.fc1.weight, content["blocks.0.mlp.fc1.weight"])


def test_names_and_files_that_are_no_dinov2_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model.encoder.name vit_smal_patch14_dinov2: timm .* has no such model"):
        build_network(dino(None, 28, "vit_smal_patch14_dinov2"))
    with pytest.raises(InputError, match=r"model.encoder.weights .*none.safetensors: no such file"):
        build_network(dino(str(tmp_path / "none.safetensors"), 28))
    path = stored(tmp_path, {"cls_token": torch.zeros(1, 1, 384)})
    with pytest.raises(InputError, match=r"CroCo_V2.pth: .*missing"):
        build_network(dino(str(path), 28))
