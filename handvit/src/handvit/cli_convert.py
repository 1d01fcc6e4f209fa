"""The commands `handvit data convert ...`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from posecore.cli import Shard, exit_codes, part_of, result_json
from posecore.errors import InputError

if TYPE_CHECKING:
    from handvit.data.converters.fisheye_view import HandCentred
    from handvit.data.converters.hot3d_files import Device
    from handvit.hand import HandModel

app = typer.Typer(help="Convert a public data set to the .tar shards that training reads.", no_args_is_help=True)

Root = Annotated[Path, typer.Argument(help="The data set's folder, laid out as published.")]
Output = Annotated[Path, typer.Argument(help="Folder for the shards and conversion.json.")]
Mano = Annotated[
    Path | None,
    typer.Option("--mano", help="Folder with MANO_RIGHT.pkl and MANO_LEFT.pkl; without it labels lack MANO."),
]
Standin = Annotated[
    bool, typer.Option("--standin", help="Take the stand-in for MANO, to try things out: poses and shapes are wrong.")
]
Crop = Annotated[
    int | None, typer.Option(help="Store square crops of this side, px, such as 256; default: whole pictures.")
]
Margin = Annotated[float, typer.Option(help="Side of the crop over that of the hand's box.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many clips.")]


@app.command()
def interhand(
    root: Root,
    output: Output,
    split: Annotated[Literal["train", "val", "test"], typer.Option(help="Split.")] = "train",
    fps: Annotated[int | None, typer.Option(help="5 or 30; default: told by the folder's name.")] = None,
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Margin = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """InterHand2.6M: images/ and annotations/.

    Example: handvit data convert interhand InterHand2.6M_5fps_batch1 shards/interhand --split train --mano mano --crop 256
    """
    with exit_codes():
        from handvit.data.converters.interhand import convert_interhand

        if fps not in (None, 5, 30):
            raise InputError(f"--fps {fps}: the releases have 5 or 30")
        options = _both(mano, standin) | _storage(crop, margin, shard, limit)
        result_json(convert_interhand(root, output, split=split, fps=fps, **options).to_dict())  # type: ignore[arg-type]


@app.command()
def dexycb(
    root: Root,
    output: Output,
    split: Annotated[str, typer.Option(help="s0_train, s0_val, s0_test, s1_train and so on to s3_test.")] = "s0_train",
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Margin = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """DexYCB: the subjects' folders and calibration/.

    Example: handvit data convert dexycb dex-ycb-20210415 shards/dexycb --split s0_train --mano mano --crop 256
    """
    with exit_codes():
        from handvit.data.converters.dexycb import convert_dexycb

        options = _both(mano, standin, fix_left_shapes=False) | _storage(crop, margin, shard, limit)
        result_json(convert_dexycb(root, output, split=split, **options).to_dict())


@app.command()
def ho3d(
    root: Root,
    output: Output,
    split: Annotated[Literal["train", "evaluation"], typer.Option(help="Split.")] = "train",
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Margin = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """HO3D v2 or v3: train/, evaluation/, train.txt, evaluation.txt.

    Example: handvit data convert ho3d HO3D_v3 shards/ho3d --split train --mano mano --crop 256
    """
    with exit_codes():
        from handvit.data.converters.ho3d import convert_ho3d

        options = _right(mano, standin) | _storage(crop, margin, shard, limit)
        result_json(convert_ho3d(root, output, split=split, **options).to_dict())


@app.command()
def freihand(
    root: Root,
    output: Output,
    split: Annotated[Literal["training", "evaluation"], typer.Option(help="Split.")] = "training",
    versions: Annotated[
        str, typer.Option(help="Backgrounds of the training split: green screen and three others, as a list.")
    ] = "gs,hom,sample,auto",
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Margin = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """FreiHAND v2: training/, evaluation/ and the JSON files.

    Example: handvit data convert freihand FreiHAND_pub_v2 shards/freihand --mano mano --versions gs,auto
    """
    with exit_codes():
        from handvit.data.converters.freihand import convert_freihand

        options = _right(mano, standin) | _storage(crop, margin, shard, limit)
        result_json(convert_freihand(root, output, split=split, versions=versions.split(","), **options).to_dict())


@app.command()
def hot3d(
    root: Root,
    output: Output,
    split: Annotated[Literal["train", "test"], typer.Option(help="Split.")] = "train",
    devices: Annotated[str, typer.Option(help="Whose clips, as a list.")] = "aria,quest3",
    streams: Annotated[
        str | None,
        typer.Option(help="Cameras, as a list, for example 214-1 (Aria's colour camera); default: all of each clip."),
    ] = None,
    hand_centred: Annotated[
        str | None,
        typer.Option(
            help="FOV,SIZE: views turned to the hand in each frame, so many degrees and px wide, such as 60,512; "
            "default: undistorted pictures as large as the camera's."
        ),
    ] = None,
    format: Annotated[Literal["jpg", "webp"], typer.Option(help="Of the stored pictures.")] = "jpg",
    quality: Annotated[int, typer.Option(min=1, max=100, help="Of their compression.")] = 95,
    mano: Mano = None,
    standin: Standin = False,
    crop: Crop = None,
    margin: Margin = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """HOT3D-Clips: one tar a clip. Its joints come from MANO, so --mano is needed.

    Example: handvit data convert hot3d hot3d_clips shards/hot3d --mano mano --devices aria --hand-centred 60,512
    """
    with exit_codes():
        from handvit.data.converters.hot3d import convert_hot3d

        options = _both(mano, standin) | _storage(crop, margin, shard, limit, format, quality)
        report = convert_hot3d(
            root,
            output,
            split=split,
            devices=_devices(devices),
            streams=None if streams is None else streams.split(","),
            view=_view(hand_centred),
            picture_format=format,
            quality=quality,
            **options,
        )
        result_json(report.to_dict())


@app.command()
def coco(
    root: Root,
    output: Output,
    split: Annotated[Literal["train", "val"], typer.Option(help="Split.")] = "train",
    crop: Crop = None,
    margin: Margin = 3.0,
    shard: Shard = None,
    limit: Limit = None,
) -> None:
    """COCO-WholeBody's hands: 2D joints only.

    Example: handvit data convert coco coco shards/coco --split train --crop 256
    """
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


def _storage(
    crop: int | None,
    margin: float,
    shard: str | None,
    limit: int | None,
    frame_format: Literal["jpg", "webp"] = "jpg",
    quality: int = 95,
) -> dict[str, Any]:
    from handvit.data.storage import CropStorage

    part = part_of(shard)
    stored = None if crop is None else CropStorage(crop, margin, frame_format, quality)
    return {"crop": stored, "shard": None if part == (0, 1) else part, "limit": limit}


def _devices(text: str) -> "tuple[Device, ...]":
    chosen: list[Device] = []
    for name in text.split(","):
        if name not in ("aria", "quest3"):
            raise InputError(f"--devices {text}: {name!r} is none; aria, quest3 or both are, as in aria,quest3")
        chosen.append(name)  # type: ignore[arg-type]
    return tuple(dict.fromkeys(chosen))


def _view(text: str | None) -> "HandCentred | None":
    from handvit.data.converters.fisheye_view import HandCentred

    if text is None:
        return None
    try:
        fov_deg, size = text.split(",")
        view = float(fov_deg), int(size)
    except ValueError:
        raise InputError(f"--hand-centred {text}: FOV,SIZE is needed, degrees and pixels, for example 60,512") from None
    return HandCentred(*view)
