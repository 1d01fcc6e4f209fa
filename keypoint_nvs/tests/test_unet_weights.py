"""UNets that come as one state dict."""

import math
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from keypoint_nvs.model.architectures import architecture, build_unet
from keypoint_nvs.model.unet_weights import load_unet_weights
from posecore.errors import InputError


@pytest.fixture(scope="module")
def source() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return build_unet(architecture("tiny"))


@pytest.fixture
def target() -> UNet2DConditionModel:
    torch.manual_seed(1)
    return build_unet(architecture("tiny"))


def assert_equal(target: UNet2DConditionModel, source: UNet2DConditionModel) -> None:
    for own, other in zip(target.parameters(), source.parameters(), strict=True):
        assert torch.equal(own, other)


@pytest.mark.parametrize("prefix", ["", "unet.", "unet.unet.", "pipeline.unet."])
def test_names_may_have_something_before_them(prefix, source, target, tmp_path):
    tensors = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    beside = {"vae.encoder.conv_in.weight": torch.zeros(2)} if prefix else {}
    save_file(tensors | beside, tmp_path / "white.safetensors")
    load_unet_weights(target, tmp_path / "white.safetensors")
    assert_equal(target, source)


@pytest.mark.parametrize("suffix", [".bin", ".ckpt"])
def test_torch_files_of_tensors_are_read_also_inside_a_training_checkpoint(suffix, source, target, tmp_path):
    state = source.state_dict()
    torch.save({"state_dict": state, "epoch": 3} if suffix == ".ckpt" else state, tmp_path / f"white{suffix}")
    load_unet_weights(target, tmp_path / f"white{suffix}")
    assert_equal(target, source)


def test_half_precision_becomes_float32(source, target, tmp_path):
    save_file({name: tensor.half() for name, tensor in source.state_dict().items()}, tmp_path / "white.safetensors")
    load_unet_weights(target, tmp_path / "white.safetensors")
    assert target.conv_in.weight.dtype == torch.float32
    assert torch.equal(target.conv_in.weight, source.conv_in.weight.half().float())


def test_two_unets_in_a_file_are_told(source, target, tmp_path):
    twice = {
        f"{prefix}{name}": tensor.clone()
        for prefix in ("ema.", "unet.")
        for name, tensor in source.state_dict().items()
    }
    save_file(twice, tmp_path / "two.safetensors")
    with pytest.raises(InputError, match=r"two.safetensors: holds 2 UNets, under 'ema.', 'unet.'; must hold one"):
        load_unet_weights(target, tmp_path / "two.safetensors")


def test_a_file_without_a_unet_is_told(target, tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"time_embedding.linear_1.weight: missing"):
        load_unet_weights(target, tmp_path / "other.safetensors")


def test_a_missing_tensor_and_another_shape_are_told_by_name(source, target, tmp_path):
    state = source.state_dict()
    del state["conv_out.bias"]
    save_file(state | {"conv_in.bias": torch.zeros(31)}, tmp_path / "white.safetensors")
    with pytest.raises(InputError) as caught:
        load_unet_weights(target, tmp_path / "white.safetensors")
    assert any("conv_out.bias: missing" in problem for problem in caught.value.problems)
    assert any("conv_in.bias: has shape (31,), the model needs (32,)" in problem for problem in caught.value.problems)


def test_foreign_objects_are_not_executed(target, tmp_path):
    class Foreign:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"a": Foreign()}, tmp_path / "evil.ckpt")
    with pytest.raises(InputError, match="foreign objects are not executed"):
        load_unet_weights(target, tmp_path / "evil.ckpt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["white.safetensors", "white.bin"])
def test_a_truncated_file_is_told(name, source, target, tmp_path):
    file = tmp_path / name
    save_file(source.state_dict(), file) if name.endswith("safetensors") else torch.save(source.state_dict(), file)
    file.write_bytes(file.read_bytes()[: math.floor(file.stat().st_size / 2)])
    with pytest.raises(InputError, match=f"{name}: .*damaged"):
        load_unet_weights(target, file)


def test_other_files_are_refused_by_their_ending(target, tmp_path):
    (tmp_path / "white.onnx").touch()
    with pytest.raises(InputError, match=r"white.onnx: ends in '.onnx', must be one of .safetensors"):
        load_unet_weights(target, tmp_path / "white.onnx")
