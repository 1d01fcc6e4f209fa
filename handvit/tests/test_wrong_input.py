"""Wrong configurations and damaged data through the command: one clear line each, exit code 2, no traceback."""

import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from handvit.config import HandvitConfig
from handvit.hand import mirror_arrays, write_hand
from handvit.standin import standin_arrays, write_standin
from handvit.submission import read_predictions
from posecore.training import save_checkpoint

TINY = json.loads((HandvitConfig.presets / "tiny.json").read_text())
Members = dict[str, bytes]


def refused(done) -> str:
    """The one error that was told; besides it there are only lines of the log."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    return line


WRONG_CONFIGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"train.learn_rate": 4}, ["mine.json: train.learn_rate: no such field"]),
    "misspelt key": ({"model.img_sise": 64}, ["model.img_sise: no such field", "did you mean model.img_size?"]),
    "wrong type": ({"train.sample_per_device": "many"}, ["train.sample_per_device", "integer", "many"]),
    "negative rate": ({"train.lr": -1}, ["train.lr", "greater than 0", "-1"]),
    "patch size": ({"model.img_size": 60}, ["img_size 60 is no multiple of 8"]),
    "head": ({"model.handec.translation": {"kind": "log_depth"}}, ["norm_by_hand true goes with", "not with log_depth"]),
    "stage 1 of clips": ({"model.num_frame": 7}, ["num_frame should be 1, not 7"]),
    "stage 2 of frames": ({"model.stage": 2}, ["stage 2 needs clips", "not 1"]),
    "frames": (
        {"model.stage": 2, "model.num_frame": 3, "loss.frames": "all"},
        ['loss.frames is "all"', "take kind causal"],
    ),
    "no stage 1": ({"model.stage": 2, "model.num_frame": 3}, ["general.stage1_path", "give --stage1 RUN"]),
    "needless stage 1": ({"general.stage1_path": "runs/x"}, ["general.stage1_path is for model.stage 2"]),
    "missing start": ({"general.weights_path": "old"}, ["general.weights_path: old does not exist", "looked for"]),
    "missing data": (
        {"data.train.datasets": [{"name": "hands", "shards": "nowhere"}]},
        ["data.train.datasets.hands.shards", "nowhere"],
    ),
    "no data": ({"data.train.datasets": []}, ["data.train.datasets: names no shards; give --data FOLDER"]),
    "missing hand": (
        {"hand.mano_path": "MANO_RIGHT.pkl"},
        ["MANO_RIGHT: not found", "looked for", "https://mano.is.tue.mpg.de", "set hand.mano_path"],
    ),
    "encoder": ({"model.backbone.backbone_str": "./encoder"}, ["backbone_str ./encoder: no such folder"]),
    "encoder field": ({"model.backbone.kwargs.hiden_size": 8}, ["backbone.kwargs.hiden_size", "did you mean hidden_size"]),
    "fused layers": ({"model.backbone.infusion_layer": [2, 9]}, ["infusion_layer 9", "hidden states 0 to 4"]),
    "long clips": (
        {"model.stage": 2, "model.num_frame": 30, "general.weights_path": "STAGE2"},
        ["no clip of 30 frames passes the filter"],
    ),
    "large batch": ({"train.sample_per_device": 64}, ["64 is more than an epoch has"]),
    "width": ({"general.weights_path": "STAGE1", "model.handec.num_layer": 3}, ["the model needs", "more like these"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_CONFIGS)
def test_a_wrong_configuration_is_told(case, command, pictures, stage1, stage2, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    changes, expected = WRONG_CONFIGS[case]
    config = json.loads(json.dumps(TINY)) | {"$schema": "handvit.schema.json"}
    config["data"] = {"workers": 0, "train": {"datasets": [{"name": "hands", "shards": str(pictures)}]}}
    runs = {"STAGE1": str(stage1), "STAGE2": str(stage2)}
    for key, value in changes.items():
        *sections, name = key.split(".")
        place = config
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = runs.get(value, value) if isinstance(value, str) else value
    (tmp_path / "mine.json").write_text(json.dumps(config))
    done = command("train", "--config", "mine.json", "--run-dir", tmp_path / "run")
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1 or case == "width", told
    for words in expected:
        assert words in done.stderr
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [('{"model": {', "not valid JSON"), ("[1]", "object"), ('{"extends": "base.json"}', "base.json")],
)
def test_a_configuration_file_that_is_none_is_told(text, expected, command, tmp_path):
    (tmp_path / "mine.json").write_text(text)
    line = refused(command("config", "check", tmp_path / "mine.json"))
    assert str(tmp_path) in line
    assert expected in line


def test_a_mistyped_preset_names_those_there_are(command):
    line = refused(command("train", "--config", "dinov2_large.json"))
    assert "dinov2_large.json" in line
    assert "dinov2-large.json" in line


def as_npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def drop(name: str) -> Callable[[Members], Members]:
    return lambda members: {key: data for key, data in members.items() if key != name}


def change(name: str, made: Callable[[np.ndarray], np.ndarray]) -> Callable[[Members], Members]:
    def apply(members: Members) -> Members:
        return members | {name: as_npy(made(np.load(io.BytesIO(members[name]))))}

    return apply


def first_nan(values: np.ndarray) -> np.ndarray:
    values[0].flat[3] = np.nan
    return values


def outside(boxes: np.ndarray) -> np.ndarray:
    return boxes + np.float32(500)


def picture(encode: Callable[[np.ndarray], bytes], ending: str, checked: bool = True) -> Callable[[Members], Members]:
    """Every frame encoded anew; without its checksum, as in tars that were made elsewhere."""

    def apply(members: Members) -> Members:
        frames = {name: data for name, data in members.items() if name.startswith("frame_")}
        others = {name: data for name, data in members.items() if name not in frames}
        pixels = {name: cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for name, data in frames.items()}
        meta = {key: value for key, value in json.loads(members["meta.json"]).items() if key != "pictures_crc32"}
        made = {name.rpartition(".")[0] + ending: encode(image) for name, image in pixels.items()}
        return others | made | {"meta.json": json.dumps(meta).encode()}

    return apply


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def translucent(image: np.ndarray) -> bytes:
    return png(np.dstack([image, np.full(image.shape[:2], 90, np.uint8)]))


def deep(image: np.ndarray) -> bytes:
    return png(image.astype(np.uint16) * 256)


def torn_jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image)[1].tobytes()[:300]


def flip_bytes(members: Members) -> Members:
    """As a bad disk does it: still a JPEG that decodes."""

    def flipped(data: bytes) -> bytes:
        middle = len(data) // 2
        return data[:middle] + bytes(byte ^ 0x55 for byte in data[middle : middle + 8]) + data[middle + 8 :]

    return {name: flipped(data) if name.startswith("frame_") else data for name, data in members.items()}


class Command:
    def __reduce__(self):
        return Path.touch, (Path("was_run"),)


def foreign_pickle(members: Members) -> Members:
    kept = {name: data for name, data in members.items() if not name.startswith("frame_")}
    return kept | {"img_bytes.pickle": pickle.dumps([Command()])}


def relative(members: Members) -> Members:
    return members | {"meta.json": json.dumps({"version": 1, "pose_mean": "mean"}).encode()}


DAMAGED = {
    "no boxes": (drop("hand_bbox.npy"), ["has no hand_bbox.npy"]),
    "no side": (drop("handedness.json"), ["has no handedness.json"]),
    "no joints": (drop("joint_cam.npy"), ["joint_3d_valid is not zero, but there is no joint_cam.npy"]),
    "no timestamps": (drop("timestamp.npy"), ["has no timestamp.npy"]),
    "twenty joints": (change("joint_img.npy", lambda v: v[:, :20]), ["joint_img.npy", "expected float32 [T,21,2]"]),
    "fewer rows": (change("focal.npy", lambda v: v[:1]), ["focal.npy: has 1 entries, but there are 9 frames"]),
    "nan": (change("mano_pose.npy", first_nan), ["[0]: mano_pose has values that are no finite numbers"]),
    "outside": (change("hand_bbox.npy", outside), ["hand_bbox", "lies outside of the 96x96 picture"]),
    "no area": (change("hand_bbox.npy", lambda v: v[:, [2, 3, 0, 1]]), ["hand_bbox", "has no area; expected x1,y1,x2,y2"]),
    "no focal": (change("focal.npy", np.zeros_like), ["focal is 0,0 where has_intr is 1; it must be positive"]),
    "metres": (change("joint_cam.npy", lambda v: v / 1000), ["joint_cam looks like metres, mm are needed"]),
    "opengl": (change("joint_cam.npy", lambda v: v * np.float32([1, -1, -1])), ["depths are positive (OpenCV axes)"]),
    "mask": (change("joint_2d_valid.npy", lambda v: v * 0.5), ["joint_2d_valid has values other than 0 and 1"]),
    "other camera": (change("princpt.npy", lambda v: v + 30), ["joint_cam and joint_img disagree", "2 px is the bound"]),
    "meta": (relative, ["meta.json: pose_mean is 'mean'; expected absolute or relative"]),
    "no frames": (
        lambda members: {name: data for name, data in members.items() if not name.startswith("frame_")},
        ["has no frames; expected frame_0000.webp"],
    ),
    "a frame": (drop("frame_0004.jpg"), ["frame_0004 is missing"]),
    "foreign pickle": (foreign_pickle, ["img_bytes.pickle", "touch"]),
}  # fmt: skip
DAMAGED_PICTURES = {
    "flipped bytes": (flip_bytes, ["frame 0 does not match its checksum"]),
    "torn picture": (picture(torn_jpeg, ".jpg"), ["frame"]),
    "transparent": (picture(translucent, ".png"), ["has transparent pixels; save it without"]),
    "16 bits": (picture(deep, ".png"), ["has 16 bits a channel; save it with 8"]),
}


def rewritten(source: Path, target: Path, damage: Callable[[Members], Members]) -> Path:
    """Shards whose second sample is damaged."""
    target.mkdir()
    (shard,) = source.glob("*.tar")
    samples: dict[str, Members] = {}
    with tarfile.open(shard) as archive:
        for member in archive.getmembers():
            key, _, name = member.name.partition(".")
            samples.setdefault(key, {})[name] = archive.extractfile(member).read()
    with tarfile.open(target / shard.name, "w") as archive:
        for number, (key, members) in enumerate(samples.items()):
            for name, data in (damage(members) if number == 1 else members).items():
                info = tarfile.TarInfo(f"{key}.{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return target


@pytest.fixture
def evaluate(command, stage1, tmp_path):
    """Predictions alone, without the report."""

    def run(folder: Path):
        words = ("--data", folder, "--output", tmp_path / "out", "--shard", "0/1")
        return command("evaluate", "--checkpoint", stage1, *words)

    return run


@pytest.fixture
def train(command, settings, tmp_path):
    def run(folder: Path, *overrides: str):
        data = json.dumps([{"name": "hands", "shards": str(folder)}])
        every = ("data.train.sampling=dense", f"data.train.datasets={data}", "general.total_step=9", *overrides)
        words = [word for override in settings(*every) for word in ("--set", override)]
        return command("train", "--config", "tiny.json", "--run-dir", tmp_path / "run", *words)

    return run


@pytest.mark.parametrize("case", DAMAGED)
def test_a_wrong_sample_is_told_with_shard_key_and_member(
    case, videos, evaluate, train, command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    damage, expected = DAMAGED[case]
    folder = rewritten(videos, tmp_path / "damaged", damage)
    lines = [refused(done) for done in (evaluate(folder), train(folder), command("data", "inspect", folder))]
    for words in ("damaged/val-000000.tar", "000001", *expected):
        assert all(words in line for line in lines), lines
    assert not (tmp_path / "was_run").exists()
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("case", DAMAGED_PICTURES)
def test_a_damaged_picture_is_told_with_shard_key_and_frame(case, videos, evaluate, train, tmp_path):
    damage, expected = DAMAGED_PICTURES[case]
    folder = rewritten(videos, tmp_path / "damaged", damage)
    for line in (refused(evaluate(folder)), refused(train(folder))):
        for words in ("damaged/val-000000.tar", "000001", *expected):
            assert words in line


def test_a_grey_picture_is_taken_as_one_of_three_equal_channels(videos, evaluate, tmp_path):
    grey = picture(lambda image: png(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)), ".png")
    colour = picture(
        lambda image: png(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)), ".png"
    )
    joints = []
    for name, made in (("grey", grey), ("colour", colour)):
        done = evaluate(rewritten(videos, tmp_path / name, made))
        assert done.exit_code == 0, done.output
        joints.append(read_predictions(Path(json.loads(done.stdout)["predictions"]))[0].joint_cam_mm)
    np.testing.assert_array_equal(joints[0], joints[1])


def test_a_tar_that_is_cut_off_or_none_is_told(videos, evaluate, train, tmp_path):
    (shard,) = videos.glob("*.tar")
    for name, data in (("cut", shard.read_bytes()[:20_000]), ("text", b"this is no archive" * 100)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "hands.tar").write_bytes(data)
        for line in (refused(evaluate(folder)), refused(train(folder))):
            assert f"{name}/hands.tar" in line


def test_places_without_shards_are_told(evaluate, train, command, tmp_path):
    empty, others = tmp_path / "empty", tmp_path / "others"
    empty.mkdir()
    others.mkdir()
    (others / "photo.jpg").write_bytes(b"x")
    for folder in (empty, others, tmp_path / "nowhere"):
        for done in (evaluate(folder), train(folder), command("data", "inspect", folder)):
            assert str(folder) in refused(done)


def test_checkpoints_of_the_wrong_stage_are_told(stage1, stage2, videos, train):
    clips = ("model.stage=2", "model.num_frame=3")
    line = refused(train(videos, *clips, f"general.stage1_path={stage2}"))
    assert "general.stage1_path" in line
    assert "is a checkpoint of stage 2; one of stage 1 is needed" in line
    line = refused(train(videos, f"general.weights_path={stage2}"))
    assert "general.weights_path" in line
    assert "is a checkpoint of stage 2; one of stage 1 is needed" in line
    line = refused(train(videos, *clips, f"general.weights_path={stage1}"))
    assert "is a checkpoint of stage 1; one of stage 2 is needed" in line


@pytest.fixture
def copied_run(stage1, tmp_path) -> Path:
    shutil.copytree(stage1, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def test_a_flipped_byte_in_a_checkpoint_is_told(copied_run, command, videos, train):
    file = copied_run / "checkpoints" / "best" / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    for done in (command("evaluate", "--checkpoint", copied_run), train(videos, f"general.weights_path={copied_run}")):
        assert "model.safetensors does not match its checksum" in refused(done)


def test_a_folder_without_or_with_another_systems_checkpoint_is_told(command, videos, train, tmp_path):
    assert "holds no checkpoint" in refused(command("evaluate", "--checkpoint", videos))
    save_checkpoint(tmp_path, system="smil", system_version="0.1", step=1, epoch=0, weights={}, state={}, config={})
    for done in (command("evaluate", "--checkpoint", tmp_path), train(videos, f"general.weights_path={tmp_path}")):
        assert "is a checkpoint of smil; one of handvit is needed" in refused(done)


def test_a_wrong_hand_model_is_told(command, train, pictures, stage1, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = standin_arrays()
    write_hand(mirror_arrays(arrays), tmp_path / "MANO_LEFT.npz")
    line = refused(train(pictures, "hand.mano_path=MANO_LEFT.npz"))
    assert "MANO_LEFT.npz: v_template: a left hand, expected a right one" in line
    np.savez(tmp_path / "body.npz", v_template=np.zeros((10, 3)))
    assert "body.npz" in refused(train(pictures, "hand.mano_path=body.npz"))
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"v_template": Command()}))
    assert "evil.pkl" in refused(train(pictures, "hand.mano_path=evil.pkl"))
    assert not (tmp_path / "was_run").exists()
    line = refused(command("evaluate", "--checkpoint", stage1, "--mano", tmp_path / "MANO_LEFT.npz"))
    assert "trained with the embedded stand-in; leave the option out" in line


def test_the_hand_that_a_network_was_trained_with_is_asked_for(command, trained, tmp_path):
    write_standin(tmp_path / "mine.npz", seed=1)
    write_standin(tmp_path / "other.npz", seed=2)
    run = trained(f"hand.mano_path={tmp_path / 'mine.npz'}")
    words = ("evaluate", "--checkpoint", run, "--output", tmp_path / "out", "--shard", "0/1")
    assert "is not the hand model that the network was trained with" in refused(
        command(*words, "--mano", tmp_path / "other.npz")
    )
    assert command(*words).exit_code == 0, "the run keeps its own copy"
    for file in (run / "hand_model.npz", tmp_path / "mine.npz"):
        file.unlink()
    assert "the network's hand model was not found (looked for" in refused(command(*words))


def test_predicting_asks_for_boxes_and_for_pictures_that_can_be_read(command, stage1, tmp_path):
    good = tmp_path / "hand.png"
    cv2.imwrite(str(good), np.full((64, 64, 3), 90, np.uint8))
    (tmp_path / "empty").mkdir()
    words = ("predict", "--checkpoint", stage1, "--out", tmp_path / "out")
    box = ("--box", "10,10,40,40")
    assert "box" in refused(command(*words, good))
    assert "nothing.png" in refused(command(*words, tmp_path / "nothing.png", *box))
    assert "empty" in refused(command(*words, tmp_path / "empty", *box))
    (tmp_path / "text.png").write_text("hello")
    assert "text.png" in refused(command(*words, tmp_path / "text.png", *box))
    assert "10,10,40" in refused(command(*words, good, "--box", "10,10,40"))
    assert "--k" in refused(command(*words, good, *box, "--k", "500,500"))


def test_options_that_mean_nothing_are_told(command, stage1, pictures):
    evaluate = ("evaluate", "--checkpoint", stage1)
    assert "--shard 2/2" in refused(command(*evaluate, "--shard", "2/2"))
    assert "--shard two" in refused(command(*evaluate, "--shard", "two"))
    assert "give either --checkpoint or --predictions" in refused(command("evaluate"))
    assert "tpu9" in refused(command(*evaluate, "--device", "tpu9"))
    assert "frames" in refused(command(*evaluate, "--frames", 0))
    assert "seed" in refused(command("train", "--config", "tiny.json", "--set", "seed"))
    assert "--size 10" in refused(command("data", "synth", pictures / "more", "--size", "10"))
