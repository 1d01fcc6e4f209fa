"""Runs the demo of each installed system and joins what they show on one page: `python -m posecore.demo smil ...`."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from posecore.cli import exit_codes, say
from posecore.errors import RunError

TITLE = "Pose systems: what they do on data they make themselves"


def run_demos(commands: list[str], output: Path) -> Path:
    """Run `<command> demo` for each system, one after the other, and write `index.html`.

    A system that fails is left out of the page; the others run all the same.

    Raises:
        RunError: A demo failed; names it, after the page of the others was written.
    """
    from posecore.report import read_section, write_index

    sections, failed = [], []
    for command in commands:
        folder = output / command
        started = time.perf_counter()
        program = Path(sys.executable).with_name(command)
        code = subprocess.run([program, "demo", "--output", folder], check=False).returncode
        say(f"{command} demo: {time.perf_counter() - started:.0f} s")
        if code == 0:
            sections.append(read_section(folder / "section.json"))
        else:
            failed.append(f"{command} demo ended with exit code {code}")
    output.mkdir(parents=True, exist_ok=True)
    page = output / "index.html"
    page.write_text(write_index(TITLE, sections), encoding="utf-8")
    if failed:
        raise RunError("\n".join(failed))
    return page


def main(
    commands: Annotated[list[str], typer.Argument(help="Console scripts of the systems, for example smil.")],
    output: Annotated[Path, typer.Option(help="Folder of the page and of each system's run.")] = Path("runs/demo"),
) -> None:
    """Run the demos and write one page of them all."""
    with exit_codes():
        say(f"page: {run_demos(commands, output)}")


if __name__ == "__main__":
    typer.run(main)
