"""The system's part of `make demo`: data, both stages, evaluation on held-out clips, prediction, page."""

import json
import time
from pathlib import Path
from typing import Any

from handvit.config import HandvitConfig
from handvit.data.shards import ClipShards
from handvit.data.synthetic import Difficulty, synthesise
from handvit.evaluate import evaluate
from handvit.experiment import train
from handvit.hand import read_hand
from handvit.make_tokens import make_tokens
from handvit.predict_files import PredictOptions, predict_files
from posecore.config import load_config
from posecore.demo import make_room
from posecore.devices import one_thread
from posecore.report import Chart, Line, Picture, Row, Section, write_section

NEEDED, NEEDED_PA = 2.0, 1.5
"""By how much stage 1 must beat the best constant hand on held-out frames: MPJPE, and after alignment."""
NEEDED_ACCELERATION = 1.0
"""Stage 2 against stage 1."""
MARKER = ".handvit-demo"
WRITTEN = ("data", "stage1", "stage2", "evaluation1", "evaluation2", "pictures", "predictions", "section.json")
SIZE = (80, 80)
LOOKS = Difficulty(
    depth_mm=(400.0, 800.0),
    fill=(0.7, 0.9),
    rotation_range_deg=30.0,
    shape_std=0.5,
    off_centre=0.3,
    occluders=0.0,
    blur=0.05,
    noise=0.02,
    glove=1.0,
)
"""Easy enough for a network of 0.4 million parameters to learn in two minutes: gloves with coloured fingers, hands upright."""
SINGLES, CLIPS, CLIP_FRAMES = 4000, 80, 16
HELD_OUT = 16
STAGES = ("tiny.json", "tiny-stage2.json")


def demo(output: Path, steps: int | None = None) -> Path:
    """Everything from nothing to a page; returns the section file that the page is made of.

    What an earlier demo left in the folder is replaced; a folder with anything else in it is refused.

    Args:
        steps: Of stage 1; None: those of the preset. Stage 2 takes the same share of its own.

    Raises:
        InputError: The folder holds something that no demo wrote.
    """
    started = time.perf_counter()
    make_room(output, WRITTEN, MARKER)
    data = output / "data"
    _make_data(data)
    with one_thread():
        _train_stages(output, data, steps)
    held_out = [str(data / "test")]
    first = evaluate(output / "stage1", data=held_out, output=output / "evaluation1", frames=7)
    second = evaluate(output / "stage2", data=held_out, output=output / "evaluation2")
    predictions = _predict_examples(output, data / "test")
    section = _section(output, first, second, predictions, time.perf_counter() - started)
    return write_section(section, output / "section.json")


def _make_data(data: Path) -> None:
    """Single frames and clips to train on; clips of other hands, motions and backgrounds to measure on."""
    hand = read_hand(None)
    for split, clips, frames in (
        ("singles", SINGLES, 1),
        ("clips", CLIPS, CLIP_FRAMES),
        ("validation", 160, 1),
        ("test", HELD_OUT, CLIP_FRAMES),
    ):
        workers = 2 if split == "singles" else 0
        synthesise(
            data / split,
            hand,
            clips=clips,
            frames=frames,
            size=SIZE,
            seed=11,
            split=split,
            difficulty=LOOKS,
            workers=workers,
        )


def _train_stages(output: Path, data: Path, steps: int | None) -> None:
    preset = load_config(HandvitConfig, STAGES[0], [])
    share = 1.0 if steps is None else steps / preset.general.total_step
    first = [
        f"data.train.datasets={json.dumps([_dataset(data, 'singles'), _dataset(data, 'clips')])}",
        f"data.val.datasets={json.dumps([_dataset(data, 'validation')])}",
        "data.workers=1",
        f"general.total_step={round(preset.general.total_step * share)}",
    ]
    train(load_config(HandvitConfig, STAGES[0], first), [], output / "stage1")
    make_tokens(output / "stage1", [str(data / "clips")])
    total = load_config(HandvitConfig, STAGES[1], []).general.total_step
    second = [
        f"general.stage1_path={json.dumps(str(output / 'stage1'))}",
        f"data.train.datasets={json.dumps([_dataset(data, 'clips')])}",
        "data.token_cache=true",
        f"general.total_step={max(1, round(total * share))}",
    ]
    train(load_config(HandvitConfig, STAGES[1], second), [], output / "stage2")


def _dataset(data: Path, split: str) -> dict[str, str]:
    return {"name": split, "shards": str((data / split).absolute())}


