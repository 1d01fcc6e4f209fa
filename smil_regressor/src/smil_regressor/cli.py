"""The command `smil`. Thin: parse, call, print; torch comes in inside the commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from posecore import cli
from posecore.cli import ConfigFile, Json, Overrides, Resume, exit_codes, result, result_json, say
from posecore.errors import InputError
from smil_regressor.cli_data import app as data_app

if TYPE_CHECKING:
    from smil_regressor.config import SmilConfig


def _version() -> str:
    from smil_regressor import __version__

    return __version__


def _config_class() -> "type[SmilConfig]":
    from smil_regressor.config import SmilConfig

    return SmilConfig


app = cli.make_app(
    "smil", "Pose, shape and cameras of SMIL and SMAL animal models from one or several views.", _version
)
app.add_typer(data_app, name="data", rich_help_panel=cli.DATA)
app.add_typer(cli.config_app(_config_class), name="config", rich_help_panel=cli.INSPECT)

Checkpoint = Annotated[
    Path, typer.Option("--checkpoint", help="A run folder (its best checkpoint), a checkpoint folder, or an export.")
]
SmalFile = Annotated[
    Path | None,
    typer.Option("--smal-file", "--smal_file", help="Body model .pkl, where it is not beside the checkpoint."),
]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]


@app.command(rich_help_panel=cli.TRAIN)
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Resume = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run; default runs/<output.checkpoint_dir>.")
    ] = None,
    data_path: Annotated[
        Path | None,
        typer.Option("--data-path", "--data_path", "--dataset-path", "--dataset_path", help="HDF5 file of samples."),
    ] = None,
    smal_file: SmalFile = None,
    shape_family: Annotated[int | None, typer.Option("--shape-family", "--shape_family")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", "--batch_size", help="Samples a step.")] = None,
    num_epochs: Annotated[int | None, typer.Option("--num-epochs", "--num_epochs")] = None,
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", "--learning_rate")] = None,
    seed: Annotated[int | None, typer.Option()] = None,
    num_views_to_use: Annotated[int | None, typer.Option("--num-views-to-use", "--num_views_to_use")] = None,
    checkpoint_dir: Annotated[str | None, typer.Option("--checkpoint-dir", "--checkpoint_dir")] = None,
    resume_checkpoint: Annotated[
        str | None,
        typer.Option("--resume-checkpoint", "--resume_checkpoint", help="Start from its weights; none: do not."),
    ] = None,
    devices: Annotated[
        int | None, typer.Option("--devices", "--num-gpus", "--num_gpus", help="Processes (GPUs) on each node.")
    ] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes.")] = None,
    precision: Annotated[Literal["fp32", "bf16"] | None, typer.Option(help="Of the backbone.")] = None,
    mixed_precision: Annotated[
        bool | None, typer.Option("--use-mixed-precision/--no-mixed-precision", "--use_mixed_precision")
    ] = None,
    accumulation: Annotated[
        int | None, typer.Option("--gradient-accumulation-steps", "--gradient_accumulation_steps")
    ] = None,
    gt_cameras: Annotated[
        bool | None, typer.Option("--use-gt-camera-init/--no-gt-camera-init", "--use_gt_camera_init")
    ] = None,
    reset_token: Annotated[
        bool | None, typer.Option("--reset-ief-token-embedding", "--reset_ief_token_embedding")
    ] = None,
    dataset_fraction: Annotated[float | None, typer.Option("--dataset-fraction", "--dataset_fraction")] = None,
    master_port: Annotated[
        int | None, typer.Option("--master-port", "--master_port", help="Port of the rendezvous.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the start table, train nothing.")
    ] = False,
) -> None:
    """Train; checkpoints, metrics, pictures and the resolved config go to a run folder.

    Example: smil train --config tiny.json --data-path insects.h5
    """
    from posecore.training import preemption

    preemption.install()  # before torch comes in: a signal while it is imported must not end the job
    flags: dict[str, Any] = {
        "dataset.data_path": None if data_path is None else str(data_path),
        "dataset.dataset_fraction": dataset_fraction,
        "smal_model.smal_file": None if smal_file is None else str(smal_file),
        "smal_model.shape_family": shape_family,
        "training.batch_size": batch_size,
        "training.num_epochs": num_epochs,
        "training.seed": seed,
        "training.devices": devices,
        "training.nodes": nodes,
        "training.use_mixed_precision": mixed_precision if precision is None else precision == "bf16",
        "training.gradient_accumulation_steps": accumulation,
        "training.use_gt_camera_init": gt_cameras,
        "training.reset_ief_token_embedding": reset_token,
        "training.resume_checkpoint": resume_checkpoint,
        "optimizer.learning_rate": learning_rate,
        "num_views_to_use": num_views_to_use,
        "output.checkpoint_dir": checkpoint_dir,
    }
    given = [f"{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    given += ["training.resume_checkpoint=null"] if resume_checkpoint == "none" else []
    with exit_codes():
        from posecore.config import find_config, load_config
        from smil_regressor.config import SmilConfig

        resolved = load_config(SmilConfig, config, [*given, *(overrides or [])])
        folders = [find_config(config, SmilConfig.presets).parent]
        from smil_regressor.experiment import train as run_training

        summary = run_training(resolved, folders, run_dir, resume, master_port=master_port, dry_run=dry_run)
        if summary is not None:
            result_json(summary)


@app.command(rich_help_panel=cli.USE)
def evaluate(
    checkpoint: Checkpoint,
    data: Annotated[
        Path | None, typer.Option("--data", "--dataset-path", help="HDF5 file; default: the one trained on.")
    ] = None,
    split: Annotated[
        Literal["test", "val", "train", "all"],
        typer.Option(help="The split stored with the run; all: every sample of the file."),
    ] = "test",
    output: Annotated[Path | None, typer.Option(help="Folder of the report; default: beside the checkpoint.")] = None,
    smal_file: SmalFile = None,
    ground_truth: Annotated[
        bool,
        typer.Option("--ground-truth", help="Feed the stored parameters through the body model: must give about 0."),
    ] = False,
    gt_cameras: Annotated[
        bool, typer.Option(help="Measure 2D errors in the given cameras, not the predicted ones.")
    ] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at once.")] = 16,
    device: Device = "auto",
) -> None:
    """Measure on held-out samples: metrics.json, CSV by joint, view and session, curves, worst-case pictures."""
    with exit_codes():
        from smil_regressor.evaluate import evaluate as measure

        result_json(
            measure(
                checkpoint,
                data=data,
                split=split,
                output=output,
                smal_file=smal_file,
                ground_truth=ground_truth,
                gt_cameras=gt_cameras,
                batch_size=batch_size,
                device=device,
            )
        )


@app.command(rich_help_panel=cli.USE)
def predict(
    checkpoint: Checkpoint,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures, folders of pictures, videos (one a view), an HDF5 file, or a SLEAP session folder."
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder for parameters, pictures and meshes.")] = Path("predictions"),
    calibration: Annotated[
        Path | None,
        typer.Option(help="Anipose calibration.toml of the views, found by camera name."),
    ] = None,
    world_scale: Annotated[
        float | None,
        typer.Option(
            help="Metres per unit of the calibration, 0.001 for millimetres; for networks that work in metres."
        ),
    ] = None,
    cameras: Annotated[
        str | None, typer.Option(help="Names of the views in the order of the inputs, for example top,left,right.")
    ] = None,
    mode: Annotated[
        Literal["auto", "frames", "views"],
        typer.Option(help="Inputs are separate frames, or views of the same moment."),
    ] = "auto",
    smal_file: SmalFile = None,
    meshes: Annotated[Literal["none", "obj", "ply", "glb"], typer.Option(help="Write a mesh a frame.")] = "obj",
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Take every n-th frame.")] = 1,
    smoothing: Annotated[
        int, typer.Option(help="Odd window, frames, over which pose and place are smoothed; 1: not.")
    ] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Frames at once.")] = 8,
    device: Device = "auto",
) -> None:
    """Parameters (JSON, NPZ), overlays and meshes from pictures or videos of one or several views."""
    with exit_codes():
        from smil_regressor.predict_files import predict_files

        summary = predict_files(
            checkpoint,
            inputs,
            output,
            calibration=calibration,
            world_scale=world_scale,
            camera_names=None if cameras is None else cameras.split(","),
            mode=mode,
            smal_file=smal_file,
            mesh_format=None if meshes == "none" else meshes,
            max_frames=max_frames,
            every=every,
            smoothing=smoothing,
            batch_size=batch_size,
            device=device,
        )
        result_json(summary)


@app.command(rich_help_panel=cli.USE)
def fit(
    data: Annotated[Path, typer.Argument(help="HDF5 file with keypoints in calibrated views.")],
    output: Annotated[Path, typer.Option(help="Folder for parameters, pictures and meshes.")] = Path("fits"),
    smal_file: Annotated[
        Path | None,
        typer.Option("--smal-file", "--smal_file", help="Body model .pkl; default: the procedural insect."),
    ] = None,
    samples: Annotated[str, typer.Option(help="Numbers in the file, for example 0,4,7; or all.")] = "all",
    steps: Annotated[int, typer.Option(min=20, help="Of the optimiser, for all samples at once.")] = 600,
    limbs: Annotated[
        bool,
        typer.Option(help="Also fit a scale and an offset for each limb, where the model's shapes do not suffice."),
    ] = False,
    masks: Annotated[bool, typer.Option(help="Fit the outline to the masks that the file has.")] = True,
    points: Annotated[
        bool,
        typer.Option(
            help="Fit the 3D keypoints that the file has; --no-points also leaves them out of the labels written."
        ),
    ] = True,
    cameras: Annotated[
        Literal["fixed", "refine"], typer.Option(help="refine: correct a session's cameras, all but the first.")
    ] = "fixed",
    shape: Annotated[
        Literal["sample", "session"], typer.Option(help="One shape and size for each sample, or for each session.")
    ] = "sample",
    mesh_scale: Annotated[
        float | None,
        typer.Option(help="World units for one unit of the body model, held fixed; single views need it. Else fitted."),
    ] = None,
    write_labels: Annotated[
        Path | None, typer.Option(help="HDF5 file to write: the same samples with the fitted poses as labels.")
    ] = None,
    meshes: Annotated[Literal["none", "obj", "ply", "glb"], typer.Option(help="Write a mesh a sample.")] = "obj",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at once; what sessions share is kept together.")] = 32,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Poses without a network: the body model is fitted to each sample's keypoints and masks.

    Example: smil fit insects.h5 --samples 0,1 --output fits
    """
    with exit_codes():
        from smil_regressor.fitting.files import fit_file, parse_samples
        from smil_regressor.fitting.options import FitOptions

        summary = fit_file(
            data,
            output,
            FitOptions(
                steps=steps,
                limbs=limbs,
                masks=masks,
                points=points,
                refine_cameras=cameras == "refine",
                share_shape=shape == "session",
                mesh_scale=mesh_scale,
            ),
            smal_file=smal_file,
            samples=parse_samples(samples),
            labels=write_labels,
            mesh_format=None if meshes == "none" else meshes,
            batch_size=batch_size,
            device=device,
        )
        result_json(summary) if as_json else result("\n".join(f"{key:28} {value}" for key, value in summary.items()))


