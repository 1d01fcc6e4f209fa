"""Exports predict what their checkpoints predict."""

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from handvit import export_onnx
from handvit.assembly import HAND_FILE, build_hand, hand_facts
from handvit.cli import app
from handvit.config import HandvitConfig
from handvit.export import export
from handvit.export_graphs import CAMERA
from handvit.model.build import build_network
from handvit.model.prediction import HandInput
from handvit.posing import pose_hands
from handvit.predict import Predictor
from handvit.task import SYSTEM
from posecore.bodymodel import read_model, write_model
from posecore.config import load_config
from posecore.errors import InputError, RunError
from posecore.training.checkpoints import save_checkpoint

DINOV2 = '{"hidden_size":16,"num_hidden_layers":2,"num_attention_heads":2,"mlp_ratio":2,"patch_size":16}'
MAE = '{"hidden_size":16,"num_hidden_layers":2,"num_attention_heads":2,"intermediate_size":32,"patch_size":16}'
SWINV2 = '{"embed_dim":8,"depths":[1,1],"num_heads":[1,2],"window_size":4,"patch_size":8}'
SMALL = (
    f"model.backbone.kwargs={DINOV2}",
    "model.img_size=32",
    "model.handec.num_layer=1",
    "model.backbone.infusion_layer=null",
    "model.handec.translation.num_bins=[16,16,16]",
)
HEADS = {
    kind: (*SMALL[:4], "model.norm_by_hand=false", f"model.handec.translation.kind={kind}")
    for kind in ("xy_rootz_multibin", "patch_uv_rho_multibin", "log_depth")
}
OTHERS = {
    "mae, rays attended": (*SMALL, "model.backbone.backbone_str=vit_mae", f"model.backbone.kwargs={MAE}",
                           "model.persp_info_embed.type=ca"),
    "swinv2": (*SMALL, "model.backbone.backbone_str=swinv2", f"model.backbone.kwargs={SWINV2}"),
    "fused layers, no class token": (*SMALL, "model.backbone.infusion_layer=[1,2]", "model.backbone.drop_cls=true"),
    "axis-angle offsets": (*SMALL, "model.joint_type=axis_angle", "model.pose_mean=relative"),
    "quaternions": (*SMALL, "model.joint_type=quaternion"),
}  # fmt: skip
STAGE_2 = (*SMALL, "model.stage=2", "model.num_frame=4")


def run_of(folder, *settings, seed=0):
    """A run folder with a random network: none of its parameters is zero, so every part has a say."""
    torch.manual_seed(seed)
    config = load_config(HandvitConfig, HandvitConfig.presets / "tiny.json", list(settings))
    hand = build_hand(config)
    network = build_network(config.model, mean_rotations=hand.mean_rotations())
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    facts = hand_facts(hand, embedded=config.hand.mano_path is None)
    stored = {"config": config.to_json_dict(), "facts": facts.to_dict()}
    weights = network.state_dict()
    save_checkpoint(
        folder, system=SYSTEM, system_version="0.1.0", step=1, epoch=1, weights=weights, state={}, config=stored
    )
    return folder


@pytest.fixture(scope="module")
def mano_file(tmp_path_factory):
    """The stand-in as a file that does not say what it is: all that a licensed hand differs in here."""
    file = tmp_path_factory.mktemp("hand") / "MANO_RIGHT.npz"
    body = build_hand(HandvitConfig()).body
    body.label = None
    write_model(body, file)
    assert read_model(file).label is None
    return file


def handvit(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def hands_of(checkpoint):
    picture = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    boxes = [[20.0, 15, 70, 75], [50, 30, 110, 80]]
    return Predictor.load(checkpoint, device="cpu")(picture, boxes, ["right", "left"], 60.0)


def test_a_folder_of_safetensors_predicts_identically(tmp_path):
    run = run_of(tmp_path / "run", *SMALL)
    done = handvit("export", "--checkpoint", run, "--output", tmp_path / "exported")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["files"] == ["meta.json", "model.safetensors"]
    ours, theirs = hands_of(tmp_path / "exported"), hands_of(run)
    for name in ("pose", "betas", "translation_mm", "vertices_mm", "joints_px", "score"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))


