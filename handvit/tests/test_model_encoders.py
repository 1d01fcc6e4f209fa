"""Image encoders: reading their files, their tokens, and what enters them of the camera."""

import json
import pickle
import socket

import pytest
import torch
from safetensors.torch import load_file, save_file

from handvit.config.model import BackboneConfig, ModelConfig
from handvit.model.architecture import layout_of, read_architecture, resolved
from handvit.model.attention import CrossAttention
from handvit.model.backbone import Backbone
from handvit.model.perspective import PerspCrossAttention, PerspDense, cell_centers, ray_grid
from handvit.model.pretrained import create_trunk
from posecore.errors import InputError

SIZES = {
    "dinov2": {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "patch_size": 8,
        "layerscale_value": 0.5,
    },
    "vit_mae": {
        "hidden_size": 16,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "patch_size": 8,
    },
    "swinv2": {"embed_dim": 8, "depths": [1, 2, 1], "num_heads": [1, 2, 4], "window_size": 4, "patch_size": 2},
}
KINDS = list(SIZES)
DECODER = {
    "decoder_hidden_size": 8,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 8,
}
PUBLISHED_CLASS = {"dinov2": "Dinov2Model", "vit_mae": "ViTMAEForPreTraining", "swinv2": "Swinv2ForImageClassification"}
BARE_CLASS = {"dinov2": "Dinov2Model", "vit_mae": "ViTMAEModel", "swinv2": "Swinv2Model"}
STORED = 32
"""Image size of the stored encoders, px."""


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Folders as the hub serves them: the class with its head, under the names of published files."""
    import transformers

    folders = {}
    for seed, kind in enumerate(KINDS):
        torch.manual_seed(seed)
        model_class = getattr(transformers, PUBLISHED_CLASS[kind])
        more = DECODER if kind == "vit_mae" else {}
        model = model_class(model_class.config_class(image_size=STORED, **SIZES[kind], **more))
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        folders[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folders[kind])
    return folders


def build(name, img_size=STORED, load_weights=True, layers=None, drop_cls=False, **kwargs):
    config = BackboneConfig(backbone_str=str(name), kwargs=kwargs, infusion_layer=layers, drop_cls=drop_cls)
    architecture = read_architecture(config)
    trunk = create_trunk(config, architecture, img_size, load_weights)
    return Backbone(trunk, layout_of(architecture, str(name), img_size), img_size, layers, drop_cls).eval()


def images(size=STORED):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def bare(kind, folder):
    import transformers

    options = {"mask_ratio": 0.0} if kind == "vit_mae" else {}
    return getattr(transformers, BARE_CLASS[kind]).from_pretrained(folder, **options).eval()


def in_order(out):
    """Tokens of MAE, which come shuffled, in the order of the patches."""
    order = out.ids_restore[..., None].expand(-1, -1, out.last_hidden_state.shape[-1])
    return torch.cat((out.last_hidden_state[:, :1], out.last_hidden_state[:, 1:].gather(1, order)), 1)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_published_folder_gives_the_tokens_that_transformers_gives(kind, published):
    backbone, other = build(published[kind]), bare(kind, published[kind])
    out = other(images())
    expected = in_order(out) if kind == "vit_mae" else out.last_hidden_state
    tokens = backbone(images())
    assert tokens.shape == (2, backbone.num_tokens, backbone.width)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dinov2", "vit_mae"])
def test_another_image_size_interpolates_positions_as_transformers_does(kind, published):
    tokens = build(published[kind], img_size=56)(images(56))
    options = {"interpolate_pos_encoding": True} if kind == "vit_mae" else {}
    out = bare(kind, published[kind])(images(56), **options)
    expected = in_order(out) if kind == "vit_mae" else out.last_hidden_state
    assert tokens.shape[1] == 1 + 7 * 7
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_an_image_size_that_the_stored_file_leaves_out_is_transformers_default(tmp_path):
    import transformers

    model = transformers.Dinov2Model(transformers.Dinov2Config(**SIZES["dinov2"])).eval()
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored.pop("image_size") == 224
    write(tmp_path, json.dumps(stored))
    torch.testing.assert_close(build(tmp_path)(images()), model(images()).last_hidden_state, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_swin_takes_another_image_size(published):
    """Its positions are a function of places in the window: nothing is interpolated."""
    assert build(published["swinv2"], img_size=48)(images(48)).shape == (2, 36, 32)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_lie_row_by_row(kind, published):
    """What changes most when one patch changes is the token at that patch's row and column."""
    backbone = build(published[kind])
    stride, grid = backbone.layout.stride, backbone.grid
    row, column = 1, grid - 1
    changed = images()
    changed[:, :, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride] += 3.0
    change = (backbone(changed) - backbone(images())).norm(dim=-1)[:, int(backbone.has_cls) :]
    assert (change.argmax(-1) == row * grid + column).all()


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_those_before_the_final_norm(kind, published):
    trunk = build(published[kind]).backbone
    options = {"noise": torch.linspace(0, 1, 16).expand(2, -1)} if kind == "vit_mae" else {}
    out = trunk(images(), output_hidden_states=True, **options)
    assert len(out.hidden_states) == (4 if kind != "swinv2" else len(SIZES[kind]["depths"]) + 1)
    torch.testing.assert_close(trunk.layernorm(out.hidden_states[-1]), out.last_hidden_state)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["dinov2", "vit_mae"])
