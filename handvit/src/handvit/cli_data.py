"""The commands `handvit data ...`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from posecore.cli import Json, Shard, exit_codes, part_of, result, result_json
from posecore.errors import InputError

if TYPE_CHECKING:
    from handvit.data.storage import CropStorage
    from handvit.hand import HandModel

app = typer.Typer(help="Make, convert and look at data sets.", no_args_is_help=True)
convert_app = typer.Typer(
    help="Convert a public data set to the .tar shards that training reads.", no_args_is_help=True
)
app.add_typer(convert_app, name="convert")

Root = Annotated[Path, typer.Argument(help="The data set's folder, laid out as published.")]
Output = Annotated[Path, typer.Argument(help="Folder for the shards and conversion.json.")]
Mano = Annotated[
    Path | None,
    typer.Option("--mano", help="Folder with MANO_RIGHT.pkl and MANO_LEFT.pkl; without it labels lack MANO."),
]
Standin = Annotated[
    bool, typer.Option("--standin", help="Take the stand-in for MANO, to try things out: poses and shapes are wrong.")
]
Crop = Annotated[int | None, typer.Option(help="Store square crops of this side, px; default: whole pictures.")]

Limit = Annotated[int | None, typer.Option(min=1, help="At most so many clips.")]


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
    rotation_range: Annotated[
        float, typer.Option(help="Hands are turned by at most so many degrees from a hand held up.")
    ] = 180.0,
    workers: Annotated[int, typer.Option(min=0, help="Processes that render; 0: this one.")] = 0,
    mano: Annotated[
        Path | None, typer.Option("--mano", help="MANO_RIGHT.pkl or .npz; default: the stand-in hand.")
    ] = None,
) -> None:
    """Render textured hands over varied backgrounds, with exact labels, from any MANO-layout model.

    Example: handvit data synth hands/train --clips 2000
    """
    with exit_codes():
        from handvit.data.synthetic import Difficulty, synthesise
        from handvit.hand import read_hand

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
                difficulty=Difficulty(rotation_range_deg=rotation_range),
                workers=workers,
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


@convert_app.command()
def interhand(
    root: Root,
    output: Output,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Split.")] = "train",
    fps: Annotated[int | None, typer.Option(help="5 or 30; default: told by the folder's name.")] = None,
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Annotated[float, typer.Option(help="Side of the crop over that of the hand's box.")] = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """InterHand2.6M: images/ and annotations/."""
    with exit_codes():
        from handvit.data.converters.interhand import convert_interhand

        if fps not in (None, 5, 30):
            raise InputError(f"--fps {fps}: the releases have 5 or 30")
        options = _both(mano, standin) | _storage(crop, margin, shard, limit)
        result_json(convert_interhand(root, output, split=split, fps=fps, **options).to_dict())  # type: ignore[arg-type]


@convert_app.command()
def dexycb(
    root: Root,
    output: Output,
    split: Annotated[str, typer.Option(help="s0_train, s0_val, s0_test, s1_train and so on to s3_test.")] = "s0_train",
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Annotated[float, typer.Option(help="Side of the crop over that of the hand's box.")] = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """DexYCB: the subjects' folders and calibration/."""
    with exit_codes():
        from handvit.data.converters.dexycb import convert_dexycb

        options = _both(mano, standin, fix_left_shapes=False) | _storage(crop, margin, shard, limit)
        result_json(convert_dexycb(root, output, split=split, **options).to_dict())


@convert_app.command()
def ho3d(
    root: Root,
    output: Output,
    split: Annotated[Literal["train", "evaluation"], typer.Option(help="Split.")] = "train",
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Annotated[float, typer.Option(help="Side of the crop over that of the hand's box.")] = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """HO3D v2 or v3: train/, evaluation/, train.txt, evaluation.txt."""
    with exit_codes():
        from handvit.data.converters.ho3d import convert_ho3d

        options = _right(mano, standin) | _storage(crop, margin, shard, limit)
        result_json(convert_ho3d(root, output, split=split, **options).to_dict())


@convert_app.command()
def freihand(
    root: Root,
    output: Output,
    split: Annotated[Literal["training", "evaluation"], typer.Option(help="Split.")] = "training",
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Annotated[float, typer.Option(help="Side of the crop over that of the hand's box.")] = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """FreiHAND v2: training/, evaluation/ and the JSON files."""
    with exit_codes():
        from handvit.data.converters.freihand import convert_freihand

        options = _right(mano, standin) | _storage(crop, margin, shard, limit)
        result_json(convert_freihand(root, output, split=split, **options).to_dict())


@convert_app.command()
def hot3d(
    root: Root,
    output: Output,
    split: Annotated[Literal["train", "test"], typer.Option(help="Split.")] = "train",
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Annotated[float, typer.Option(help="Side of the crop over that of the hand's box.")] = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """HOT3D-Clips: one tar a clip. Its joints come from MANO, so --mano is needed."""
    with exit_codes():
        from handvit.data.converters.hot3d import convert_hot3d

        options = _both(mano, standin) | _storage(crop, margin, shard, limit)
        result_json(convert_hot3d(root, output, split=split, **options).to_dict())


@convert_app.command()
def coco(
    root: Root,
    output: Output,
    split: Annotated[Literal["train", "val"], typer.Option(help="Split.")] = "train",
    crop: Crop = None,
    margin: Annotated[float, typer.Option(help="Side of the crop over that of the hand's box.")] = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """COCO-WholeBody's hands: 2D joints only."""
    with exit_codes():
        from handvit.data.converters.coco_wholebody import convert_coco_wholebody

        options = _storage(crop, margin, shard, limit)
        result_json(convert_coco_wholebody(root, output, split=split, **options).to_dict())


def _right(mano: Path | None, standin: bool) -> dict[str, Any]:
    return {"right": _hand(mano, standin, "right"), "allow_standin": standin}


def _both(mano: Path | None, standin: bool, fix_left_shapes: bool = True) -> dict[str, Any]:
    return _right(mano, standin) | {"left": _hand(mano, standin, "left", fix_left_shapes)}


def _hand(
    mano: Path | None, standin: bool, side: Literal["right", "left"], fix_left_shapes: bool = True
) -> "HandModel | None":
    from handvit.hand import read_hand

    if mano is not None and standin:
        raise InputError("--mano and --standin: give one of them")
    if mano is None and not standin:
        return None
    return read_hand(mano, side, fix_left_shapes, config_field="--mano")


def _storage(crop: int | None, margin: float, shard: str | None, limit: int | None) -> dict[str, Any]:
    part = part_of(shard)
    return {"crop": _crop(crop, margin), "shard": None if part == (0, 1) else part, "limit": limit}


def _crop(side: int | None, margin: float) -> "CropStorage | None":
    from handvit.data.storage import CropStorage

    return None if side is None else CropStorage(side, margin)


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 16):
        raise InputError(f"--size {text}: HEIGHTxWIDTH in pixels is needed, at least 16x16, for example 160x160")
    return int(height), int(width)
