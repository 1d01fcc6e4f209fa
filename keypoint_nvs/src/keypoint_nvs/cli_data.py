"""The commands `keypoint-nvs data ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from posecore.cli import Json, Shard, exit_codes, part_of, result, result_json

app = typer.Typer(help="Make, convert and look at data sets.", no_args_is_help=True)
convert_app = typer.Typer(help="Public data sets to stores of views.", no_args_is_help=True)
app.add_typer(convert_app, name="convert")

RigName = Annotated[Literal["zero123plus-v1.1", "zero123plus-v1.2"], typer.Option(help="Cameras of the six views.")]
SamplesPerShard = Annotated[int, typer.Option(min=1, help="Samples in each file.")]
ImagePx = Annotated[
    int | None, typer.Option(min=8, help="Side to which pictures are resized, px, as 320; default: as they are.")
]


@app.command()
def synth(
    output: Annotated[Path, typer.Argument(help="The .hdf5 file to write.")],
    objects: Annotated[int, typer.Option(min=1, help="Different objects.")] = 600,
    first_object: Annotated[
        int, typer.Option(min=0, help="Number of the first: sets of numbers that do not overlap share no object.")
    ] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Samples of each object: steps of its walk.")] = 1,
    view_px: Annotated[int, typer.Option(min=8, help="Side of the pictures, px.")] = 32,
    rig: RigName = "zero123plus-v1.2",
    body_color: Annotated[
        Literal["random", "fixed"], typer.Option(help="A colour for each object, or one.")
    ] = "random",
    azimuth_range: Annotated[
        float, typer.Option(min=0, max=180, help="Input views are up to so many degrees to either side of the front.")
    ] = 180.0,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds give other objects.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that render; 0: this one.")] = 0,
) -> None:
    """Make animals of ellipsoids seen from an input view and six others, with keypoints and alpha.

    Example: keypoint-nvs data synth train.hdf5 --objects 600, and for objects that training never sees:
    keypoint-nvs data synth held.hdf5 --objects 24 --first-object 600
    """
    with exit_codes():
        from keypoint_nvs.data.synthetic import SyntheticOptions, synthesise
        from keypoint_nvs.rig import rig_of

        options = SyntheticOptions(
            objects=objects,
            first_object=first_object,
            frames=frames,
            seed=seed,
            view_px=view_px,
            rig=rig_of(rig),
            body_color=body_color,
            azimuth_range_deg=(-azimuth_range, azimuth_range),
        )
        result_json(synthesise(output, options, workers=workers))


@convert_app.command("skel4d")
def convert_skel4d(
    file: Annotated[Path, typer.Argument(help="train.hdf5 or val.hdf5, with groups OBJECT/FRAME.")],
    output: Annotated[Path, typer.Argument(help="Folder of the stores.")],
    rig: RigName = "zero123plus-v1.2",
    max_pose_error_deg: Annotated[
        float, typer.Option(min=0, help="How far a view may be turned from the rig's, degrees.")
    ] = 5.0,
    skip_far: Annotated[
        bool, typer.Option("--skip-far", help="Leave out frames without views that near; the result names them.")
    ] = False,
    up: Annotated[Literal["y", "z"], typer.Option(help="The world's axis that points up.")] = "z",
    image_px: ImagePx = None,
    joints: Annotated[bool, typer.Option("--joints", help="Keep the joints as ground-truth keypoints.")] = False,
    samples_per_shard: SamplesPerShard = 1000,
    shard: Shard = None,
) -> None:
    """Skel4D's HDF5 files: of each frame's twelve free views those that stand where the rig's do.

    Example: keypoint-nvs data convert skel4d train.hdf5 stores/train --image-px 320
    """
    with exit_codes():
        from keypoint_nvs.data.converters.skel4d import convert_skel4d as convert
        from keypoint_nvs.rig import rig_of

        report = convert(
            file,
            output,
            rig_of(rig),
            max_pose_error_deg=max_pose_error_deg,
            skip_far=skip_far,
            up=up,
            image_px=image_px,
            with_joints=joints,
            samples_per_shard=samples_per_shard,
            shard=part_of(shard),
        )
        result_json(vars(report))


@convert_app.command("instantmesh")
def convert_instantmesh(
    root: Annotated[Path, typer.Argument(help="Folder in which the folder of the pictures lies.")],
    output: Annotated[Path, typer.Argument(help="Folder of the stores.")],
    paths_json: Annotated[Path, typer.Option(help="The list {category: [path, ...]}.")],
    image_dir: Annotated[str, typer.Option(help="Folder of the pictures, in ROOT.")] = "rendering_zero123plus",
    split: Annotated[Literal["train", "val"], typer.Option(help="val: the last 16 paths of the list.")] = "train",
    rig: RigName = "zero123plus-v1.2",
    image_px: ImagePx = None,
    samples_per_shard: SamplesPerShard = 1000,
    shard: Shard = None,
) -> None:
    """InstantMesh's renderings: PATH/000.png is the input view, 001.png to 006.png are the six others.

    Example: keypoint-nvs data convert instantmesh objaverse stores/train --paths-json objaverse/paths.json
    """
    with exit_codes():
        from keypoint_nvs.data.converters.instantmesh import convert_instantmesh as convert

        report = convert(
            root,
            output,
            image_dir=image_dir,
            paths_json=paths_json,
            split=split,
            rig=rig,
            image_px=image_px,
            samples_per_shard=samples_per_shard,
            shard=part_of(shard),
        )
        result_json(vars(report))


@app.command()
def inspect(
    path: Annotated[str, typer.Argument(help="A store, a folder of stores, a glob, or a folder of pictures.")],
    picture: Annotated[
        Path | None, typer.Option(help="PNG to write: samples with outlines and keypoints, one a row.")
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(help="Folder for the input views of the same samples, PNG with alpha: to predict from."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Samples in the picture.")] = 6,
    checked: Annotated[
        int, typer.Option(min=1, help="Samples, spread over the set, that are read for the numbers.")
    ] = 100,
    fit: Annotated[
        Literal["exact", "centre_crop", "pad"], typer.Option(help="How pictures of a folder are made square.")
    ] = "pad",
    background: Annotated[Literal["grey", "white"], typer.Option(help="Behind transparent pixels.")] = "grey",
    seed: Annotated[int, typer.Option(min=0, help="Which samples are drawn.")] = 0,
    as_json: Json = False,
) -> None:
    """Counts, sizes, cameras and keypoints of a data set; with --picture, a sheet of samples.

    Example: keypoint-nvs data inspect train.hdf5 --picture sheet.png
    """
    with exit_codes():
        from keypoint_nvs.data.inspection import (
            describe_images,
            describe_store,
            draw_images,
            draw_store,
            write_inputs,
            write_sheet,
        )
        from keypoint_nvs.layout import dataset_of_path
        from posecore.errors import InputError

        kind = dataset_of_path(path).kind
        if inputs is not None and kind != "multiview":
            raise InputError(f"--inputs: {path} holds pictures, no store of views; its pictures are files already")
        facts = describe_store(path, checked) if kind == "multiview" else describe_images(path, checked)
        if picture is not None:
            if kind == "multiview":
                write_sheet(picture, draw_store(path, count, seed, background))
            else:
                write_sheet(picture, draw_images(path, fit, count, seed, background))
            facts["picture"] = str(picture)
        if inputs is not None:
            facts["inputs"] = ", ".join(str(file) for file in write_inputs(path, inputs, count, seed))
        result_json(facts) if as_json else result("\n".join(f"{key:28} {value}" for key, value in facts.items()))
