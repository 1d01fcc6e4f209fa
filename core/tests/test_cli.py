"""Errors become exit codes and readable lines."""

import json
import subprocess
import sys

import pytest
from pydantic import PositiveInt
from typer.testing import CliRunner

from posecore.cli import config_app, exit_codes, make_app
from posecore.config import Config
from posecore.errors import InputError, RunError


class Run(Config):
    steps: PositiveInt = 3


@pytest.fixture
def app():
    app = make_app("tool", "A tool.", lambda: "1.2.3")
    app.add_typer(config_app(lambda: Run), name="config")

    @app.command()
    def fail(kind: str) -> None:
        with exit_codes():
            raise {
                "input": InputError(["a.json: [x]: wrong", "b" * 300]),
                "run": RunError("loss is NaN at step 7"),
                "stop": KeyboardInterrupt(),
            }[kind]

    return app


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("input", 2, "error: a.json: [x]: wrong\nerror: " + "b" * 300),
        ("run", 1, "error: loss is NaN"),
        ("stop", 130, "interrupted"),
    ],
)
def test_an_error_becomes_its_exit_code_and_whole_lines(app, kind, code, text):
    done = CliRunner().invoke(app, ["fail", kind])
    assert done.exit_code == code
    assert text in done.stderr
    assert "Traceback" not in done.output


def test_debug_shows_the_traceback(app):
    assert "Traceback" in CliRunner().invoke(app, ["--debug", "fail", "run"]).stderr


def test_version_is_told(app):
    assert CliRunner().invoke(app, ["--version"]).stdout == "tool 1.2.3\n"


def test_config_commands_show_describe_and_check(app, tmp_path):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text('{"steps": 5}')
    bad.write_text('{"stepz": 5}')
    shown = CliRunner().invoke(app, ["config", "show", "--config", str(good), "--set", "steps=6"])
    assert json.loads(shown.stdout) == {"steps": 6}
    assert "steps" in json.loads(CliRunner().invoke(app, ["config", "schema"]).stdout)["properties"]
    checked = CliRunner().invoke(app, ["config", "check", str(good), str(bad)])
    assert checked.exit_code == 2
    assert f"{good}: ok" in checked.stdout
    assert "did you mean steps?" in checked.stderr


def test_the_command_line_and_config_import_no_torch():
    code = "import sys, posecore.cli; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'pydantic')))"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