def test_an_export_carries_its_hand_model(tmp_path, mano_file):
    mine = tmp_path / "mine.npz"
    shutil.copy(mano_file, mine)
    run = run_of(tmp_path / "run", *SMALL, f"hand.mano_path={mine}")
    done = export(run, tmp_path / "exported")
    assert done["files"] == [HAND_FILE, "meta.json", "model.safetensors"]
    before = hands_of(run)
    mine.unlink()
    np.testing.assert_array_equal(hands_of(tmp_path / "exported").vertices_mm, before.vertices_mm)
    with pytest.raises(InputError, match="hand model was not found"):
        hands_of(run)


def test_an_export_does_not_overwrite(tmp_path):
    run = run_of(tmp_path / "run", *SMALL)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        export(run, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--part", "temporal"), "safetensors holds the whole network"),
        (("--part", "temporal", "--format", "onnx"), "is of stage 1 and has no temporal encoder"),
        (("--format", "onnx", "--output", "folder"), "its name ends in .onnx"),
        (("--mano", "other.npz", "--format", "onnx"), "was trained with the embedded stand-in"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line(words, message, tmp_path):
    run = run_of(tmp_path / "run", *SMALL)
    done = handvit("export", "--checkpoint", run, "--output", tmp_path / "net.onnx", *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def session_of(file):
    return onnx("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])


def onnx(name="onnx"):
    """The module, where all that an export needs is installed."""
    pytest.importorskip("onnxscript", reason="needs the extra: handvit[onnx]")
    return pytest.importorskip(name, reason="needs the extra: handvit[onnx]")


def assert_network_agrees(run, file, count=5):
    """The file's answers to a batch of another size than any that it was checked with are the predictor's."""
    predictor = Predictor.load(run, device="cpu")
    picture = np.random.default_rng(1).integers(0, 255, (120, 160, 3), np.uint8)
    boxes = [[20.0 + 9 * i, 15 + 4 * i, 80 + 9 * i, 90 + 3 * i] for i in range(count)]
    request = predictor.request(picture, boxes, "right", 70.0)
    batch = predictor.batch(request)
    frames = vars(batch.network_input())
    session = session_of(file)
    names = [entry.name for entry in session.get_inputs()]
    given = {name: frames[name][:, 0].numpy() for name in names}
    found = dict(zip([x.name for x in session.get_outputs()], session.run(None, given), strict=True))
    hands = predictor(picture, boxes, "right", 70.0)
    np.testing.assert_allclose(found["rotations"], hands.rotations, atol=2e-5)
    np.testing.assert_allclose(found["betas"], hands.betas, atol=1e-5)
    np.testing.assert_allclose(found["root_mm"], hands.root_mm, rtol=1e-4, atol=0.02)
    np.testing.assert_allclose(found["hand_size_mm"], hands.hand_size_mm, rtol=1e-5)
    return found, hands


@pytest.fixture(scope="module")
def exported(tmp_path_factory, mano_file):
    """A run, its ONNX file, and what the command said."""
    onnx()
    folder = tmp_path_factory.mktemp("exported")
    run = run_of(folder / "run", *SMALL, f"hand.mano_path={mano_file}")
    done = handvit("export", "--checkpoint", run, "--output", folder / "net.onnx", "--format", "onnx")
    assert done.exit_code == 0, done.output
    return run, folder / "net.onnx", json.loads(done.stdout)


def test_onnx_gives_the_predictors_hands_for_any_number_of_them(exported):
    run, file, said = exported
    assert said["largest_relative_difference"] < 1e-4
    assert sorted(path.name for path in file.parent.iterdir()) == ["net.onnx", "run"]
    assert_network_agrees(run, file)


def test_the_mesh_of_mano_does_not_hide_in_the_file(exported):
    _, file, said = exported
    assert said["outputs"] == ["rotations", "betas", "root_mm", "hand_size_mm"]
    assert said["hand"].startswith("MANO, not inside")
    assert not constants_with_an_axis(file, 778)


def constants_with_an_axis(file, length):
    """Names of an ONNX file's constants that have an axis of this length."""
    return [c.name for c in onnx().load(str(file)).graph.initializer if length in c.dims]


def test_a_file_that_differs_is_not_kept_and_an_older_one_stays(exported, mano_file, tmp_path, monkeypatch):
    run = run_of(tmp_path / "run", *SMALL, f"hand.mano_path={mano_file}", seed=1)
    (tmp_path / "net.onnx").write_bytes(b"older")
    another_networks = exported[1].read_bytes()
    monkeypatch.setattr(export_onnx, "_write", lambda graph, file: file.write_bytes(another_networks))
    with pytest.raises(RunError, match="ONNX differs from PyTorch by"):
        export(run, tmp_path / "net.onnx", "onnx")
    assert (tmp_path / "net.onnx").read_bytes() == b"older"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "run"]


@pytest.mark.slow  # some seconds each: the exporter traces the whole network
@pytest.mark.parametrize("kind", [*HEADS, *OTHERS])
def test_every_kind_of_network_can_be_exported_with_the_stand_ins_mesh(kind, tmp_path):
    onnx()
    run = run_of(tmp_path / "run", *({**HEADS, **OTHERS}[kind]))
    said = export(run, tmp_path / "net.onnx", "onnx")
    assert said["largest_relative_difference"] < 1e-4
    assert said["hand"].startswith("stand-in")
    found, hands = assert_network_agrees(run, tmp_path / "net.onnx")
    np.testing.assert_allclose(found["joints_cam_mm"], hands.joints_mm, rtol=1e-4, atol=0.02)
    np.testing.assert_allclose(found["vertices_cam_mm"], hands.vertices_mm, rtol=1e-4, atol=0.02)
    assert constants_with_an_axis(tmp_path / "net.onnx", 778)


@pytest.mark.slow  # as above
@pytest.mark.parametrize(("kind", "has_mesh"), [("last", False), ("causal", True)])
def test_network_and_temporal_step_together_are_the_network_on_whole_clips(kind, has_mesh, tmp_path, mano_file):
    onnx()
    hand = () if has_mesh else (f"hand.mano_path={mano_file}",)
    run = run_of(tmp_path / "run", *STAGE_2, f"model.temporal_encoder.kind={kind}", *hand)
    for part in ("network", "temporal"):
        said = export(run, tmp_path / f"{part}.onnx", "onnx", part)
        assert said["largest_relative_difference"] < 1e-4
        assert ("vertices_cam_mm" in said["outputs"]) == has_mesh
    loaded = Predictor.load(run, device="cpu").loaded
    for clips, count in ((3, 4), (2, 2)):
        frames = clips_of(loaded.network.img_size, clips, count)
        single = {name: getattr(frames, name).flatten(0, 1).numpy() for name in ("patches", *CAMERA)}
        tokens = session_of(tmp_path / "network.onnx").run(["tokens"], single)[0].reshape(clips, count, -1)
        last = {name: getattr(frames, name)[:, -1].numpy() for name in CAMERA}
        given = last | {"tokens": tokens, "timestamp_ms": frames.timestamp_ms.numpy()}
        found = session_of(tmp_path / "temporal.onnx").run(["rotations", "betas", "root_mm", "hand_size_mm"], given)
        with torch.no_grad():
            wanted = loaded.network(frames)
            posed = pose_hands(loaded.hand, wanted, norm_by_hand=True)
        theirs = (wanted.rotations, wanted.betas, posed.root_mm, posed.hand_size_mm)
        for name, ours, tensor in zip(("R", "b", "mm", "mm"), found, theirs, strict=True):
            np.testing.assert_allclose(ours, tensor[:, 0].numpy(), rtol=1e-4, atol=0.02 if name == "mm" else 2e-5)


def clips_of(side, clips, count):
    """Random clips with their cameras."""
    g = torch.Generator().manual_seed(5)
    low = 50 + 100 * torch.rand(clips, count, 2, generator=g)
    size = 80 + 60 * torch.rand(clips, count, 2, generator=g)
    return HandInput(
        patches=torch.rand(clips, count, 3, side, side, generator=g),
        patch_bbox=torch.cat([low - 40, low + 180], -1),
        hand_bbox=torch.cat([low, low + size], -1),
        focal=300 + 100 * torch.rand(clips, count, 2, generator=g),
        princpt=100 + 40 * torch.rand(clips, count, 2, generator=g),
        timestamp_ms=40.0 * torch.arange(count).expand(clips, -1),
    )
