"""The demo of all systems: one page of what each shows, whatever becomes of the others."""

import shlex
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from posecore.demo import main
from posecore.report import Row, Section, write_section


@pytest.fixture
def demo(tmp_path):
    """Runs the demo of console scripts that are shell scripts; gives exit code, stderr and the page's sections."""

    def run(**scripts):
        programs, page = tmp_path / "bin", tmp_path / "out" / "index.html"
        programs.mkdir(exist_ok=True)
        for name, script in scripts.items():
            if script is not None:
                (programs / name).write_text(f'#!/bin/sh\n[ "$1 $2" = "demo --output" ] || exit 9\n{script}\n')
                (programs / name).chmod(0o755)
        app = typer.Typer()
        app.command()(main)
        done = CliRunner().invoke(app, [*scripts, "--output", str(page.parent), "--programs", str(programs)])
        return done.exit_code, done.stderr, shown(page) if page.is_file() else None

    return run


def shown(page):
    body = page.read_text(encoding="utf-8").partition("<body")[2]
    root = ElementTree.fromstring("<body" + body.partition("</html>")[0])
    return {section.get("id"): section.findtext("h2") for section in root.iter("section")}


def leaves_section(folder, name):
    """A script that ends well, with a section in the folder that it is given."""
    row = Row(name="MPJPE", ours=1, baseline=2, unit="mm")
    section = Section(name=name, heading=f"About {name}", question="How far?", rows=[row])
    made = write_section(section, folder / f"{name}.json")
    return f'mkdir -p "$3" && cp {shlex.quote(str(made))} "$3/section.json"'


def test_every_system_has_its_section_on_the_page_in_the_order_given(demo, tmp_path):
    code, stderr, sections = demo(smil=leaves_section(tmp_path, "smil"), hand=leaves_section(tmp_path, "hand"))
    assert code == 0, stderr
    assert list(sections.items()) == [("smil", "About smil"), ("hand", "About hand")]
    assert f"page: {tmp_path / 'out' / 'index.html'}" in stderr


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 3", "error: bad demo ended with exit code 3"),
        ("true", "section.json: cannot be read: No such file or directory"),
        ('mkdir -p "$3" && echo "{}" > "$3/section.json"', "section.json: heading: Field required"),
    ],
)
def test_a_system_that_fails_is_told_and_the_others_are_on_the_page(demo, tmp_path, script, told):
    code, stderr, sections = demo(bad=script, smil=leaves_section(tmp_path, "smil"))
    assert code == 1
    assert told in stderr
    assert "Traceback" not in stderr
    assert sections == {"smil": "About smil"}


def test_a_section_of_an_earlier_run_does_not_stand_in_for_a_demo_that_left_none(demo, tmp_path):
    assert demo(smil=leaves_section(tmp_path, "smil"))[0] == 0
    code, _, sections = demo(smil="true")
    assert (code, sections) == (1, {})


def test_a_system_that_is_not_installed_is_wrong_input_before_anything_runs(demo, tmp_path):
    code, stderr, sections = demo(smil=leaves_section(tmp_path, "smil"), absent=None)
    assert code == 2
    assert f"{tmp_path / 'bin' / 'absent'}: no such program; is its package installed?" in stderr
    assert sections is None
    assert not (tmp_path / "out").exists()
