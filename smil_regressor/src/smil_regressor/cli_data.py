"""The commands `smil data ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from posecore.cli import Json, Shard, exit_codes, part_of, result, result_json, say
from posecore.errors import InputError

app = typer.Typer(help="Make, convert and look at data sets.", no_args_is_help=True)
convert_app = typer.Typer(help="Convert a public layout to the HDF5 file that training reads.", no_args_is_help=True)
app.add_typer(convert_app, name="convert")

SmalFile = Annotated[
    Path | None,
    typer.Option("--smal-file", "--smal_file", help="Body model .pkl; default: the procedural insect."),
]
Resolution = Annotated[
    int, typer.Option("--resolution", "--target_resolution", help="Side of the stored pictures, pixels.")
]
Crop = Annotated[
    Literal["default", "centred", "bbox_crop", "mask_crop"],
    typer.Option(
        "--crop-mode", "--crop_mode", help="The whole picture, its centred square, the keypoints' or the mask's box."
    ),
]
Quality = Annotated[int, typer.Option("--jpeg-quality", "--jpeg_quality", min=1, max=100)]
Lookup = Annotated[
    Path | None,
    typer.Option(
        "--joint-lookup", "--joint_lookup_table", help="CSV with columns model,data: the joints' names in both."
    ),
]


@app.command()
def synth(
    output: Annotated[Path, typer.Argument(help="HDF5 file, or a folder for the layouts replicant and sleap.")],
    samples: Annotated[int, typer.Option(help="Frames.")] = 64,
    views: Annotated[int, typer.Option(help="Cameras.")] = 3,
    resolution: Resolution = 64,
    seed: Annotated[int, typer.Option(help="The same seed gives the same data.")] = 0,
    layout: Annotated[
        Literal["multiview", "singleview", "replicant", "sleap"],
        typer.Option("--format", help="HDF5 of many or single views, a replicAnt folder, or a SLEAP/Anipose session."),
    ] = "multiview",
    smal_file: SmalFile = None,
    variant: Annotated[
        Literal["simple", "full"], typer.Option(help="Of the procedural insect: 19 or 55 joints.")
    ] = "simple",
    frames_per_session: Annotated[int, typer.Option(help="Frames that share rig and looks.")] = 8,
    keypoint_noise_px: Annotated[float, typer.Option(help="Standard deviation of 2D labels, pixels.")] = 0.0,
    outliers: Annotated[float, typer.Option(help="Share of 2D labels that lie anywhere.")] = 0.0,
    missing_joints: Annotated[float, typer.Option(help="Share of 2D labels left out.")] = 0.0,
    missing_views: Annotated[float, typer.Option(help="Share of views left out.")] = 0.0,
    yaw_range: Annotated[float, typer.Option(help="Headings lie within plus and minus so many degrees.")] = 180.0,
    distortion: Annotated[
        float, typer.Option(help="Barrel distortion (-k1) of lenses; format sleap only, 0.3 is mild.")
    ] = 0.0,
    write_model: Annotated[Path | None, typer.Option(help="Also write the procedural insect as a .pkl.")] = None,
) -> None:
    """Render a data set with exact ground truth from a SMAL/SMIL model, or from a procedural insect.

    Example: smil data synth insects.h5 --samples 640
    """
    with exit_codes():
        from smil_regressor.data.synthesis import synthesise_layout
        from smil_regressor.data.synthetic import Difficulty

        difficulty = Difficulty(
            keypoint_noise_px=keypoint_noise_px,
            outliers=outliers,
            missing_joints=missing_joints,
            missing_views=missing_views,
            yaw_range_deg=yaw_range,
            distortion=distortion,
        )
        written = synthesise_layout(
            output,
            layout,
            smal_file=smal_file,
            variant=variant,
            write_model=write_model,
            samples=samples,
            views=views,
            resolution=resolution,
            seed=seed,
            frames_per_session=frames_per_session,
            difficulty=difficulty,
        )
        result(str(written))


@convert_app.command()
def replicant(
    folder: Annotated[Path, typer.Argument(help="replicAnt set: _BatchData_*.json, *.JPG, *.json, *_ID.png.")],
    output: Annotated[Path, typer.Argument(help="HDF5 file to write.")],
    smal_file: SmalFile = None,
    resolution: Resolution = 224,
    crop: Crop = "default",
    min_visible_keypoints: Annotated[int, typer.Option("--min-visible-keypoints", "--min_visible_keypoints")] = 5,
    silhouette_threshold: Annotated[
        float,
        typer.Option(
            "--silhouette-threshold",
            "--silhouette_threshold",
            help="Least share of the keypoints' box that the mask covers.",
        ),
    ] = 0.02,
    min_views: Annotated[int, typer.Option("--min-views", "--min_views", help="Of sets with many cameras.")] = 2,
    depth_test: Annotated[bool, typer.Option(help="Hide joints behind the depth picture's surface.")] = False,
    shard: Shard = None,
    jpeg_quality: Quality = 95,
) -> None:
    """A replicAnt set, of one camera or of many."""
    with exit_codes():
        from smil_regressor.data.converters.convert import convert_replicant

        _told(
            convert_replicant(
                folder,
                output,
                _body(smal_file),
                resolution=resolution,
                crop=crop,
                min_visible_keypoints=min_visible_keypoints,
                silhouette_threshold=silhouette_threshold,
                min_views=min_views,
                depth_test=depth_test,
                shard=part_of(shard),
                smal_file=smal_file,
                jpeg_quality=jpeg_quality,
            )
        )


@convert_app.command()
def sleap(
    folder: Annotated[Path, typer.Argument(help="A session, or a folder of sessions.")],
    output: Annotated[Path, typer.Argument(help="HDF5 file to write.")],
    smal_file: SmalFile = None,
    resolution: Resolution = 224,
    crop: Crop = "default",
    world_scale: Annotated[
        float | None,
        typer.Option(help="Metres per unit of calibration.toml: 0.001 for millimetres. Not given: stays unknown."),
    ] = None,
    joint_lookup: Lookup = None,
    shape_betas: Annotated[
        Path | None, typer.Option("--shape-betas", "--shape_betas_table", help="CSV with columns label,PC1,...")
    ] = None,
    exclude_cameras: Annotated[str | None, typer.Option(help="Names to leave out, for example side,back.")] = None,
    exclude_bad: Annotated[
        bool, typer.Option(help="Leave out cameras whose calibration contradicts the others'.")
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(help="Track of the animal; not given: each file must hold one; most_seen: the fullest."),
    ] = None,
    confidence_threshold: Annotated[float, typer.Option("--confidence-threshold", "--confidence_threshold")] = 0.5,
    frame_skip: Annotated[int, typer.Option("--frame-skip", "--frame_skip", help="Take every n-th frame.")] = 1,
    max_frames: Annotated[int | None, typer.Option("--max-frames", "--max_frames_per_session")] = None,
    min_views: Annotated[int, typer.Option("--min-views", "--min_views")] = 2,
    no_3d: Annotated[bool, typer.Option("--no-3d-data", "--no_3d_data", help="Do not read points3d.h5.")] = False,
    no_undistort: Annotated[bool, typer.Option("--no-undistort", "--no_undistort")] = False,
    use_reprojections: Annotated[bool, typer.Option("--use-reprojections", "--use_reprojections")] = False,
    shard: Shard = None,
    jpeg_quality: Quality = 95,
) -> None:
    """SLEAP tracks with an Anipose calibration: one session or many."""
    with exit_codes():
        from smil_regressor.data.converters.convert import convert_sleap
        from smil_regressor.data.converters.session_view import SleapOptions

        options = SleapOptions(
            resolution=resolution,
            crop=crop,
            confidence_threshold=confidence_threshold,
            frame_skip=frame_skip,
            max_frames=max_frames,
            min_views=min_views,
            load_3d=not no_3d,
            undistort=not no_undistort,
            use_reprojections=use_reprojections,
            track=track,
        )
        _told(
            convert_sleap(
                folder,
                output,
                _body(smal_file),
                options,
                world_scale=world_scale,
                joint_lookup=joint_lookup,
                shape_betas=shape_betas,
                exclude_cameras=exclude_cameras.split(",") if exclude_cameras else [],
                exclude_bad=exclude_bad,
                shard=part_of(shard),
                smal_file=smal_file,
                jpeg_quality=jpeg_quality,
            )
        )


@convert_app.command()
def deeplabcut(
    table: Annotated[Path, typer.Argument(help="CollectedData*.csv with scorer, bodyparts, coords.")],
    folder: Annotated[Path, typer.Argument(help="Folder that the table's picture paths begin in.")],
    output: Annotated[Path, typer.Argument(help="HDF5 file to write.")],
    views: Annotated[
        list[str],
        typer.Option(
            "--view",
            help="name:suffix:x,y,width,height, the view's part of the picture in pixels: top:_top:0,0,406,170",
        ),
    ],
    smal_file: SmalFile = None,
    resolution: Resolution = 224,
    crop: Crop = "default",
    min_views: Annotated[int, typer.Option("--min-views", "--min_views")] = 1,
    joint_lookup: Lookup = None,
    jpeg_quality: Quality = 95,
) -> None:
    """Labelled DeepLabCut pictures; a picture that holds several (mirror) views is cut into them."""
    with exit_codes():
        from smil_regressor.data.converters.convert import convert_deeplabcut

        _told(
            convert_deeplabcut(
                table,
                folder,
                output,
                _body(smal_file),
                [_fused_view(text) for text in views],
                resolution=resolution,
                crop=crop,
                min_views=min_views,
                joint_lookup=joint_lookup,
                smal_file=smal_file,
                jpeg_quality=jpeg_quality,
            )
        )


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(help="HDF5 file of either layout.")],
    output: Annotated[Path | None, typer.Option(help="Folder for pictures; not given: numbers only.")] = None,
    samples: Annotated[int, typer.Option(help="Pictures, evenly spread over the file.")] = 6,
    smal_file: Annotated[
        Path | None, typer.Option("--smal-file", "--smal_file", help="Body model, whose skeleton is then drawn.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What a file holds, and pictures of its samples with keypoints and masks."""
    with exit_codes():
        import numpy as np

        from smil_regressor.data.inspect import describe, overlay

        told = describe(path)
        if as_json:
            result_json(told)
        else:
            for key, value in told.items():
                result(f"{key:20} {value}")
        if output is not None:
            from posecore.draw import write_picture

            body = _body(smal_file)
            same = told["joint_names"] is None or tuple(told["joint_names"]) == tuple(body.joint_names)
            parents = body.parents.tolist() if same and told["joints"] == body.num_joints else None
            output.mkdir(parents=True, exist_ok=True)
            for index in np.unique(np.linspace(0, told["samples"] - 1, min(samples, told["samples"])).astype(int)):
                write_picture(output / f"sample_{index:06d}.png", overlay(path, int(index), parents))
            say(f"pictures: {output}")


