"""The system's part of `make demo`: data, training, evaluation on held-out samples, prediction, page."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from posecore.config import load_config
from posecore.demo import make_room
from posecore.report import Chart, Line, Picture, Row, Section, write_section
from smil_regressor.config import SmilConfig
from smil_regressor.data.insect import insect_body
from smil_regressor.data.synthesis import synthesise_file
from smil_regressor.data.synthetic import Difficulty
from smil_regressor.evaluate import evaluate, open_part
from smil_regressor.experiment import train
from smil_regressor.metrics import length_unit
from smil_regressor.predict import Predictor, View
from smil_regressor.predict_files import write_frame

NEEDED_3D, NEEDED_2D = 2.0, 3.0
"""By how much the network must beat the best constant answer on held-out samples."""
VIEWS = 3
YAW_RANGE_DEG = 60.0
MARKER = ".smil-demo"
WRITTEN = ("insects.h5", "run", "evaluation", "predictions", "section.json")


def demo(output: Path, samples: int, epochs: int | None = None) -> Path:
    """Everything from nothing to a report; returns the section file that the page is made of.

    What an earlier demo left in the folder is replaced; a folder with anything else in it is refused.

    Raises:
        InputError: The folder holds something that no demo wrote.
    """
    started = time.perf_counter()
    make_room(output, WRITTEN, MARKER)
    data = output / "insects.h5"
    difficulty = Difficulty(distractors=3, yaw_range_deg=YAW_RANGE_DEG)
    synthesise_file(data, insect_body(), samples=samples, views=VIEWS, resolution=64, seed=11, difficulty=difficulty)
    overrides = [f"dataset.data_path={data}"] + ([] if epochs is None else [f"training.num_epochs={epochs}"])
    config = load_config(SmilConfig, "tiny.json", overrides)
    train(config, [], output / "run")
    report = evaluate(output / "run", split="test", output=output / "evaluation")
    examples = _predict_examples(output)
    section = _section(output, report, examples, time.perf_counter() - started)
    return write_section(section, output / "section.json")


def _predict_examples(output: Path, count: int = 2) -> Path:
    """Predict held-out samples through the public predictor and write what `smil predict` writes."""
    predictor = Predictor.load(output / "run")
    source, _ = open_part(predictor.loaded, None, "test")
    folder = output / "predictions"
    folder.mkdir(exist_ok=True)
    for index in range(count):
        sample = source.load(index * 7 % len(source), np.random.default_rng(0))
        order = predictor.loaded.facts.camera_order
        views = [
            View(sample.images[v], order[sample.camera_slots[v]], sample.K[v], sample.cam_from_world[v])
            for v in np.flatnonzero(sample.view_mask)
        ]
        write_frame(folder, f"{index:04d}", predictor([views]), 0, views, predictor.loaded, "obj")
    return folder


def _section(output: Path, report: dict[str, Any], predictions: Path, seconds: float) -> Section:
    ours, constant = report["metrics"], report["best_constant_answer"]
    unit, _ = length_unit(None)
    shown = [
        ("MPJPE, absolute", f"mpjpe_{unit}", "", NEEDED_3D),
        ("MPJPE, root-aligned", f"root_aligned_{unit}", "", None),
        ("PA-MPJPE", f"pa_mpjpe_{unit}", "", None),
        ("2D error, 64 px input", "px_input", "px", NEEDED_2D),
    ]
    rows = [
        Row(name=name, ours=ours[key], baseline=constant[key], unit=suffix, needed_factor=needed)
        for name, key, suffix, needed in shown
    ]
    worst = sorted((output / "evaluation" / "worst").glob("*.png"))[:2]
    pictures = [
        Picture(path=path, caption="Held-out sample: picture with predicted keypoints, predicted mesh over it")
        for path in sorted(predictions.glob("*_overlay.png"))
    ]
    pictures += [Picture(path=path, caption="Worst held-out samples: labels, prediction, mesh") for path in worst]
    return Section(
        name="smil",
        heading="smil_regressor: pose, shape and cameras of an insect from three views",
        question=(
            "How far is the predicted skeleton from the true one on sessions that training never saw, compared with the "
            "best answer that looks at no picture (the mean of the training labels)? Lengths are in the model's units; "
            f"the insect is 2.3 long and heads anywhere within {YAW_RANGE_DEG:.0f} degrees of a common direction. "
            f"{report['samples']} held-out samples; everything on this page was made in "
            f"{seconds:.0f} s on this machine."
        ),
        baseline="best constant answer",
        rows=rows,
        pictures=pictures,
        charts=_charts(output / "run" / "metrics.jsonl"),
        links={"report of the run": "smil/run/report.html", "metrics": "smil/evaluation/metrics.json"},
    )


def _charts(log: Path) -> list[Chart]:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]

    def curve(name: str, key: str) -> Line:
        points = [(entry["step"], entry[key]) for entry in lines if key in entry]
        return Line(name=name, steps=[step for step, _ in points], values=[value for _, value in points])

    return [
        Chart(title="Training loss", lines=[curve("total", "train/total")]),
        Chart(
            title="Validation error (model units)",
            lines=[curve("MPJPE", "validation/mpjpe"), curve("PA-MPJPE", "validation/pa_mpjpe")],
        ),
        Chart(title="Validation 2D error (input px)", lines=[curve("2D error", "validation/px_input")]),
    ]
