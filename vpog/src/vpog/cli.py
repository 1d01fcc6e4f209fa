"""The command `vpog`. Thin: parse, call, print; torch comes in inside the commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from posecore import cli
from posecore.cli import ConfigFile, Json, Overrides, Resume, exit_codes, result, result_json, say
from vpog.cli_data import app as data_app

if TYPE_CHECKING:
    from vpog.config.run import VpogConfig


def _version() -> str:
    from vpog import __version__

    return __version__


def _config_class() -> "type[VpogConfig]":
    from vpog.config.run import VpogConfig

    return VpogConfig


app = cli.make_app("vpog", "6D pose of unseen objects from one picture and groups of rendered templates.", _version)
app.add_typer(data_app, name="data", rich_help_panel=cli.DATA)
app.add_typer(cli.config_app(_config_class), name="config", rich_help_panel=cli.INSPECT)

Checkpoint = Annotated[
    Path, typer.Option("--checkpoint", help="A run folder (its best checkpoint), a checkpoint folder, or an export.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
Data = Annotated[
    list[Path] | None,
    typer.Option("--data", help="Folder of a split, as ROOT/NAME/train; its templates lie in ROOT/templates/NAME."),
]
RunDir = Annotated[Path | None, typer.Option(help="Folder of the run; default runs/<name of the config>.")]
Mode = Annotated[
    Literal["cluster", "global", "subset"] | None,
    typer.Option(help="Which views are solved; default: the training's config."),
]
Solver = Annotated[Literal["ransac", "epro"] | None, typer.Option(help="Default: the training's config.")]
Refinements = Annotated[int | None, typer.Option("--refine", min=0, help="Rounds of refinement.")]


@app.command(rich_help_panel=cli.TRAIN)
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    resume: Resume = None,
    run_dir: RunDir = None,
    data: Data = None,
    validation: Annotated[list[Path] | None, typer.Option("--validation", help="As --data, to validate on.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps in all.")] = None,
    devices: Annotated[int | None, typer.Option(help="Processes (GPUs) on each node.")] = None,
    nodes: Annotated[int | None, typer.Option(help="Nodes.")] = None,
    precision: Annotated[Literal["no", "bf16", "fp16"] | None, typer.Option(help="Of the network.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, build the network, train nothing.")
    ] = False,
) -> None:
    """Train; checkpoints, metrics, pictures and the resolved config go to a run folder.

    Example: vpog train --config tiny.json --data objects/synthetic/train --validation objects/synthetic/val
    """
    from posecore.training import preemption

    preemption.install()  # before torch comes in: a signal while it is imported must not end the job
    with exit_codes():
        from posecore.config import find_config, load_config
        from vpog.config.run import VpogConfig

        flags = _train_flags(data, validation, steps, devices, nodes, precision)
        resolved = load_config(VpogConfig, config, [*flags, *(overrides or [])])
        found = find_config(config, VpogConfig.presets)
        from vpog.experiment import train as run_training

        summary = run_training(resolved, [found.parent], _run_folder(run_dir, found), resume, dry_run=dry_run)
        if summary is not None:
            result_json(summary)


@app.command(rich_help_panel=cli.USE)
def evaluate(
    checkpoint: Checkpoint,
    data: Data = None,
    split: Annotated[
        Literal["val", "test"], typer.Option(help="Without --data: which data sets of the training's config.")
    ] = "test",
    detections: Annotated[
        Path | None,
        typer.Option(help="BOP detections (JSON) to start from; default: the true visible boxes and masks."),
    ] = None,
    targets: Annotated[Path | None, typer.Option(help="test_targets_bop19.json; default: every instance.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the report; default: beside the checkpoint.")] = None,
    method: Annotated[str, typer.Option(help="First part of the result file's name; no underscore.")] = "vpog",
    mode: Mode = None,
    solver: Solver = None,
    refine: Refinements = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many pictures, spread over the set.")] = None,
    shard: Annotated[
        str | None, typer.Option(help="i/n: estimate the i-th of n parts, from 0, and write its CSV only.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Measure on pictures with true poses: BOP's CSV, AR, AP, ADD(-S), tables and worst-case pictures.

    Example: vpog evaluate --checkpoint runs/tiny --data objects/synthetic/test
    """
    with exit_codes():
        from vpog.evaluate import evaluate as measure

        result_json(
            measure(
                checkpoint,
                data=data,
                split=split,
                detections=detections,
                targets=targets,
                output=output,
                method=method,
                changes={"mode": mode, "solver": solver, "refinements": refine},
                limit=limit,
                part=None if shard is None else cli.part_of(shard),
                device=device,
            )
        )