@app.command()
def triangulate(
    session: Annotated[Path, typer.Argument(help="SLEAP session with calibration.toml.")],
    output: Annotated[Path, typer.Option(help="points3d.h5 to write.")] = Path("points3d.h5"),
    exclude_cameras: Annotated[str | None, typer.Option(help="Names to leave out.")] = None,
    threshold_px: Annotated[float, typer.Option(help="RANSAC: largest reprojection error of an inlier.")] = 15.0,
    seed: Annotated[int, typer.Option(help="Of RANSAC.")] = 0,
) -> None:
    """3D points of a session's tracks, by RANSAC over pairs of cameras, with an error for each camera."""
    with exit_codes():
        from smil_regressor.data.converters.session import open_session
        from smil_regressor.data.converters.session_rig import triangulate_session

        found = triangulate_session(
            open_session(session), output, exclude=_names(exclude_cameras), threshold_px=threshold_px, seed=seed
        )
        say(found.report.table())
        result_json({"path": str(found.path), "frames": found.num_frames, "share_triangulated": found.share})


@app.command("refine-cameras")
def refine_cameras(
    session: Annotated[Path, typer.Argument(help="SLEAP session with calibration.toml.")],
    output: Annotated[Path, typer.Option(help="calibration.toml to write.")] = Path("calibration_refined.toml"),
    exclude_cameras: Annotated[str | None, typer.Option(help="Names to leave out.")] = None,
    refine_focal: Annotated[bool, typer.Option(help="Refine focal lengths too.")] = False,
) -> None:
    """Bundle adjustment of a session's calibration from its own tracks."""
    with exit_codes():
        from smil_regressor.data.converters.session import open_session
        from smil_regressor.data.converters.session_rig import refine_session

        refined = refine_session(
            open_session(session), output, exclude=_names(exclude_cameras), refine_focal=refine_focal
        )
        result_json(
            {
                "path": str(output),
                "median_px": {
                    camera.name: {"before": float(before), "after": float(after)}
                    for camera, before, after in zip(refined.cameras, refined.before_px, refined.after_px, strict=True)
                },
            }
        )


def _names(text: str | None) -> list[str]:
    return text.split(",") if text else []


def _body(smal_file: Path | None):  # type: ignore[no-untyped-def]
    from posecore.bodymodel import read_model
    from smil_regressor.data.insect import insect_body

    return insect_body() if smal_file is None else read_model(smal_file)


def _fused_view(text: str):  # type: ignore[no-untyped-def]
    from smil_regressor.data.converters.deeplabcut import FusedView

    try:
        name, suffix, box = text.split(":")
        x, y, width, height = (int(number) for number in box.split(","))
    except ValueError:
        raise InputError(f"--view {text}: name:suffix:x,y,width,height is needed, as top:_top:0,0,406,170") from None
    return FusedView(name, suffix, (x, y, width, height))


def _told(conversion) -> None:  # type: ignore[no-untyped-def]
    for note in conversion.notes:
        say(note)
    result_json({"path": str(conversion.path), "samples": conversion.num_samples})