@app.command(rich_help_panel=cli.USE)
def export(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option(help="Folder (safetensors) or .onnx file to write.")],
    format: Annotated[
        Literal["safetensors", "onnx"], typer.Option(help="onnx needs the extra: smil-regressor[onnx].")
    ] = "safetensors",
    smal_file: SmalFile = None,
) -> None:
    """Write a trained network for use elsewhere; ONNX is compared with PyTorch before it is kept."""
    with exit_codes():
        from smil_regressor.export import export as write

        result_json(write(checkpoint, output, format, smal_file))


@app.command(rich_help_panel=cli.USE)
def bench(
    checkpoint: Checkpoint,
    batch_sizes: Annotated[str, typer.Option(help="Frames at once, for example 1,8.")] = "1,8",
    smal_file: SmalFile = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Speed of this network on this machine: the whole prediction beside its bare backbone."""
    with exit_codes():
        from smil_regressor.speed import format_speeds, measure_speed

        speeds = measure_speed(checkpoint, _batch_sizes(batch_sizes), smal_file, device)
        result_json(speeds) if as_json else result(format_speeds(speeds))


@app.command(rich_help_panel=cli.TRAIN)
def submit(
    config: ConfigFile,
    overrides: Overrides = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run; default runs/<output.checkpoint_dir>.")
    ] = None,
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
        from posecore.config import find_config, load_config
        from smil_regressor.config import SmilConfig

        settings = [f"training.devices={gpus_per_node}", f"training.nodes={nodes}", *(overrides or [])]
        resolved = load_config(SmilConfig, config, settings)
        from posecore.submission import submit_training
        from smil_regressor.experiment import run_folder, with_found_files

        with_found_files(resolved, [find_config(config, SmilConfig.presets).parent])  # told now, not after the queue
        folder = run_folder(resolved, run_dir)
        submit_training(
            "smil_regressor.cli",
            str(find_config(config, SmilConfig.presets)),
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
        typer.Argument(help="Body models, calibrations, sessions, HDF5 files, configs, runs; none: this machine only."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Versions, devices, what was found where; and what is wrong with the given files, with the remedy.

    Exits with 1 if something is wrong.
    """
    with exit_codes():
        from smil_regressor.doctor import check, environment_findings, format_findings

        findings = environment_findings() if not paths else [f for path in paths for f in check(path)]
        result_json([vars(f) for f in findings]) if as_json else result(format_findings(findings))
        if any(finding.level == "error" for finding in findings):
            raise typer.Exit(cli.EXIT_FAILED)


@app.command(rich_help_panel=cli.TRAIN)
def demo(
    output: Annotated[Path, typer.Option(help="Folder for data, run, report and section.json.")] = Path(
        "runs/demo/smil"
    ),
    samples: Annotated[int, typer.Option(help="Synthetic samples.")] = 1280,
    epochs: Annotated[int | None, typer.Option(help="Epochs of the tiny preset.")] = None,
) -> None:
    """Make data, train the tiny preset, evaluate on held-out samples, predict, report. No download, no GPU."""
    with exit_codes():
        from smil_regressor.demo import demo as run_demo

        section = run_demo(output, samples, epochs)
        say(f"report: {section}")


def _batch_sizes(text: str) -> list[int]:
    sizes = [int(word) if word.strip().isdigit() else 0 for word in text.split(",")]
    if min(sizes) < 1:
        raise InputError(f"--batch-sizes {text}: whole numbers from 1 on are needed, for example 1,8")
    return sizes


def main() -> None:
    cli.run(app)


if __name__ == "__main__":
    main()
