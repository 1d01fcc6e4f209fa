"""The pages about handvit say what is so: commands run or parse, examples run, links, options, fields and tables hold."""

import contextlib
import json
import re
import shlex
import tarfile
from pathlib import Path

import pytest
import typer

from handvit.cli import app
from handvit.config import HandvitConfig
from handvit.data.members import CHANNELS, NOTES, TEXTS
from handvit.joints import FINGERTIPS
from handvit.metrics.summary import AUC_METRICS, FRAME_METRICS, JOINT_METRICS
from posecore.config import Config, load_config, preset_names

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent
README, PAGE = PACKAGE / "README.md", ROOT / "docs" / "handvit.md"
PAGES = [README, PAGE, ROOT / "docs" / "clusters.md", ROOT / "docs" / "training.md", ROOT / "README.md"]
NETWORK = ("--set", "model.img_size=32", "--set", "model.handec.num_layer=1", "--set", "train.sample_per_device=2")
SMALLER = {"--clips 64": "--clips 6 --size 96x96", "--clips 4 --frames 12": "--clips 2 --frames 8 --size 96x96",
           "--clips 8 --frames 16": "--clips 3 --frames 8 --size 96x96", "--steps 4": "--steps 2"}  # fmt: skip


def text_of(page):
    return page.read_text(encoding="utf-8")


def section(page, heading):
    return re.split(r"^## ", text_of(page).partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands_of(text):
    """Every call of handvit in a shell block."""
    for block in blocks(text, "bash"):
        for line in block.splitlines():
            if match := re.search(r"(?:^|/|-m )handvit(?:\.cli)? ([a-z].*)", line):
                yield match[1]


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


@pytest.fixture(scope="module")
def walked(tmp_path_factory, command):
    """The folder that the README's first section leaves, with less data and a smaller network."""
    folder = tmp_path_factory.mktemp("readme")
    with contextlib.chdir(folder):
        for line in commands_of(section(README, "Step by step, without any data")):
            for large, little in SMALLER.items():
                line = line.replace(large, little)
            words = shlex.split(line, comments=True)
            done = command(*words, *(NETWORK if words[0] == "train" else ()))
            assert done.exit_code == 0, (line, done.output)
        with tarfile.open(next(Path("hands/test").glob("*.tar"))) as shard:
            name = next(name for name in shard.getnames() if name.endswith("frame_0000.jpg"))
            Path("photo.jpg").write_bytes(shard.extractfile(name).read())
    return folder


def test_the_first_section_leads_from_nothing_to_errors_of_both_stages(walked):
    assert {file.suffix for file in (walked / "pictures").iterdir()} == {".png"}
    for run, stage in (("hands", 1), ("video", 2)):
        report = json.loads((walked / "runs" / run / "evaluation_test" / "metrics.json").read_text())
        assert report["stage"] == stage
        assert report["hand"] == "stand-in"
        assert {"mpjpe_mm", "pa_mpjpe_mm"} <= {*report["metrics"]} & {*report["best_constant_hand"]}


def test_a_picture_is_predicted_with_the_first_line_and_leaves_the_files_of_the_table(walked, command, monkeypatch):
    monkeypatch.chdir(walked)
    text = section(README, "Predict on your own pictures")
    done = command(*shlex.split(next(commands_of(text))))
    assert done.exit_code == 0, done.output
    table = {
        name for row in re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE) for name in re.findall(r"`([^`]*)`", row)
    }
    named = {
        name.replace("NAME", "photo").replace("right", "left")
        for name in table
        if re.match(r"NAME.*(png|obj)|[a-z_]+\.(json|npz)", name)
    }
    assert named <= {file.name for file in Path("predictions").iterdir()}
    assert json.loads(Path("predictions/results.json").read_text())["is_depth_assumed"] is False


def test_the_example_runs_on_what_the_commands_before_it_leave(walked, monkeypatch):
    monkeypatch.chdir(walked)
    (code,) = blocks(text_of(README), "python")
    exec(compile(code, "example", "exec"), {"__name__": "example"})


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, id=f"{page.name}: {line[:60]}") for page in PAGES for line in commands_of(text_of(page))],
)
def test_a_command_on_a_page_parses(line, parser):
    parser.main(args=shlex.split(line, comments=True), standalone_mode=False)  # raises where something does not exist


@pytest.mark.parametrize("code", blocks(text_of(PAGE), "python"))
def test_a_worked_number_is_right(code):
    exec(compile(code, "example", "exec"), {"__name__": "example"})


def test_the_configuration_of_several_data_sets_is_valid(tmp_path):
    (code,) = blocks(text_of(PAGE), "json")
    content = json.loads(code)
    content["extends"] = str(HandvitConfig.presets / content["extends"])
    (tmp_path / "mix.json").write_text(json.dumps(content))
    assert load_config(HandvitConfig, tmp_path / "mix.json", []).data.train.weights() == [58, 27, 13, 3]


@pytest.mark.parametrize("page", [README, PAGE], ids=lambda page: page.name)
def test_commands_options_and_fields_that_a_text_names_exist(page, parser, options):
    for code in inline_code(page):
        words = code.split()
        if words[0] == "handvit":
            command = parser
            for word in words[1:]:
                if hasattr(command, "commands"):
                    assert word in command.commands, code
                    command = command.commands[word]
        elif words[0].startswith("--"):
            assert words[0] in options, code
        elif not code.endswith((".safetensors", ".txt")) and re.fullmatch(r"[a-z_0-9]+(\.[a-z_0-9]+)+", code):
            names = code.split(".")
            assert names[0] not in HandvitConfig.model_fields or has_field(HandvitConfig, names), code


def has_field(kind, names):
    """Is there such a field, in any of the kinds that it may be?"""
    if not names:
        return True
    kinds = [k for k in (kind, *typing_parts(kind)) if isinstance(k, type) and issubclass(k, Config)]
    return any(names[0] in k.model_fields and has_field(k.model_fields[names[0]].annotation, names[1:]) for k in kinds)


def typing_parts(kind):
    for part in getattr(kind, "__args__", ()):
        yield part
        yield from typing_parts(part)


def test_the_table_of_commands_is_complete(parser):
    table = section(README, "Commands")
    for name, command in parser.commands.items():
        for part in getattr(command, "commands", {"": None}):
            assert f"`handvit {name} {part}".strip() in table or f"`{part}`" in table, (name, part)
    for part in parser.commands["data"].commands["convert"].commands:
        assert f"`{part}`" in table or f"convert {part}`" in table


def test_the_table_of_members_is_that_of_the_format():
    named = set(re.findall(r"`([a-z_0-9]+\.(?:npy|json))`", section(README, "Shards")))
    assert named == {f"{n}.npy" for n in (*CHANNELS, "joint_rel")} | {f"{n}.json" for n in (*TEXTS, *NOTES, "meta")}


def test_the_table_of_metrics_is_complete():
    named = set(re.findall(r"`([a-z_0-9@]+)`", section(PAGE, "Metrics")))
    assert {*JOINT_METRICS, *FRAME_METRICS, *AUC_METRICS} <= named


def test_the_table_of_fingertips_is_that_of_the_program():
    text = section(PAGE, "Conventions")
    for name, tips in FINGERTIPS.items():
        assert ", ".join(map(str, tips)) in text, name


def test_the_table_of_sections_is_complete():
    text = section(PAGE, "Configuration")
    assert re.findall(r"^\| `([a-z]+)`", text, re.MULTILINE) == [*HandvitConfig.model_fields]


@pytest.mark.parametrize("page", [PAGE, PACKAGE / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_preset_is_named(page):
    for name in preset_names(HandvitConfig.presets):
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