def test_without_the_class_token_the_patches_stay_as_they_are(kind, published):
    whole, patches = build(published[kind])(images()), build(published[kind], drop_cls=True)(images())
    assert torch.equal(whole[:, 1:], patches)
    fused = build(published[kind], layers=(1, 2), drop_cls=True)
    assert fused(images()).shape[1] == fused.num_tokens == 16
    assert fused.projection_cls is None


@pytest.mark.parametrize(("kind", "layers"), [("dinov2", (0, 2)), ("vit_mae", (1, 2)), ("swinv2", (2, 3))])
def test_fused_layers_leave_no_parameter_without_gradient(kind, layers, published):
    backbone = build(published[kind], layers=layers).train()
    (backbone(images()) * torch.randn(2, backbone.num_tokens, backbone.width)).sum().backward()
    trained = {name: p for name, p in backbone.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []
    if kind != "swinv2":  # blocks above the last fused one are neither built nor read
        assert not any(f".{layers[-1]}." in name for name in trained if "layer." in name or "layers." in name)


@torch.no_grad()
def test_blocks_that_are_not_built_do_not_change_the_fused_tokens(published):
    short = build(published["dinov2"], layers=(1, 2))
    out = build(published["dinov2"]).backbone(images(), output_hidden_states=True)
    chosen = [out.hidden_states[layer] for layer in (1, 2)]
    maps = [h[:, 1:].mT.reshape(2, 16, 4, 4) for h in chosen]
    torch.testing.assert_close(short(images()), short.fuse([h[:, 0] for h in chosen], maps), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_resolved_configuration_needs_no_folder(published):
    model = ModelConfig(img_size=32, backbone={"backbone_str": str(published["dinov2"])})
    stored = build(published["dinov2"])
    alone = resolved(model).backbone
    assert alone.backbone_str == "dinov2"
    assert ModelConfig.from_dict(json.loads(json.dumps(resolved(model).to_json_dict()))) == resolved(model)
    again = build(alone.backbone_str, load_weights=False, **alone.kwargs)
    again.load_state_dict(stored.state_dict())
    assert torch.equal(again(images()), stored(images()))


@torch.no_grad()
def test_fields_of_a_stored_configuration_that_mean_nothing_to_the_encoder_do_not_disturb(published, tmp_path):
    stored = json.loads((published["swinv2"] / "config.json").read_text())
    write(tmp_path, json.dumps(stored | {"path_norm": True, "id2label": {"0": "cat"}}))
    (tmp_path / "model.safetensors").write_bytes((published["swinv2"] / "model.safetensors").read_bytes())
    model = resolved(ModelConfig(img_size=32, backbone={"backbone_str": str(tmp_path)}))
    again = build(model.backbone.backbone_str, **model.backbone.kwargs)
    again.load_state_dict(build(tmp_path).state_dict())
    assert torch.equal(again(images()), build(published["swinv2"])(images()))


@torch.no_grad()
def test_absolute_positions_of_swin_fit_their_own_size_only(tmp_path):
    import transformers

    options = SIZES["swinv2"] | {"use_absolute_embeddings": True}
    transformers.Swinv2Model(transformers.Swinv2Config(image_size=STORED, **options)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"fit images of 32 px only; model\.img_size is 48"):
        build(tmp_path, img_size=48)


def broken(folder, target, change):
    state = load_file(folder / "model.safetensors")
    save_file(change(state), target / "model.safetensors", {"format": "pt"})
    (target / "config.json").write_text((folder / "config.json").read_text())


def test_incomplete_weights_are_refused_by_name(published, tmp_path):
    lost = "encoder.layer.1.mlp.fc1.weight"
    broken(published["dinov2"], tmp_path, lambda s: {k: v for k, v in s.items() if k != lost})
    with pytest.raises(InputError, match=rf"lack {lost}"):
        build(tmp_path)


def test_weights_of_something_else_are_refused_by_name(published, tmp_path):
    broken(published["dinov2"], tmp_path, lambda s: s | {"neck.weight": torch.zeros(2)})
    with pytest.raises(InputError, match=r"unknown neck\.weight"):
        build(tmp_path)


def test_weights_of_another_size_are_refused(published, tmp_path):
    broken(published["dinov2"], tmp_path, lambda s: s | {"layernorm.weight": torch.zeros(17)})
    with pytest.raises(InputError, match=r"could not be read"):
        build(tmp_path)


def test_a_damaged_file_is_refused(published, tmp_path):
    (tmp_path / "config.json").write_text((published["dinov2"] / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match=r"could not be read"):
        build(tmp_path)


class Foreign:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a weights file was run')",))


def test_code_in_a_weights_file_is_not_run(published, tmp_path):
    (tmp_path / "config.json").write_text((published["dinov2"] / "config.json").read_text())
    torch.save({"layernorm.weight": Foreign()}, tmp_path / "pytorch_model.bin", pickle_module=pickle)
    with pytest.raises(InputError, match=r"could not be read"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none", r"no such folder; should be a folder with config\.json"),
        (lambda folder: folder, r"config\.json is missing"),
        (
            lambda folder: write(folder, '{"model_type": "bert"}'),
            r"model_type 'bert'; known are dinov2, vit_mae, swinv2",
        ),
        (lambda folder: write(folder, "{"), r"not valid JSON"),
        (lambda folder: write(folder, '{"model_type": "dinov2"}'), r"has no weights; one of model\.safetensors"),
    ],
)
def test_a_folder_that_is_no_model_says_what_is_wrong(make, message, tmp_path):
    with pytest.raises(InputError, match=message):
        build(make(tmp_path), img_size=28)


def write(folder, text):
    (folder / "config.json").write_text(text)
    return folder


@pytest.mark.parametrize("name", ["facebook/dinov2-small", "someone/unheard-of"])
def test_offline_a_hub_name_is_an_error_and_not_a_download(name, monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=name):
        build(name, img_size=224)


def test_an_image_size_that_is_no_multiple_of_the_token_is_refused(published):
    with pytest.raises(InputError, match="img_size 36 is no multiple of 8"):
        build(published["dinov2"], img_size=36)


def test_rays_are_those_through_the_cells_first_index_along_x():
    box, focal, center = torch.tensor([[10.0, 20, 26, 36]]), torch.tensor([[50.0, 40]]), torch.tensor([[18.0, 8]])
    rays = ray_grid(cell_centers(4), box, focal, center)
    x, y = 10 + 16 * (3 + 0.5) / 4, 20 + 16 * (1 + 0.5) / 4
    direction = torch.tensor([(x - 18) / 50, (y - 8) / 40, 1.0])
    torch.testing.assert_close(rays[0, 3, 1], (direction / direction.norm())[:2])


CAMERA = (torch.tensor([[0.0, 0, 64, 64]] * 3), torch.full((3, 2), 80.0), torch.tensor([[32.0, 30]] * 3))


@torch.no_grad()
@pytest.mark.parametrize("fusion", ["cls", "patch", "all"])
@pytest.mark.parametrize("has_cls", [True, False])
def test_dense_rays_reach_the_tokens_they_are_meant_for(fusion, has_cls):
    if fusion == "cls" and not has_cls:
        with pytest.raises(ValueError, match="needs a class token"):
            PerspDense(8, has_cls, 2, fusion)
        return
    tokens = torch.randn(3, 5, 8)
    before = tokens.clone()
    embedder = PerspDense(8, has_cls, 2, fusion).eval()
    moved = ((embedder(tokens, *CAMERA) - tokens).abs().sum(-1) > 0).all(0).tolist()
    cls_moves = fusion in ("cls", "all") or not has_cls
    assert moved == [cls_moves] + [fusion != "cls"] * 4
    assert torch.equal(tokens, before)


@torch.no_grad()
def test_attended_rays_change_nothing_in_a_new_network():
    tokens = torch.randn(3, 5, 8)
    assert torch.equal(PerspCrossAttention(8, 5, 2, 2, 4)(tokens, *CAMERA), tokens)


@pytest.mark.parametrize("queries", [1, 3])
def test_few_queries_attend_without_projecting_the_context_and_nothing_else_changes(queries):
    attention = CrossAttention(12, 10, num_head=3, dim_head=8, dropout=0.0)
    x, context = torch.randn(2, queries, 12), torch.randn(2, 20, 10, requires_grad=True)
    query = attention.split(attention.to_q(x))
    key, value = map(attention.split, attention.to_kv(context).chunk(2, -1))
    expected, answer = attention.attend(query, key, value), attention(x, context)
    torch.testing.assert_close(answer, expected, rtol=1e-5, atol=1e-6)
    for one, other in zip(
        torch.autograd.grad(answer.square().sum(), (context, attention.to_kv.weight)),
        torch.autograd.grad(expected.square().sum(), (context, attention.to_kv.weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
