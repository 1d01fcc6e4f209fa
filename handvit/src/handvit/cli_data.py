"""The commands `handvit data ...`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from handvit.cli_convert import app as convert_app
from posecore.cli import Json, Shard, exit_codes, part_of, result, result_json
from posecore.errors import InputError

app = typer.Typer(help="Make, convert and look at data sets.", no_args_is_help=True)
app.add_typer(convert_app, name="convert")


@app.command()
def synth(
    output: Annotated[Path, typer.Argument(help="Folder for the .tar shards.")],
    clips: Annotated[int, typer.Option(min=1, help="Hands.")] = 64,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each: 1, or a smooth motion.")] = 1,
    size: Annotated[str, typer.Option(help="Height x width of the pictures, px.")] = "160x160",
    seed: Annotated[int, typer.Option(help="The same seed gives the same data.")] = 0,
    split: Annotated[
        str, typer.Option(help="Name of the split, written into the samples and the shards' names.")
    ] = "train",
    left_share: Annotated[float, typer.Option(min=0, max=1, help="Share of left hands.")] = 0.5,
    depth: Annotated[str, typer.Option(help="NEAREST,FARTHEST depth of the wrist, mm, 250 or more.")] = "350,1100",
    fill: Annotated[
        str, typer.Option(help="SMALLEST,LARGEST length of the hand, as a share of the picture's shorter side.")
    ] = "0.45,0.85",
    rotation_range: Annotated[
        float, typer.Option(help="Hands are turned by at most so many degrees from a hand held up.")
    ] = 180.0,
    articulation: Annotated[float, typer.Option(help="Share of the fingers' range that is used, 0 to 1.")] = 1.0,
    shape_std: Annotated[float, typer.Option(help="Standard deviation of the shape coefficients.")] = 1.0,
    off_centre: Annotated[
        float, typer.Option(help="Share of the room beside the hand that it strays into; above 1 it is cut off.")
    ] = 0.6,
    occluders: Annotated[float, typer.Option(help="Share of clips in which something passes before the hand.")] = 0.25,
    noise: Annotated[float, typer.Option(help="Greatest standard deviation of sensor noise, of a range of 1.")] = 0.03,
    blur: Annotated[float, typer.Option(help="Share of frames with motion blur.")] = 0.15,
    glove: Annotated[
        float, typer.Option(help="Share of clips whose hand wears a glove with coloured fingers, which is easier.")
    ] = 0.0,
    dropped_frames: Annotated[float, typer.Option(help="Share of frames that are lost: times jump there.")] = 0.1,
    camera_shake: Annotated[float, typer.Option(help="Unsteadiness of the camera, degrees.")] = 0.4,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of the JPEG files.")] = 92,
    workers: Annotated[int, typer.Option(min=0, help="Processes that render; 0: this one.")] = 0,
    mano: Annotated[
        Path | None, typer.Option("--mano", help="MANO_RIGHT.pkl or .npz; default: the stand-in hand.")
    ] = None,
) -> None:
    """Render textured hands over varied backgrounds, with exact labels, from any MANO-layout model.

    Example: handvit data synth hands/train --clips 2000, or for videos: --clips 200 --frames 30. Easier hands:
    --rotation-range 30 --articulation 0.5 --occluders 0 --noise 0 --blur 0
    """
    with exit_codes():
        from handvit.data.synthetic import Difficulty, synthesise
        from handvit.hand import read_hand

        difficulty = Difficulty(
            depth_mm=_pair(depth, "--depth"),
            fill=_pair(fill, "--fill"),
            rotation_range_deg=rotation_range,
            articulation=articulation,
            shape_std=shape_std,
            off_centre=off_centre,
            occluders=occluders,
            blur=blur,
            noise=noise,
            glove=glove,
            dropped_frames=dropped_frames,
            camera_shake_deg=camera_shake,
        )
        result_json(
            synthesise(
                output,
                read_hand(mano),
                clips=clips,
                frames=frames,
                size=_size(size),
                seed=seed,
                split=split,
                left_share=left_share,
                difficulty=difficulty,
                workers=workers,
                quality=quality,
            )
        )


@app.command()
def inspect(
    shards: Annotated[list[str], typer.Argument(help="Folders, files, globs or braces of .tar shards.")],
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for pictures of samples with box, joints and mesh drawn in.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Pictures.")] = 8,
    mano: Annotated[
        Path | None,
        typer.Option("--mano", help="MANO_RIGHT.pkl or .npz, to draw meshes; default: only of synthetic data."),
    ] = None,
    as_json: Json = False,
) -> None:
    """What the shards hold: clips, frames, sides, labels, depths; every sample is read and checked."""
    with exit_codes():
        from handvit.inspection import inspect_shards

        found = inspect_shards(shards, pictures, count, mano)
        result_json(found) if as_json else result("\n".join(f"{key:28} {value}" for key, value in found.items()))


@app.command()
def tokens(
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="Run or checkpoint of stage 1.")],
    data: Annotated[
        list[str],
        typer.Option("--data", help="Folder, file, glob or braces of .tar shards; may be given repeatedly."),
    ],
    mano: Annotated[
        Path | None, typer.Option("--mano", help="MANO_RIGHT.pkl or .npz, where it is not beside the checkpoint.")
    ] = None,
    precision: Annotated[
        Literal["no", "bf16", "fp16"], typer.Option(help="Of the network; tokens are stored as float32.")
    ] = "no",
    batch_size: Annotated[int, typer.Option(min=1, help="Frames at once.")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load pictures; 0: this one.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    shard: Shard = None,
) -> None:
    """What stage 1 makes of each frame, beside the shards: stage 2 then trains without pictures, many times faster.

    Example: handvit data tokens --checkpoint runs/stage1 --data hands/train, then handvit train --config stage2.json
    --stage1 runs/stage1 --data hands/train --set data.token_cache=true --set train.augmentation.enabled=false
    """
    with exit_codes():
        from handvit.make_tokens import make_tokens

        result_json(
            make_tokens(
                checkpoint,
                data,
                mano_path=mano,
                part=part_of(shard),
                precision=precision,
                batch_size=batch_size,
                workers=workers,
                device=device,
            )
        )


def _pair(text: str, option: str) -> tuple[float, float]:
    try:
        low, high = text.split(",")
        return float(low), float(high)
    except ValueError:
        raise InputError(f"{option} {text}: LEAST,GREATEST is needed, for example 0.5,0.8") from None


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 32):
        raise InputError(f"--size {text}: HEIGHTxWIDTH in pixels is needed, at least 32x32, for example 160x160")
    return int(height), int(width)
