"""The command line's shared plumbing: options, consoles, errors to exit codes, the `config` commands.

Nothing here imports torch, nor pydantic before a configuration is read: `--help` has to answer at once. Results go to
stdout, all else to stderr.
"""

import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from posecore.errors import InputError, RunError

if TYPE_CHECKING:
    from posecore.config import Config

EXIT_FAILED = 1
EXIT_WRONG_INPUT = 2
EXIT_INTERRUPTED = 130

DATA, TRAIN, USE, INSPECT = "Data", "Train", "Use", "Inspect"
"""Help panels, the same in all systems."""

ConfigFile = Annotated[
    str,
    typer.Option("--config", "-c", help="JSON file, or the name of a preset, for example tiny.json.", metavar="FILE"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a field: training.batch_size=4. May be repeated.", metavar="KEY=VALUE"),
]
Resume = Annotated[
    str | None,
    typer.Option(
        help="auto: the newest whole checkpoint of the run folder; or the path of a checkpoint.", metavar="auto|PATH"
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(help="i/n: the i-th of n equal parts, from 0. Not given: the SLURM array's task, or everything."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

_state = {"debug": False}


def part_of(text: str | None) -> tuple[int, int]:
    """(i, n) of `--shard i/n`; where it is not given, of the SLURM array's task, else the whole: (0, 1).

    Raises:
        InputError: Not of that form, or an array with gaps.
    """
    if text is None:
        return _array_task()
    try:
        part, parts = (int(number) for number in text.split("/"))
    except ValueError:
        raise InputError(f"--shard {text}: i/n is needed, for example 0/8") from None
    if not 0 <= part < parts:
        raise InputError(f"--shard {text}: the part must be from 0 to {parts - 1}")
    return part, parts


def _array_task() -> tuple[int, int]:
    """This task of a SLURM array (indices from 0 without gaps), or all of it outside of one."""
    task, tasks = os.environ.get("SLURM_ARRAY_TASK_ID"), os.environ.get("SLURM_ARRAY_TASK_COUNT")
    if task is None or tasks is None:
        return 0, 1
    first, last = (int(os.environ.get(f"SLURM_ARRAY_TASK_{end}", task)) for end in ("MIN", "MAX"))
    if first != 0 or last != int(tasks) - 1:
        raise InputError(
            f"SLURM array {first}-{last} of {tasks} tasks: --shard needs --array=0-{int(tasks) - 1}, or i/n"
        )
    return int(task), int(tasks)


def stderr() -> Console:
    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """A line for the person at the terminal."""
    stderr().print(text, soft_wrap=True, markup=False)


def result(text: str) -> None:
    """The command's result, on stdout and unwrapped."""
    Console(highlight=False).print(text, soft_wrap=True, markup=False)


def result_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, default=str, allow_nan=False) + "\n")


def make_app(name: str, help_text: str, version: Callable[[], str]) -> typer.Typer:
    """A typer app with `--debug` and `--version`, plain errors and no shell completion options."""
    app = typer.Typer(
        name=name,
        help=help_text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(value: bool) -> None:
        if value:
            result(f"{name} {version()}")
            raise typer.Exit

    @app.callback()
    def options(
        debug: Debug = False,
        _version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Print the version.")
        ] = False,
    ) -> None:
        _state["debug"] = debug
        setup_logging(debug)

    options.__doc__ = help_text
    return app


def setup_logging(debug: bool = False) -> None:
    """Log lines to stderr; processes above rank 0 speak from WARNING on and say who they are."""
    rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
    level = logging.DEBUG if debug else logging.INFO if rank == 0 else logging.WARNING
    who = "" if rank == 0 else f"[rank {rank}] "
    logging.basicConfig(level=logging.WARNING, format=f"{who}%(message)s", stream=sys.stderr, force=True)
    for package in ("posecore", "smil_regressor", "handvit", "vpog", "keypoint_nvs"):
        logging.getLogger(package).setLevel(level)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn errors into exit codes: wrong input 2 with one line a problem, a failed run 1, Ctrl-C 130.

    With `--debug` the traceback is shown as well. Errors that nobody foresaw keep their traceback.
    """
    try:
        yield
    except InputError as error:
        _fail(error.problems, EXIT_WRONG_INPUT, error)
    except RunError as error:
        _fail(str(error).splitlines(), EXIT_FAILED, error)
    except KeyboardInterrupt:
        say("interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _fail(problems: Any, code: int, error: Exception) -> None:
    if _state["debug"]:
        stderr().print_exception()
    for problem in problems:
        stderr().print(f"error: {problem}", soft_wrap=True, markup=False, style="red")
    raise typer.Exit(code) from error


def run(app: typer.Typer) -> None:
    """Entry point of a console script."""
    app()


def config_app(config_class: "Callable[[], type[Config]]") -> typer.Typer:
    """The commands `config show | schema | check` of one system.

    Args:
        config_class: Imports and gives its configuration, when a command needs it.
    """
    app = typer.Typer(help="Show, describe or check configurations.", no_args_is_help=True)

    @app.command()
    def show(config: ConfigFile, overrides: Overrides = None) -> None:
        """Print the resolved configuration: defaults, extended files, the file and overrides merged."""
        with exit_codes():
            from posecore.config import load_config

            result_json(load_config(config_class(), config, overrides or []).to_json_dict())

    @app.command()
    def schema(
        output: Annotated[Path | None, typer.Option(help="Write to this file instead of stdout.")] = None,
    ) -> None:
        """Print the JSON Schema, for editors."""
        from posecore.config import json_schema

        text = json.dumps(json_schema(config_class()), indent=2) + "\n"
        if output is None:
            sys.stdout.write(text)
        else:
            output.write_text(text, encoding="utf-8")

    @app.command()
    def check(
        configs: Annotated[list[str] | None, typer.Argument(help="JSON files; none: all presets.")] = None,
        overrides: Overrides = None,
    ) -> None:
        """Check configurations completely, without loading anything they name."""
        with exit_codes():
            from posecore.config import load_config, preset_names

            cls = config_class()
            names = configs or ([] if cls.presets is None else preset_names(cls.presets))
            problems: list[str] = []
            for name in names:
                try:
                    load_config(cls, name, overrides or [])
                    result(f"{name}: ok")
                except InputError as error:
                    problems.extend(error.problems)
            if problems:
                raise InputError(problems)

    return app
