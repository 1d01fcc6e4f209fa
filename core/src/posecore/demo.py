"""Runs the demo of each installed system and joins what they show on one page: `python -m posecore.demo smil ...`."""

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from posecore.cli import exit_codes, say
from posecore.errors import InputError, RunError

TITLE = "Pose systems: what they do on data they make themselves"


def run_demos(programs: list[Path], output: Path) -> Path:
    """Run `<program> demo` for each system, one after the other, and write `index.html`.

    A system that fails, or leaves no section behind, is left out of the page; the others run all the same.

    Raises:
        InputError: A program is not there; nothing was run.
        RunError: A demo failed; names it, after the page of the others was written.
    """
    from posecore.report import read_section, write_index

    absent = [program for program in programs if not program.is_file()]
    if absent:
        raise InputError([f"{program}: no such program; is its package installed?" for program in absent])
    sections, failed = [], []
    for program in programs:
        try:
            sections.append(read_section(_run_demo(program, output / program.name)))
        except (InputError, RunError) as error:
            failed.append(str(error))
    output.mkdir(parents=True, exist_ok=True)
    page = output / "index.html"
    page.write_text(write_index(TITLE, sections), encoding="utf-8")
    if failed:
        raise RunError("\n".join(failed))
    return page


def make_room(output: Path, written: Sequence[str], marker: str) -> None:
    """An empty folder for a demo: what an earlier one wrote is removed, and nothing else ever is.

    Args:
        written: Names of all that a demo leaves in the folder.
        marker: Name of the file by which a demo knows its own folder again.

    Raises:
        InputError: The folder holds something that no demo wrote.
    """
    output.mkdir(parents=True, exist_ok=True)
    names = {entry.name for entry in output.iterdir()}
    foreign = sorted(names - {*written, marker})
    if foreign or (names and marker not in names):
        raise InputError(f"{output}: holds {', '.join(foreign) or 'a run'}, which no demo wrote; choose a new folder")
    for name in (*written, marker):
        entry = output / name
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink(missing_ok=True)
    (output / marker).touch()


def _run_demo(program: Path, folder: Path) -> Path:
    """The demo's section file."""
    section = folder / "section.json"
    section.unlink(missing_ok=True)  # of an earlier run
    started = time.perf_counter()
    code = subprocess.run([program, "demo", "--output", folder], check=False).returncode
    say(f"{program.name} demo: {time.perf_counter() - started:.0f} s")
    if code != 0:
        raise RunError(f"{program.name} demo ended with exit code {code}")
    return section


def main(
    commands: Annotated[list[str], typer.Argument(help="Console scripts of the systems, for example smil.")],
    output: Annotated[Path, typer.Option(help="Folder of the page and of each system's run.")] = Path("runs/demo"),
    programs: Annotated[
        Path, typer.Option(help="Folder of the console scripts; that of this Python.", show_default=False)
    ] = Path(sys.executable).parent,
) -> None:
    """Run the demos and write one page of them all."""
    with exit_codes():
        say(f"page: {run_demos([programs / command for command in commands], output)}")


if __name__ == "__main__":
    typer.run(main)