@app.command(rich_help_panel=cli.USE)
def score(
    results: Annotated[list[Path], typer.Argument(help="BOP result files (.csv); several parts are joined.")],
    data: Annotated[Path, typer.Option("--data", help="Folder of the split with the true poses.")],
    models: Annotated[
        Path, typer.Option(help="Folder with the meshes, obj_000001.ply and so on, and models_info.json.")
    ],
    targets: Annotated[Path | None, typer.Option(help="test_targets_bop19.json; default: every instance.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the tables; default: beside the first file.")] = None,
) -> None:
    """BOP's numbers of result files of any method.

    Example: vpog score vpog_lmo-test.csv --data bop/lmo/test --models bop/lmo/models_eval
    """
    with exit_codes():
        from vpog.evaluate import score_files

        result_json(score_files(results, data, models, targets=targets, output=output))


@app.command(rich_help_panel=cli.USE)
def onboard(
    meshes: Annotated[list[Path], typer.Argument(help="Meshes (.ply, .obj, .glb); their numbers count from --first.")],
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option(help="Folder of known objects.")] = Path("objects"),
    first: Annotated[int, typer.Option(min=0, help="Number of the first mesh.")] = 1,
    mesh_unit: Annotated[
        Literal["auto", "mm", "m"], typer.Option(help="auto refuses sizes that could be either.")
    ] = "auto",
    level: Annotated[int, typer.Option(min=0, max=2, help="0, 1, 2: 42, 162 or 642 templates.")] = 1,
    models_info: Annotated[
        Path | None, typer.Option(help="models_info.json with symmetries; default: found from the mesh.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Make objects known: templates are rendered once and kept.

    Example: vpog onboard mug.ply --checkpoint runs/tiny --output objects
    """
    with exit_codes():
        from vpog.onboarding import onboard_files

        result_json(
            onboard_files(
                meshes,
                checkpoint,
                output,
                first=first,
                unit=mesh_unit,
                level=level,  # type: ignore[arg-type]
                models_info=models_info,
                device=device,
            )
        )


@app.command(rich_help_panel=cli.USE)
def predict(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Pictures; or folders with image.png, camera.json, detections.json and meshes/LABEL/."),
    ],
    checkpoint: Checkpoint,
    objects: Annotated[Path | None, typer.Option(help="Folder that `vpog onboard` made.")] = None,
    mesh: Annotated[Path | None, typer.Option(help="The mesh of the one object, instead of --objects.")] = None,
    obj_id: Annotated[int, typer.Option(help="Which of --objects is in --box or --mask.")] = 1,
    box: Annotated[str | None, typer.Option(help="x1,y1,x2,y2 px of the object in each picture.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Picture whose non-zero pixels are the object.")] = None,
    intrinsics: Annotated[str | None, typer.Option("--k", help="fx,fy,cx,cy px.")] = None,
    fov: Annotated[float | None, typer.Option(help="Horizontal field of view, degrees.")] = None,
    mesh_unit: Annotated[Literal["auto", "mm", "m"], typer.Option(help="Of the meshes.")] = "auto",
    level: Annotated[int, typer.Option(min=0, max=2, help="Templates of --mesh: 42, 162 or 642.")] = 1,
    hypotheses: Annotated[int | None, typer.Option(min=1, help="Poses that are returned for each object.")] = None,
    mode: Mode = None,
    solver: Solver = None,
    refine: Refinements = None,
    output: Annotated[Path, typer.Option("--output", "--out", help="Folder for all that is written.")] = Path(
        "predictions"
    ),
    device: Device = "auto",
) -> None:
    """Poses of known objects: results.json, BOP's CSV and overlays of the meshes' contours.

    Example: vpog predict photo.png --checkpoint runs/tiny --mesh mug.ply --box 120,80,260,230 --k 600,600,320,240
    """
    with exit_codes():
        from vpog.predict_files import PredictOptions, predict_files

        options = PredictOptions(
            objects=objects,
            mesh=mesh,
            obj_id=obj_id,
            box=box,
            mask=mask,
            intrinsics=intrinsics,
            fov_deg=fov,
            mesh_unit=mesh_unit,
            level=level,  # type: ignore[arg-type]
            changes={"hypotheses": hypotheses, "mode": mode, "solver": solver, "refinements": refine},
        )
        result_json(predict_files(inputs, checkpoint, output, options, device=device))


@app.command(rich_help_panel=cli.USE)
def export(
    checkpoint: Checkpoint,
    output: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Write a trained network as safetensors, for use elsewhere."""
    with exit_codes():
        from posecore.training.checkpoints import export_checkpoint, load_checkpoint
        from vpog.loading import SYSTEM

        folder = export_checkpoint(load_checkpoint(checkpoint, SYSTEM), output, {})
        result_json({"folder": str(folder), "files": sorted(file.name for file in folder.iterdir())})


@app.command(rich_help_panel=cli.TRAIN)
def submit(
    config: ConfigFile,
    overrides: Overrides = None,
    run_dir: RunDir = None,
    data: Data = None,
    validation: Annotated[list[Path] | None, typer.Option("--validation", help="As --data.")] = None,
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
        from posecore.submission import submit_training
        from vpog.config.run import VpogConfig

        settings = [*_train_flags(data, validation, None, gpus_per_node, nodes, None), *(overrides or [])]
        found = find_config(config, VpogConfig.presets)
        resolved = load_config(VpogConfig, config, settings)
        from vpog.experiment import check_inputs

        check_inputs(resolved, [found.parent])  # told now, not after the queue
        folder = _run_folder(run_dir, found)
        submit_training(
            "vpog.cli",
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
        typer.Argument(help="Configs, runs, splits, templates, meshes, CroCo weights; none: this machine."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Versions and devices; whether files are what they should be, and what to do if not.

    Exits with 1 if something is wrong.
    """
    with exit_codes():
        from vpog.doctor import check, environment_findings, format_findings

        findings = environment_findings() if not paths else [f for path in paths for f in check(path)]
        result_json([vars(f) for f in findings]) if as_json else result(format_findings(findings))
        if any(finding.level == "error" for finding in findings):
            raise typer.Exit(cli.EXIT_FAILED)


@app.command(rich_help_panel=cli.TRAIN)
def demo(
    output: Annotated[Path, typer.Option(help="Folder for data, runs, report and section.json.")] = Path(
        "runs/demo/vpog"
    ),
    steps: Annotated[int | None, typer.Option(help="Steps of training; default: the tiny preset's.")] = None,
) -> None:
    """Make objects and pictures, train the tiny preset, estimate poses of objects that it never saw. No download, no GPU."""
    with exit_codes():
        from vpog.demo import demo as run_demo

        section = run_demo(output, steps)
        say(f"report: {section}")


def _train_flags(
    data: list[Path] | None,
    validation: list[Path] | None,
    steps: int | None,
    devices: int | None,
    nodes: int | None,
    precision: str | None,
) -> list[str]:
    """Options as overrides of the configuration."""
    values: dict[str, Any] = {
        "data.train": _datasets(data),
        "data.val": _datasets(validation),
        "train.steps": steps,
        "train.devices": devices,
        "train.nodes": nodes,
        "train.precision": precision,
    }
    return [f"{key}={json.dumps(value)}" for key, value in values.items() if value is not None]


def _datasets(folders: list[Path] | None) -> list[dict[str, Any]] | None:
    if not folders:
        return None
    from vpog.layout import dataset_of_folder

    return [dataset_of_folder(folder).to_json_dict() for folder in folders]


def _run_folder(run_dir: Path | None, config: Path) -> Path:
    return run_dir or Path("runs") / config.stem


def main() -> None:
    cli.run(app)


if __name__ == "__main__":
    main()
