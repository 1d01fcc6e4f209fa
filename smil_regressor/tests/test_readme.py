"""The pages about smil say what is so: examples run, commands parse, links, options and fields exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from posecore.config import preset_names
from smil_regressor.cli import app
from smil_regressor.config import SmilConfig

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent
PAGES = [PACKAGE / "README.md", ROOT / "docs" / "smil_regressor.md", ROOT / "docs" / "clusters.md", ROOT / "README.md"]
OWN = PAGES[:2]


def text_of(page):
    return page.read_text(encoding="utf-8")


def command_lines():
    """Every call of smil in a shell block, as its words."""
    for page in PAGES:
        for block in re.findall(r"^```bash\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE):
            for line in block.splitlines():
                match = re.search(r"(?:^|/|-m )smil(?:_regressor\.cli)? (.*)", line)
                if match:
                    yield pytest.param(shlex.split(match[1], comments=True), id=f"{page.name}: {match[1][:60]}")


def inline_code(page):
    """Code between single backticks, outside blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE))


def mute(command):
    """The same command, which parses its arguments and does nothing."""
    command.callback = lambda **_: None
    for part in getattr(command, "commands", {}).values():
        mute(part)
    return command


@pytest.fixture(scope="module")
def parser():
    return mute(typer.main.get_command(app))


@pytest.fixture(scope="module")
def options(parser):
    """Every spelling of every option of every command."""

    def of(command):
        own = {"--help"} | {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
        return own.union(*(of(part) for part in getattr(command, "commands", {}).values()))

    return of(parser)


@pytest.mark.parametrize("words", list(command_lines()))
def test_a_command_on_a_page_parses(words, parser):
    parser.main(args=words, standalone_mode=False)  # raises where a command, option or argument does not exist


@pytest.mark.parametrize("page", OWN, ids=lambda page: page.name)
def test_commands_options_and_fields_that_a_text_names_exist(page, parser, options):
    for code in inline_code(page):
        first = code.split()[0]
        if first == "smil":
            command = parser
            for word in code.split()[1:]:
                if hasattr(command, "commands"):
                    assert word in command.commands, code
                    command = command.commands[word]
        elif first.startswith("--"):
            assert first in options, code
        elif (
            re.fullmatch(r"(?!model\.safetensors)[a-z_]+\.[a-z_0-9]+", code)
            and code.split(".")[0] in SmilConfig.model_fields
        ):
            section, field = code.split(".")
            assert field in SmilConfig.model_fields[section].annotation.model_fields, code


def test_the_table_of_commands_is_complete(parser):
    named = {code for code in inline_code(OWN[0]) if code.startswith("smil ")}
    for name, command in parser.commands.items():
        if name in ("config", "data"):
            assert any(code.startswith(f"smil {name} {part}") for code in named for part in command.commands), name
        else:
            assert f"smil {name}" in named


def test_the_table_of_sections_is_complete():
    text = text_of(ROOT / "docs" / "smil_regressor.md").partition("\n## Configuration\n")[2]
    rows = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| `"))
    for field in SmilConfig.model_fields:
        assert f"`{field}`" in rows or (field.startswith("cross_attention_") and "cross_attention_*" in rows), field


@pytest.mark.parametrize("page", [PAGES[1], PACKAGE / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_preset_is_named(page):
    assert SmilConfig.presets is not None
    for name in preset_names(SmilConfig.presets):
        assert f"`{name}`" in text_of(page), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_link_of_a_page_leads_to_a_file_and_heading(page):
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", text_of(page)):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        headings = re.findall(r"^#+ (.*)$", text_of(file), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, f"{page.name}: {target}"


def test_the_example_runs_on_what_the_commands_before_it_leave(run, insects_file, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "insects").symlink_to(run)
    (tmp_path / "insects.h5").symlink_to(insects_file)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", text_of(PACKAGE / "README.md"), re.DOTALL | re.MULTILINE)
    exec(compile(code, "example", "exec"), {"__name__": "example"})
