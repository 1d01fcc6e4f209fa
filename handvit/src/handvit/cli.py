"""The command `handvit`. Thin: parse, call, print; torch comes in inside the commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from handvit.cli_data import app as data_app
from handvit.cli_mano import app as mano_app
from posecore import cli
from posecore.cli import ConfigFile, Json, Overrides, Resume, exit_codes, result, result_json, say

if TYPE_CHECKING:
    from handvit.config import HandvitConfig


def _version() -> str:
    from handvit import __version__

    return __version__


def _config_class() -> "type[HandvitConfig]":
    from handvit.config import HandvitConfig

    return HandvitConfig


app = cli.make_app(
    "handvit", "3D hand pose and mesh (MANO) from vision transformers: single frames and videos.", _version
)
app.add_typer(data_app, name="data", rich_help_panel=cli.DATA)
app.add_typer(mano_app, name="mano", rich_help_panel=cli.DATA)
app.add_typer(cli.config_app(_config_class), name="config", rich_help_panel=cli.INSPECT)

Checkpoint = Annotated[
    Path, typer.Option("--checkpoint", help="A run folder (its best checkpoint), a checkpoint folder, or an export.")
]
Mano = Annotated[
    Path | None, typer.Option("--mano", help="MANO_RIGHT.pkl or .npz, where it is not beside the checkpoint.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="Folder, file, glob or braces of .tar shards; may be given repeatedly."),
]
RunDir = Annotated[Path | None, typer.Option(help="Folder of the run; default runs/<name of the config>.")]


@app.command(rich_help_panel=cli.TRAIN)
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Resume = None,
    run_dir: RunDir = None,
    data: Data = None,
    validation: Annotated[
        list[str] | None, typer.Option("--validation", help="Shards to validate on, as --data.")
    ] = None,
    mano: Annotated[Path | None, typer.Option("--mano", help="MANO_RIGHT.pkl or .npz; default: the stand-in.")] = None,
    stage1: Annotated[Path | None, typer.Option(help="Stage 2: run or checkpoint of stage 1 to begin with.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps in all.")] = None,
    devices: Annotated[int | None, typer.Option(help="Processes (GPUs) on each node.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes.")] = None,
    precision: Annotated[Literal["no", "bf16", "fp16"] | None, typer.Option(help="Of backbone and decoder.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, build the network, train nothing.")
    ] = False,
) -> None:
    """Train stage 1 or 2; checkpoints, metrics, pictures and the resolved config go to a run folder.

    Example: handvit train --config tiny_stage1.json --data hands/train --validation hands/val
    """
    from posecore.training import preemption

    preemption.install()  # before torch comes in: a signal while it is imported must not end the job
    flags = _train_flags(data, validation, mano, stage1, steps, devices, nodes, precision)
    with exit_codes():
        from handvit.config import HandvitConfig
        from posecore.config import find_config, load_config

        resolved = load_config(HandvitConfig, config, [*flags, *(overrides or [])])
        found = find_config(config, HandvitConfig.presets)
        from handvit.experiment import train as run_training

        summary = run_training(resolved, [found.parent], _run_folder(run_dir, found), resume, dry_run=dry_run)
        if summary is not None:
            result_json(summary)


@app.command(rich_help_panel=cli.USE)
def evaluate(
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="A run folder, a checkpoint folder, or an export.")
    ] = None,
    data: Data = None,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            "--predictions", help="Instead of a checkpoint: HDF5 files of an earlier evaluation, or its parts."
        ),
    ] = None,
    split: Annotated[
        Literal["val", "test"], typer.Option(help="Without --data: which shards of the training's config.")
    ] = "test",
    output: Annotated[Path | None, typer.Option(help="Folder of the report; default: beside the checkpoint.")] = None,
    mano: Mano = None,
    frames: Annotated[
        int | None, typer.Option(help="Frames of a clip; default: the network's. Stage 1 measures the last of them.")
    ] = None,
    oracle_scale: Annotated[
        bool, typer.Option("--oracle-scale", help="Use the true hand size; the report says so beside the score.")
    ] = False,
    joints: Annotated[
        Literal["trained", "smplx", "freihand", "ho3d", "dexycb", "interhand"] | None,
        typer.Option(
            help="Whose fingertips and joints the labels have; default: the submission's, else the training's."
        ),
    ] = None,
    submission: Annotated[
        Literal["none", "freihand", "ho3d", "dexycb"],
        typer.Option(help="Also write the benchmark's file; no frame is filtered out then."),
    ] = "none",
    order: Annotated[
        Path | None,
        typer.Option(
            help="HO3D: evaluation.txt, whose order the submission follows. Others: a sample a line, for a part of the benchmark."
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: measure the i-th of n parts, from 0, and write its predictions only.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips at once.")] = 32,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data.")] = 0,
    device: Device = "auto",
) -> None:
    """Measure on held-out clips: metrics.json, predictions.h5, worst-case pictures, submission files.

    Example: handvit evaluate --checkpoint runs/stage1 --data hands/test
    """
    with exit_codes():
        from handvit.evaluate import evaluate as measure
        from handvit.evaluate import evaluate_predictions
        from posecore.errors import InputError

        if (checkpoint is None) == (not predictions):
            raise InputError("evaluate: give either --checkpoint or --predictions")
        if predictions:
            result_json(evaluate_predictions(predictions, output, submission, order))
            return
        assert checkpoint is not None
        result_json(
            measure(
                checkpoint,
                data=data,
                split=split,
                output=output,
                mano_path=mano,
                frames=frames,
                oracle_scale=oracle_scale,
                joints=joints,
                submission=submission,
                order=order,
                part=None if shard is None else cli.part_of(shard),
                batch_size=batch_size,
                workers=workers,
                device=device,
            )
        )


@app.command(rich_help_panel=cli.USE)
def score(
    submission: Annotated[
        Path, typer.Argument(help="A submission: pred.json, pred.zip, or lines of numbers (DexYCB).")
    ],
    benchmark: Annotated[Literal["freihand", "ho3d", "dexycb"], typer.Option(help="Whose rules are followed.")],
    truth: Annotated[
        Path,
        typer.Option(
            help="FreiHAND, HO3D: folder with evaluation_xyz.json and evaluation_verts.json. DexYCB: true joints in the "
            "form of a submission (evaluate --submission dexycb writes dexycb_truth.txt)."
        ),
    ],
) -> None:
    """The benchmark's official numbers of a submission, mm.

    Example: handvit score pred.json --benchmark freihand --truth FreiHAND_pub_v2
    """
    with exit_codes():
        from handvit.submission import score_submission

        result_json(score_submission(benchmark, submission, truth))


@app.command(rich_help_panel=cli.USE)
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, folders of pictures, or videos.")],
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option("--output", "--out", help="Folder for all that is written.")] = Path(
        "predictions"
    ),
    boxes: Annotated[
        Path | None, typer.Option(help="JSON: file name (video: frame number) to a list of {box, side, track}.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="x1,y1,x2,y2 px, of the one hand in each picture.")] = None,
    side: Annotated[Literal["right", "left"], typer.Option(help="Of the hand in --box.")] = "right",
    detector: Annotated[
        Path | None, typer.Option(help="MediaPipe's hand_landmarker.task; needs the extra handvit[detector].")
    ] = None,
    intrinsics: Annotated[str | None, typer.Option("--k", help="fx,fy,cx,cy px.")] = None,
    fov: Annotated[float | None, typer.Option(help="Horizontal field of view, degrees.")] = None,
    fps: Annotated[float | None, typer.Option(help="Of videos and numbered pictures; default: the file's own.")] = None,
    meshes: Annotated[Literal["none", "obj", "ply", "both"], typer.Option(help="A mesh for each hand.")] = "both",
    watertight: Annotated[bool, typer.Option(help="Close the meshes at the wrist.")] = False,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Videos: One-Euro filter of joints and rotations, one shape a track.")
    ] = False,
    mano: Mano = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Hands at once.")] = 16,
    device: Device = "auto",
) -> None:
    """Hands in pictures or videos: overlays, side views, meshes, results.json and .npz.

    Example: handvit predict photo.jpg --checkpoint runs/stage1 --box 120,80,260,230 --side left --fov 60
    """
    with exit_codes():
        from handvit.predict_files import PredictOptions, predict_files

        options = PredictOptions(
            boxes=boxes,
            box=box,
            side=side,
            detector=detector,
            intrinsics=intrinsics,
            fov_deg=fov,
            fps=fps,
            meshes=meshes,
            watertight=watertight,
            smooth=smooth,
            batch_size=batch_size,
        )
        result_json(predict_files(inputs, checkpoint, output, options, mano_path=mano, device=device))


@app.command(rich_help_panel=cli.USE)
def export(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option(help="Folder (safetensors) or .onnx file to write.")],
    format: Annotated[
        Literal["safetensors", "onnx"], typer.Option(help="onnx needs the extra: handvit[onnx].")
    ] = "safetensors",
    part: Annotated[
        Literal["network", "temporal"],
        typer.Option(help="ONNX: patches to hands; or, of stage 2, tokens of a clip to the last frame's hand."),
    ] = "network",
    mano: Mano = None,
) -> None:
    """Write a trained network for use elsewhere; ONNX is compared with PyTorch before it is kept."""
    with exit_codes():
        from handvit.export import export as write

        result_json(write(checkpoint, output, format, part, mano))


@app.command(rich_help_panel=cli.TRAIN)
def submit(
    config: ConfigFile,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    data: Data = None,
    validation: Annotated[list[str] | None, typer.Option("--validation", help="Shards to validate on.")] = None,
    mano: Annotated[Path | None, typer.Option("--mano", help="MANO_RIGHT.pkl or .npz; default: the stand-in.")] = None,
    stage1: Annotated[Path | None, typer.Option(help="Stage 2: run or checkpoint of stage 1 to begin with.")] = None,
    nodes: Annotated[int, typer.Option(help="Nodes.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs, and processes, on each node.")] = 1,
    cpus_per_task: Annotated[int, typer.Option(help="CPU cores a process.")] = 8,
    time: Annotated[str, typer.Option(help="Limit, for example 24:00:00.")] = "24:00:00",
    partition: Annotated[str | None, typer.Option(help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account.")] = None,
    job_name: Annotated[str | None, typer.Option(help="Default: the run folder's name.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job script, submit nothing.")] = False,
) -> None:
    """The same training as a SLURM job that saves, requeues and resumes when it is preempted or out of time."""
    with exit_codes():
        from handvit.config import HandvitConfig
        from posecore.config import find_config, load_config
        from posecore.submission import submit_training

        flags = _train_flags(data, validation, mano, stage1, None, gpus_per_node, nodes, None)
        settings = [*flags, *(overrides or [])]
        found = find_config(config, HandvitConfig.presets)
        resolved = load_config(HandvitConfig, config, settings)
        from handvit.experiment import check_inputs

        check_inputs(resolved, [found.parent])  # told now, not after the queue
        folder = _run_folder(run_dir, found)
        submit_training(
            "handvit.cli",
            str(found),
            settings,
            folder,
            job_name or folder.name,
            dry_run,
            nodes=nodes,
            gpus_per_node=gpus_per_node,
            cpus_per_task=cpus_per_task,
            time=time,
            partition=partition,
            account=account,
        )


@app.command(rich_help_panel=cli.INSPECT)
def doctor(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="MANO files, shards, configs, runs, backbone folders; none: this machine."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Versions, devices, which licensed files and weights were found where, what to do about the rest.

    Exits with 1 if something is wrong.
    """
    with exit_codes():
        from handvit.doctor import check, environment_findings, format_findings

        findings = environment_findings() if not paths else [f for path in paths for f in check(path)]
        result_json([vars(f) for f in findings]) if as_json else result(format_findings(findings))
        if any(finding.level == "error" for finding in findings):
            raise typer.Exit(cli.EXIT_FAILED)


