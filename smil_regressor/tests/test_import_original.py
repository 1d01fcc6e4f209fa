import numpy as np
import pytest
import torch

from posecore.errors import InputError
from smil_regressor.model.backbone import create_backbone
from smil_regressor.model.build import BodySpec, HeadSpec, build_multi_view, build_single_view
from smil_regressor.model.original import describe_original, load_original, read_original

BODY = BodySpec(7, 3, rot6d_layout="rows", limb_mode="separate", mesh_scale="log")
HEAD = HeadSpec(hidden_dim=32, depth=2, num_heads=2, dim_head=8, mlp_dim=48)
MLP = HeadSpec(kind="mlp", hidden_dim=16)


def multi_view(head=HEAD, context="patches"):
    return build_multi_view(
        create_backbone("tiny_vit", 64),
        BODY,
        head,
        num_slots=3,
        decoder_context=context,
        fused_in_patches=False,
        camera_in_state=True,
    )


def published(model):
    """The same weights under the published names."""
    state = {}
    for name, value in model.state_dict().items():
        if name.startswith("camera_heads.layers."):
            for slot, part in enumerate(value):
                state[f"camera_heads.{slot}.{name.removeprefix('camera_heads.')}"] = part
        elif name.startswith("head."):
            inner = name.removeprefix("head.")
            is_decoder = hasattr(model.head, "pos_embedding")
            state[f"transformer_head.{inner}" if is_decoder else inner] = value
        elif name != "camera_heads.trans_scale":
            state[name.replace("backbone.trunk.", "backbone.backbone.")] = value
    if "initial" in state:
        state["regressor.bias"] = state["regressor.bias"] + state.pop("initial")[0]
    fitter = {"betas": torch.zeros(1, 3), "smal_model.shapedirs": torch.zeros(2)}
    heads = (
        {f"camera_heads.{i}.identity_6d": torch.zeros(6) for i in range(3)} if hasattr(model, "camera_heads") else {}
    )
    return state | fitter | heads


def randomised(model):
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize(
    "build",
    [
        lambda: multi_view(),
        lambda: multi_view(context="fused"),
        lambda: multi_view(MLP),
        lambda: build_single_view(create_backbone("tiny_vit", 64), BODY, HEAD),
        lambda: build_single_view(create_backbone("tiny_vit", 64), BODY, MLP),
    ],
)
def test_published_weights_come_in_under_our_names(tmp_path, build):
    torch.manual_seed(0)
    source, target = randomised(build()), build()
    torch.save({"epoch": 3, "model_state_dict": published(source), "config": {"mode": "any"}}, tmp_path / "best.pth")
    unused = load_original(target, read_original(tmp_path / "best.pth"))
    for name, value in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[name], value, msg=name)
    assert "smal_model.shapedirs" in unused
    assert all(name.startswith(("betas", "smal_model", "camera_heads")) for name in unused)


def test_sizes_are_read_from_the_tensors():
    layout = describe_original(published(multi_view()))
    assert layout.is_multi_view
    assert layout.has_decoder
    assert (layout.max_views, layout.hidden_dim, layout.depth, layout.mlp_dim) == (3, 32, 2, 48)
    assert (layout.pose_dim, layout.num_betas, layout.limb_dim, layout.context_dim) == (42, 3, 21, 64)
    assert layout.has_mesh_scale
    assert layout.decoder_context == "patches"
    assert not describe_original(published(build_single_view(create_backbone("tiny_vit", 64), BODY, MLP))).has_decoder


def test_a_published_head_with_its_own_state_loads_as_part_of_a_checkpoint(reference):
    arrays = reference("decoder_head")
    head = {k.removeprefix("param/"): torch.from_numpy(np.asarray(v)) for k, v in arrays.items() if "param/" in k}
    layout = describe_original({f"transformer_head.{k}": v for k, v in head.items()})
    assert (layout.hidden_dim, layout.pose_dim, layout.num_betas, layout.limb_dim) == (32, 330, 5, 165)


def test_weights_of_other_sizes_are_told_by_name(tmp_path):
    state = published(multi_view())
    state["view_embeddings.weight"] = torch.zeros(4, 64)
    del state["transformer_head.pose_head.bias"]
    with pytest.raises(InputError) as caught:
        load_original(multi_view(), state)
    assert caught.value.problems == (
        "published checkpoint: head.pose_head.bias: missing",
        "published checkpoint: view_embeddings.weight: (4, 64), the network has (3, 64)",
    )
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="not a checkpoint of the published model"):
        read_original(tmp_path / "other.pth")
