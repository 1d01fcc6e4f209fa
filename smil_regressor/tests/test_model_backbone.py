import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from posecore.errors import InputError
from smil_regressor.model.backbone import create_backbone

SMALL = {"tiny_vit": 64, "resnet18": 64, "unet_mobilenetv3_small_050": 64}


@pytest.fixture(scope="module", params=SMALL)
def backbone(request):
    torch.manual_seed(0)
    return create_backbone(request.param, resolution=SMALL[request.param])


def images(n=5, size=64):
    return torch.randint(0, 256, (n, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_widths_are_as_announced_and_there_are_tokens(backbone):
    features = backbone(images())
    assert features.pooled.shape == (5, backbone.feature_dim)
    assert features.tokens.shape[-1] == backbone.token_dim
    assert features.tokens.shape[1] > 1


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_the_chunk_size_does_not_change_the_features_in_training_mode(backbone, chunk):
    backbone.train()
    backbone.chunk_size = None
    whole = backbone(images())
    backbone.chunk_size = chunk
    parts = backbone(images())
    torch.testing.assert_close(parts.pooled, whole.pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts.tokens, whole.tokens, rtol=1e-4, atol=1e-5)


def test_uint8_and_float_images_give_the_same_features(backbone):
    torch.testing.assert_close(backbone(images()).pooled, backbone(images().float() / 255).pooled)


def test_a_frozen_trunk_gets_no_gradient_and_keeps_its_statistics(backbone):
    backbone.freeze()
    backbone.train()
    before = {k: v.clone() for k, v in backbone.trunk.state_dict().items()}
    assert not any(module.training for module in backbone.trunk.modules())
    features = backbone(images())
    if features.pooled.requires_grad:  # only a decoder on top of the trunk learns
        features.pooled.sum().backward()
    assert all(p.grad is None for p in backbone.trunk.parameters())
    assert all(torch.equal(v, before[k]) for k, v in backbone.trunk.state_dict().items())
    backbone.freeze(False)
    backbone(images()).tokens.square().mean().backward()
    assert any(p.grad is not None for p in backbone.trunk.parameters())
    backbone.zero_grad()


def test_an_image_of_another_size_is_refused_not_resized(backbone):
    with pytest.raises(ValueError, match=r"takes images of shape \(n, 64, 64, 3\), got \(5, 48, 64, 3\)"):
        backbone(images()[:, :48])


def test_a_residual_network_without_weights_normalises_with_its_own_statistics():
    assert create_backbone("resnet18", resolution=64).mean.tolist() == pytest.approx([0.485, 0.456, 0.406])


def test_local_weights_and_the_mean_beside_them_are_used(tmp_path):
    torch.manual_seed(3)
    source = timm.create_model("resnet18", pretrained=False)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}}))
    loaded = create_backbone("resnet18", weights=tmp_path, resolution=64)
    assert loaded.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert torch.equal(loaded.trunk.conv1.weight, source.conv1.weight)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    again = create_backbone("unet_resnet18", weights=tmp_path / "weights.pth", resolution=64)
    assert torch.equal(again.trunk.conv1.weight, source.conv1.weight)


def test_wrong_names_and_files_are_told(tmp_path):
    with pytest.raises(InputError, match="resnet50"):
        create_backbone("resnet5o", 64)
    with pytest.raises(InputError, match=r"none\.pth: no such weights file"):
        create_backbone("resnet18", weights=tmp_path / "none.pth", resolution=64)
    save_file({"conv1.weight": torch.zeros(2, 2)}, tmp_path / "wrong.safetensors")
    with pytest.raises(InputError, match="does not fit backbone resnet18"):
        create_backbone("resnet18", weights=tmp_path / "wrong.safetensors", resolution=64)