@app.command(rich_help_panel=cli.TRAIN)
def demo(
    output: Annotated[Path, typer.Option(help="Folder for data, runs, report and section.json.")] = Path(
        "runs/demo/handvit"
    ),
    steps: Annotated[int | None, typer.Option(help="Steps of stage 1; default: the tiny preset's.")] = None,
) -> None:
    """Make data, train both stages of the tiny preset, evaluate on held-out clips, predict, report. No download, no GPU."""
    with exit_codes():
        from handvit.demo import demo as run_demo

        section = run_demo(output, steps)
        say(f"report: {section}")


def _train_flags(
    data: list[str] | None,
    validation: list[str] | None,
    mano: Path | None,
    stage1: Path | None,
    steps: int | None,
    devices: int | None,
    nodes: int | None,
    precision: str | None,
) -> list[str]:
    """Options as overrides of the configuration."""
    values: dict[str, Any] = {
        "data.train.datasets": _datasets(data),
        "data.val.datasets": _datasets(validation),
        "hand.mano_path": None if mano is None else str(mano.resolve()),
        "general.stage1_path": None if stage1 is None else str(stage1.resolve()),
        "general.total_step": steps,
        "train.devices": devices,
        "train.nodes": nodes,
        "train.mixed_precision": precision,
    }
    return [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]


def _datasets(shards: list[str] | None) -> list[dict[str, Any]] | None:
    """Data on the command line: whole paths, so that a run can be evaluated from any folder."""
    if not shards:
        return None
    whole = [str(Path(where).absolute()) for where in shards]
    return [{"name": Path(where).name, "shards": where} for where in whole]


def _run_folder(run_dir: Path | None, config: Path) -> Path:
    return run_dir or Path("runs") / config.stem


def main() -> None:
    cli.run(app)


if __name__ == "__main__":
    main()