def _predict_examples(output: Path, test: Path, count: int = 3) -> Path:
    """Pictures of held-out clips and their boxes as files, and what `handvit predict` makes of them."""
    pictures, folder = output / "pictures", output / "predictions"
    pictures.mkdir()
    clips = ClipShards(sorted(test.glob("*.tar")))
    boxes: dict[str, Any] = {}
    K = None
    for index in range(0, count * 5, 5):
        record = clips.read(index, [7])
        name = f"{record.key}.{record.frame_format}"
        (pictures / name).write_bytes(record.frames[0])
        boxes[name] = [{"box": record.hand_bbox[0].tolist(), "side": record.handedness}]
        K = ",".join(f"{value:.3f}" for value in (*record.focal[0], *record.princpt[0]))
        single = output / "pictures" / f"{record.key}.json"
        single.write_text(json.dumps({name: boxes[name]}), encoding="utf-8")
        options = PredictOptions(boxes=single, intrinsics=K, meshes="obj")
        predict_files([pictures / name], output / "stage1", folder / record.key, options)
    return folder


def _section(output: Path, first: dict[str, Any], second: dict[str, Any], predictions: Path, seconds: float) -> Section:
    ours, later, constant = first["metrics"], second["metrics"], first["best_constant_hand"]
    shown = [
        ("MPJPE, camera frame", "mpjpe_mm", "mm", NEEDED),
        ("PA-MPJPE", "pa_mpjpe_mm", "mm", NEEDED_PA),
        ("MPJPE, root-relative", "mpjpe_rel_mm", "mm", None),
        ("2D error in the 64 px patch", "error_2d_px", "px", None),
    ]
    rows = [
        Row(name=f"stage 1: {name}", ours=ours[key], baseline=constant[key], unit=unit, needed_factor=needed)
        for name, key, unit, needed in shown
    ]
    rows.append(
        Row(
            name="stage 2: acceleration error (baseline: stage 1)",
            ours=later["acceleration_mm"],
            baseline=ours["acceleration_mm"],
            unit="mm/frame²",
            needed_factor=NEEDED_ACCELERATION,
        )
    )
    rows.append(
        Row(name="stage 2: MPJPE (baseline: stage 1)", ours=later["mpjpe_mm"], baseline=ours["mpjpe_mm"], unit="mm")
    )
    pictures = [
        Picture(path=path, caption="Held-out picture: predicted mesh and skeleton, from its box and intrinsics alone")
        for path in sorted(predictions.glob("*/*_overlay.png"))
    ]
    pictures += [
        Picture(
            path=output / "evaluation1" / "worst" / "pa.png", caption="Stage 1's worst held-out frames, aligned error"
        ),
        Picture(
            path=output / "evaluation1" / "worst" / "root.png", caption="Stage 1's worst held-out frames, root error"
        ),
    ]
    return Section(
        name="handvit",
        heading="handvit: 3D hands from single frames and from video",
        question=(
            "How far are the predicted joints from the true ones on clips of hands, motions and backgrounds that training "
            "never saw, compared with the best hand that looks at no picture (the mean of the training labels, placed by "
            f"the box where that is better)? Hands wear gloves with coloured fingers and turn by up to "
            f"{LOOKS.rotation_range_deg:.0f} degrees. {first['frames']} held-out frames of {HELD_OUT} clips; the hand is the "
            f"stand-in, not MANO; everything on this page was made in {seconds:.0f} s on this machine."
        ),
        baseline="best constant hand",
        rows=rows,
        pictures=pictures,
        charts=_charts(output),
        links={
            "report of stage 1": "handvit/stage1/report.html",
            "report of stage 2": "handvit/stage2/report.html",
            "metrics of stage 1": "handvit/evaluation1/metrics.json",
            "metrics of stage 2": "handvit/evaluation2/metrics.json",
        },
    )


def _charts(output: Path) -> list[Chart]:
    def curve(stage: str, name: str, key: str) -> Line:
        log = (output / stage / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        points = [(row["step"], row[key]) for row in map(json.loads, log) if row.get(key) is not None]
        return Line(name=name, steps=[step for step, _ in points], values=[value for _, value in points])

    return [
        Chart(title="Training loss, stage 1", lines=[curve("stage1", "total", "train/total")]),
        Chart(
            title="Validation error, stage 1 (mm)",
            lines=[
                curve("stage1", "root-relative", "validation/mpjpe_rel_mm"),
                curve("stage1", "PA-MPJPE", "validation/pa_mpjpe_mm"),
            ],
        ),
        Chart(title="Training loss, stage 2", lines=[curve("stage2", "total", "train/total")]),
    ]
