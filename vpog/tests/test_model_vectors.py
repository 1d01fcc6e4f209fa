"""The network's parts against vectors of the public implementations."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vpog.model.croco_decoder import CrocoDecoder
from vpog.model.croco_encoder import CrocoEncoder
from vpog.model.heads import ClassificationHead, DenseHead
from vpog.model.joint_decoder import GroupLayout, JointBlock, window_angles
from vpog.model.rope import Consecutive, Rotary, rope2d, rope2d_angles
from vpog.model.rotation_block import RotationBlock
from vpog.model.s2rope import ChannelSplit, s2rope, sphere_faces, tangent_frame

CPU = torch.device("cpu")
Read = Callable[[str], dict[str, np.ndarray]]


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in arrays.items() if value.dtype.kind != "U"}


def below(vectors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in vectors.items() if key.startswith(prefix)}


def same(ours: Tensor, theirs: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("dim", [16, 32, 64])
def test_rope2d_turns_tokens_as_croco_does(reference: Read, dim: int) -> None:
    vectors = tensors(reference("croco_tiny"))
    angles = rope2d_angles(vectors[f"rope/d{dim}/pos_yx"].float(), dim)
    same(Rotary.of_angles(angles[:, None], "halves")(vectors[f"rope/d{dim}/tokens"]), vectors[f"rope/d{dim}/out"])


def load_croco(module: nn.Module, vectors: dict[str, Tensor]) -> None:
    own = module.state_dict()
    module.load_state_dict({key: value for key, value in below(vectors, "sd/").items() if key in own})


@torch.no_grad()
def test_the_encoder_gives_crocos_tokens(reference: Read) -> None:
    vectors = tensors(reference("croco_tiny"))
    encoder = CrocoEncoder(64, 2, 4, 16)
    load_croco(encoder, vectors)
    same(encoder.patch_embed(vectors["img1"]).flatten(2).mT, vectors["tok1"])
    same(encoder.enc_blocks[0](vectors["tok1"], rope2d((4, 4), 16, CPU)), vectors["enc1_block0"])
    same(encoder(vectors["img1"]), vectors["enc1"])
    same(encoder(vectors["img2"]), vectors["enc2"])


@torch.no_grad()
def test_the_cross_decoder_gives_crocos_tokens(reference: Read) -> None:
    vectors = tensors(reference("croco_tiny"))
    decoder = CrocoDecoder(64, 48, 2, 3)
    load_croco(decoder, vectors)
    x, y = decoder.decoder_embed(vectors["enc1"]), decoder.decoder_embed(vectors["enc2"])
    same(decoder.dec_blocks[0](x, y, rope2d((4, 4), 16, CPU)), vectors["dec_block0"])
    same(decoder.decode(x, y, rope2d((4, 4), 16, CPU)), vectors["dec"])


@pytest.mark.parametrize(
    ("preset", "encoder", "decoder"),
    [
        ("ViTBase_SmallDecoder", (768, 12, 12), (512, 8, 16)),
        ("ViTBase_BaseDecoder", (768, 12, 12), (768, 12, 12)),
        ("ViTLarge_BaseDecoder", (1024, 24, 16), (768, 12, 12)),
    ],
)
def test_encoder_and_decoder_hold_exactly_the_public_checkpoints_entries(
    reference: Read, preset: str, encoder: tuple[int, int, int], decoder: tuple[int, int, int]
) -> None:
    with torch.device("meta"):
        parts = [CrocoEncoder(*encoder, 16), CrocoDecoder(encoder[0], *decoder)]
    ours = {f"{name} {tuple(value.shape)}" for part in parts for name, value in part.state_dict().items()}
    width = decoder[0]
    painting = {
        f"mask_token (1, 1, {width})",
        f"prediction_head.weight (768, {width})",
        "prediction_head.bias (768,)",
    }
    assert ours | painting == {str(line) for line in reference("croco_tiny")[f"keys/{preset}"]}


@pytest.mark.parametrize("name", ["d64_auto", "d64_p10_10_2", "d48_p6_6_2", "d96_p12_12_4"])
def test_s2rope_turns_tokens_as_the_reference_does(reference: Read, name: str) -> None:
    vectors = tensors(reference("s2rope"))
    split = ChannelSplit(*vectors[f"{name}/split"].tolist())
    _, rows, columns = vectors["grid"].tolist()
    geometry = vectors["frame_dirs"], vectors["ref_dirs"], (rows, columns)
    rotary = s2rope(*geometry, split, "reference", vectors["frame_mask"])
    same(rotary(vectors[f"{name}/tokens"][:, None])[:, 0], vectors[f"{name}/out"])


def test_faces_and_their_frames_are_the_references(reference: Read) -> None:
    vectors = tensors(reference("s2rope"))
    faces = sphere_faces(vectors["ref_dirs"])
    first, second = tangent_frame(faces)
    same(faces, vectors["faces"])
    same(first, vectors["face_v"])
    same(second, vectors["face_w"])


def test_the_rotation_block_turns_channels_as_the_reference_does(reference: Read) -> None:
    vectors = tensors(reference("s2rope"))
    block = RotationBlock(vectors["so3/R"], int(vectors["so3/so3_dim"]))
    same(block(vectors["so3/x"].flatten(2, 3)), vectors["so3/out"].flatten(2, 3))


@pytest.mark.parametrize("variant", ["plain", "so3"])
@torch.no_grad()
def test_a_block_of_the_joint_decoder_gives_the_references_tokens(reference: Read, variant: str) -> None:
    vectors = below(tensors(reference("aa_block")), f"{variant}/")
    block = JointBlock(48, 3)
    block.load_state_dict(below(vectors, "sd/blocks.0."))
    windows = window_angles((4, 4), 2, 16, CPU)[:, None]
    layout = GroupLayout(
        grid=(4, 4),
        window=2,
        group_position=Consecutive(
            rope2d((4, 4), 16, CPU), None if variant == "plain" else RotationBlock(vectors["T"][..., :3, :3], 6), 16
        ),
        query_windows=Rotary.of_angles(windows, "halves").repeated(2),
        template_windows=Rotary.of_angles(nn.functional.pad(windows, (0, 0, 0, 1)), "halves").repeated(4),
        is_attended=None,
    )
    query, templates = block(vectors["q"], vectors["t"], layout)
    same(query, vectors["q_out"])
    same(templates, vectors["t_out"])


@torch.no_grad()
def test_the_classification_head_gives_the_references_logits(reference: Read) -> None:
    vectors = tensors(reference("heads_losses"))
    head = ClassificationHead(24, 20, 16)
    head.load_state_dict(below(vectors, "cls_sd/"))
    same(head(vectors["q_tokens"][:, None], vectors["t_tokens"]), vectors["logits"], 1e-5)


@torch.no_grad()
def test_the_dense_head_gives_the_references_flows_and_scales(reference: Read) -> None:
    vectors = tensors(reference("heads_losses"))
    head = DenseHead(24, (20, 16), 4)
    problems = head.load_state_dict(below(vectors, "flow_sd/"), strict=False)
    assert all(key.startswith("centre.") for key in problems.missing_keys), problems
    assert not problems.unexpected_keys
    sample, template, query, patch = (vectors[f"pack/{name}_idx"] for name in "bsqt")
    dense = head(vectors["q_tokens"][sample, query], vectors["t_tokens"][sample, template, patch])
    same(dense.flow, vectors["pred_flow"], 1e-5)
    same(dense.scale, vectors["pred_b"], 1e-5)
    torch.testing.assert_close(dense.weight, vectors["pred_w"], rtol=1e-5, atol=1e-5)
