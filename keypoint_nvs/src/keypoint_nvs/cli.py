"""The command `keypoint-nvs`. Thin: parse, call, print; torch comes in inside the commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from keypoint_nvs.cli_data import app as data_app
from posecore import cli
from posecore.cli import ConfigFile, Json, Overrides, Resume, exit_codes, result, result_json, say

if TYPE_CHECKING:
    from keypoint_nvs.config.run import KeypointNvsConfig


def _version() -> str:
    from keypoint_nvs import __version__

    return __version__


def _config_class() -> "type[KeypointNvsConfig]":
    from keypoint_nvs.config.run import KeypointNvsConfig

    return KeypointNvsConfig


app = cli.make_app("keypoint-nvs", "Unsupervised keypoints and novel views from multi-view diffusion.", _version)
app.add_typer(data_app, name="data", rich_help_panel=cli.DATA)
app.add_typer(cli.config_app(_config_class), name="config", rich_help_panel=cli.INSPECT)

Checkpoint = Annotated[
    Path, typer.Option("--checkpoint", help="A run folder (its best checkpoint), a checkpoint folder, or an export.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", help="An HDF5 store (or a folder of them), or a folder of pictures, to train on."),
]
Validation = Annotated[list[str] | None, typer.Option("--validation", help="As --data, to validate on.")]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="What the model begins with: a folder of diffusers or its name on the hub, or a run of an earlier stage.",
    ),
]
RunDir = Annotated[Path | None, typer.Option(help="Folder of the run; default runs/<name of the config>.")]
Steps = Annotated[int | None, typer.Option("--sampling-steps", min=1, help="Of novel views.")]
Guidance = Annotated[float | None, typer.Option(min=1.0, help="Of novel views; 1: none.")]
Warps = Annotated[int | None, typer.Option(min=0, help="Warped copies whose maps are averaged.")]


@app.command(rich_help_panel=cli.TRAIN)
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Resume = None,
    run_dir: RunDir = None,
    data: Data = None,
    validation: Validation = None,
    weights: Weights = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps in all.")] = None,
    devices: Annotated[int | None, typer.Option(help="Processes (GPUs) on each node.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes.")] = None,
    precision: Annotated[Literal["no", "bf16", "fp16"] | None, typer.Option(help="Of the networks.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, build the networks, train nothing.")
    ] = False,
) -> None:
    """Train; checkpoints, metrics, pictures and the resolved config go to a run folder.

    Example, from nothing: keypoint-nvs train --config tiny_autoencoder.json --data train.h5, then
    keypoint-nvs train --config tiny_nvs.json --data train.h5 --weights runs/tiny_autoencoder, then
    keypoint-nvs train --config tiny_joint.json --data train.h5 --weights runs/tiny_nvs
    """
    from posecore.training import preemption

    preemption.install()  # before torch comes in: a signal while it is imported must not end the job
    with exit_codes():
        from keypoint_nvs.config.run import KeypointNvsConfig
        from posecore.config import find_config, load_config

        flags = _train_flags(data, validation, weights, steps, devices, nodes, precision)
        resolved = load_config(KeypointNvsConfig, config, [*flags, *(overrides or [])])
        found = find_config(config, KeypointNvsConfig.presets)
        from keypoint_nvs.experiment import train as run_training

        summary = run_training(resolved, [found.parent], _run_folder(run_dir, found), resume, dry_run=dry_run)
        if summary is not None:
            result_json(summary)


@app.command(rich_help_panel=cli.USE)
def evaluate(
    checkpoint: Checkpoint,
    data: Annotated[
        str | None, typer.Option("--data", help="Store of held-out objects; default: of the training.")
    ] = None,
    train_data: Annotated[
        str | None,
        typer.Option(help="Store on which regression and baselines are fitted; default: that of the training."),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            help="--data is the folder of a benchmark: regression to its points. celeba, celeba_wild, cub, cub_all, cub_001, "
            "cub_002, cub_003, taichi, deepfashion, legacy_deepfashion, human36m, annotated (your own)."
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the report; default: beside the checkpoint.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many samples, spread over the set.")] = None,
    sampling_steps: Steps = None,
    guidance: Guidance = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Drawn views that are averaged.")] = None,
    warps: Warps = None,
    lpips: Annotated[
        Path | None, typer.Option(help="Folder with alexnet-owt-7be5be79.pth (and alex.pth, or pip install lpips).")
    ] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained/--no-untrained", help="Also measure untrained tokens.")
    ] = True,
    device: Device = "auto",
) -> None:
    """Measure on held-out samples: views (PSNR, SSIM) and keypoints (consistency, equivariance, regression), with baselines.

    Example: keypoint-nvs evaluate --checkpoint runs/tiny_joint --data test.h5
    """
    with exit_codes():
        changes = {"sampling_steps": sampling_steps, "guidance": guidance, "samples": samples, "warps": warps}
        if benchmark is not None:
            from keypoint_nvs.evaluate_benchmark import evaluate_benchmark

            result_json(evaluate_benchmark(checkpoint, benchmark, data, output, changes, limit=limit, device=device))
            return
        from keypoint_nvs.evaluate import evaluate as measure

        result_json(
            measure(
                checkpoint,
                data=data,
                train_data=train_data,
                output=output,
                limit=limit,
                changes=changes,
                untrained=untrained,
                lpips=lpips,
                device=device,
            )
        )


@app.command(rich_help_panel=cli.USE)
def predict(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures, folders of pictures, or videos.")],
    checkpoint: Checkpoint,
    views: Annotated[
        bool,
        typer.Option("--views/--no-views", help="Also generate the rig's views, keypoints in them, and 3D keypoints."),
    ] = True,
    fit: Annotated[
        Literal["exact", "centre_crop", "pad"], typer.Option(help="Pictures that are not square: refuse, cut, pad.")
    ] = "exact",
    maps: Annotated[bool, typer.Option("--maps", help="Also draw the attention map of each keypoint.")] = False,
    turntable: Annotated[
        Literal["gif", "mp4"] | None, typer.Option(help="A turning picture of the 3D keypoints with the views.")
    ] = None,
    sampling_steps: Steps = None,
    guidance: Guidance = None,
    warps: Warps = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Of the generated views.")] = None,
    output: Annotated[Path, typer.Option("--output", "--out", help="Folder for all that is written.")] = Path(
        "predictions"
    ),
    device: Device = "auto",
) -> None:
    """Keypoints of pictures with confidence, six novel views, 3D keypoints: JSON, CSV and pictures.

    Example: keypoint-nvs predict photo.png --checkpoint runs/tiny_joint --fit pad --turntable gif
    """
    with exit_codes():
        from keypoint_nvs.predict_files import PredictOptions, predict_files

        options = PredictOptions(
            views=views,
            fit=fit,
            maps=maps,
            turntable=turntable,
            changes={"sampling_steps": sampling_steps, "guidance": guidance, "warps": warps, "seed": seed},
        )
        result_json(predict_files(inputs, checkpoint, output, options, device=device))


@app.command(rich_help_panel=cli.USE)
def generate(
    inputs: Annotated[list[Path], typer.Argument(help="Pictures or folders of pictures, each of one object.")],
    checkpoint: Annotated[
        Path, typer.Option("--checkpoint", help="A run, or a folder of diffusers (Zero123++) or its name on the hub.")
    ],
    output: Annotated[
        Path, typer.Option(help="The HDF5 store to write; parts (--shard) have their number in it.")
    ] = Path("generated.h5"),
    fit: Annotated[
        Literal["exact", "centre_crop", "pad"], typer.Option(help="Pictures that are not square: refuse, cut, pad.")
    ] = "exact",
    rig: Annotated[
        Literal["zero123plus-v1.1", "zero123plus-v1.2"],
        typer.Option(help="Cameras, where the checkpoint is a folder of diffusers."),
    ] = "zero123plus-v1.2",
    sampling_steps: Steps = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the views.")] = 0,
    shard: cli.Shard = None,
    device: Device = "auto",
) -> None:
    """Generate the views of many pictures into a store, to learn keypoints from one picture of each object.

    Example: keypoint-nvs generate photos --checkpoint sudo-ai/zero123plus-v1.2 --output generated.h5
    """
    with exit_codes():
        from keypoint_nvs.generate import generate_store

        changes = {"sampling_steps": sampling_steps, "guidance": guidance, "seed": seed}
        part = cli.part_of(shard)
        result_json(
            generate_store(inputs, checkpoint, output, fit=fit, rig=rig, changes=changes, part=part, device=device)
        )


@app.command(rich_help_panel=cli.USE)
def export(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    format: Annotated[
        Literal["safetensors", "diffusers"],
        typer.Option("--format", help="diffusers: the layout of Zero123++'s folder, for other programs."),
    ] = "safetensors",
) -> None:
    """Write a trained network for use elsewhere; LoRA is merged in the layout of diffusers."""
    with exit_codes():
        from keypoint_nvs.exporting import export_run

        result_json(export_run(checkpoint, output, format))


@app.command(rich_help_panel=cli.TRAIN)
def submit(
    config: ConfigFile,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    data: Data = None,
    validation: Validation = None,
    weights: Weights = None,
    nodes: Annotated[int, typer.Option(help="Nodes.")] = 1,
    gpus_per_node: Annotated[int, typer.Option(help="GPUs, and processes, on each node.")] = 1,
    cpus_per_task: Annotated[int, typer.Option(help="CPU cores a process.")] = 8,
    time: Annotated[str, typer.Option(help="Limit, for example 24:00:00.")] = "24:00:00",
    partition: Annotated[str | None, typer.Option(help="Partition, for example gpu or ai.")] = None,
    account: Annotated[str | None, typer.Option(help="Account.")] = None,
    job_name: Annotated[str | None, typer.Option(help="Default: the run folder's name.")] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A job of 20 minutes and 20 steps, to try the set-up.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the job script, submit nothing.")] = False,
) -> None:
    """The same training as a SLURM job that saves, requeues and resumes when it is preempted or out of time."""
    with exit_codes():
        from keypoint_nvs.config.run import KeypointNvsConfig
        from posecore.config import find_config, load_config
        from posecore.submission import submit_training

        steps = 20 if smoke else None
        flags = _train_flags(data, validation, weights, steps, gpus_per_node, nodes, None)
        settings = [*flags, *(overrides or [])]
        found = find_config(config, KeypointNvsConfig.presets)
        resolved = load_config(KeypointNvsConfig, config, settings)
        from keypoint_nvs.experiment import check_inputs

        check_inputs(resolved, [found.parent])  # told now, not after the queue
        folder = _run_folder(run_dir, found)
        folder = folder.with_name(f"{folder.name}-smoke") if smoke else folder
        submit_training(
            "keypoint_nvs.cli",
            str(found),
            settings,
            folder,
            job_name or folder.name,
            dry_run,
            nodes=nodes,
            gpus_per_node=gpus_per_node,
            cpus_per_task=cpus_per_task,
            time="00:20:00" if smoke else time,
            partition=partition,
            account=account,
        )


@app.command(rich_help_panel=cli.INSPECT)
def doctor(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Configs, runs, stores, folders of diffusers or of pictures; none: this machine."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Versions and devices; whether files are what they should be, and what to do if not.

    Exits with 1 if something is wrong.
    """
    with exit_codes():
        from keypoint_nvs.doctor import check, environment_findings
        from posecore.doctor import format_findings

        findings = environment_findings() if not paths else [f for path in paths for f in check(path)]
        result_json([vars(f) for f in findings]) if as_json else result(format_findings(findings))
        if any(finding.level == "error" for finding in findings):
            raise typer.Exit(cli.EXIT_FAILED)


