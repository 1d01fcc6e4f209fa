"""The commands `handvit mano ...`."""

from pathlib import Path
from typing import Annotated

import typer

from posecore.cli import Json, exit_codes, result, result_json

app = typer.Typer(help="MANO files: look inside, convert, or make the stand-in.", no_args_is_help=True)


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="MANO_RIGHT.pkl, MANO_LEFT.pkl or the same as .npz.")],
    as_json: Json = False,
) -> None:
    """What a hand model's file holds, and whether it is whole."""
    with exit_codes():
        from handvit.hand import mano_info

        found = mano_info(path)
        result_json(found) if as_json else result("\n".join(f"{key:20} {value}" for key, value in found.items()))


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(help="MANO_RIGHT.pkl as downloaded (or .npz).")],
    target: Annotated[Path, typer.Argument(help="File to write: .npz (needs no unpickling) or .pkl.")],
) -> None:
    """The same arrays in the other format. The file is read without running anything that it names."""
    with exit_codes():
        from handvit.hand import convert_mano

        convert_mano(source, target)
        result(str(target))


@app.command()
def standin(
    target: Annotated[Path, typer.Argument(help="File to write: .npz or .pkl, of MANO's layout.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same hand.")] = 0,
) -> None:
    """Write the made-up hand that everything here runs on without a licence."""
    with exit_codes():
        from handvit.standin import write_standin

        write_standin(target, seed)
        result(str(target))