@app.command(rich_help_panel=cli.TRAIN)
def demo(
    output: Annotated[Path, typer.Option(help="Folder for data, runs, report and section.json.")] = Path(
        "runs/demo/keypoint-nvs"
    ),
    effort: Annotated[float, typer.Option(min=0.001, max=1.0, help="Share of the steps of training.")] = 1.0,
) -> None:
    """Make objects, train autoencoder, views and keypoints from nothing, measure on objects never seen. No download, no GPU."""
    with exit_codes():
        from keypoint_nvs.demo import demo as run_demo

        section = run_demo(output, effort)
        say(f"report: {section}")


def _train_flags(
    data: list[str] | None,
    validation: list[str] | None,
    weights: Path | None,
    steps: int | None,
    devices: int | None,
    nodes: int | None,
    precision: str | None,
) -> list[str]:
    """Options as overrides of the configuration."""
    values: dict[str, Any] = {
        "data.train": _datasets(data),
        "data.val": _datasets(validation),
        "model.weights": None if weights is None else str(weights),
        "train.steps": steps,
        "train.devices": devices,
        "train.nodes": nodes,
        "train.precision": precision,
    }
    return [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]


def _datasets(paths: list[str] | None) -> list[dict[str, Any]] | None:
    if not paths:
        return None
    from keypoint_nvs.layout import dataset_of_path

    return [dataset_of_path(path).to_json_dict() for path in paths]


def _run_folder(run_dir: Path | None, config: Path) -> Path:
    return run_dir or Path("runs") / config.stem


def main() -> None:
    """Entry point of the console script."""
    cli.run(app)


if __name__ == "__main__":
    main()
