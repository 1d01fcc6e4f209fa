"""The pages about keypoint_nvs say what is so: commands run or parse, examples run, links, options, fields and tables hold."""

import contextlib
import importlib
import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from keypoint_nvs.cli import app
from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.data.benchmarks import BENCHMARKS
from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.data.store_format import DTYPES
from keypoint_nvs.stages import KEYPOINT_TERMS
from posecore.config import Config, load_config, preset_names

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent
README, PAGE, CHANGES = PACKAGE / "README.md", ROOT / "docs" / "keypoint_nvs.md", PACKAGE / "CHANGELOG.md"
PAGES = [
    README,
    PAGE,
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("clusters", "training", "conventions")),
]


def text_of(page):
    return page.read_text(encoding="utf-8")


def section(page, heading):
    return re.split(r"^## ", text_of(page).partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands_of(text):
    """Every call of keypoint-nvs in a shell block."""
    for block in blocks(text, "bash"):
        for line in block.splitlines():
            if match := re.search(r"(?:^|/)(?:keypoint-nvs|.*-m keypoint_nvs\.cli) ([a-z].*)", line):
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
def run(command):
    """Runs a line of a page and gives what it printed as a result."""

    def of(line, *more):
        done = command(*shlex.split(line, comments=True), *more)
        assert done.exit_code == 0, (line, done.output)
        return done.stdout

    return of


@pytest.fixture(scope="module")
def walked(tmp_path_factory, run):
    """The folder that the README's first section leaves."""
    folder = tmp_path_factory.mktemp("readme")
    with contextlib.chdir(folder):
        for line in commands_of(section(README, "Step by step, without any data")):
            run(line)
        assert shlex.split(line)[0] == "predict"
        shutil.copy(min(Path("photos").iterdir()), "photo.png")
    return folder


def test_the_first_section_leads_from_nothing_to_errors_and_keypoints(walked):
    metrics = json.loads((walked / "runs/tiny_joint/evaluation/metrics.json").read_text())
    assert metrics.keys() == {"views", "keypoints", "untrained_tokens"}
    found = json.loads((walked / "predictions/keypoints.json").read_text())
    assert len(found["pictures"]) == len(list((walked / "photos").iterdir())) == 1
    assert all(len(entry["keypoints_px"]) == len(found["names"]) == 8 for entry in found["pictures"])
    assert (walked / "sheet.png").is_file()


def test_the_files_of_predict_are_those_of_the_table(walked):
    rows = re.findall(r"^\| (`[^|]*`) \|", section(README, "Keypoints of your own pictures"), re.MULTILINE)
    named = {name.split("/")[0] for row in rows for name in re.findall(r"`((?:NAME|keypoints)[^`]*)`", row)}
    stem = min((walked / "photos").iterdir()).stem
    written = {
        file.name.replace(stem, "NAME")
        for file in (walked / "predictions").iterdir()
        if stem in file.name or file.name.startswith("keypoints")
    }
    assert written < named
    assert named - written == {"NAME_keypoints.mp4", "NAME_maps.png"}


def test_the_metrics_of_the_page_are_those_of_a_report(walked):
    metrics = json.loads((walked / "runs/tiny_joint/evaluation/metrics.json").read_text())
    named = set(re.findall(r"`([a-z_0-9]+)`", section(PAGE, "Metrics")))
    assert metrics.keys() | metrics["views"].keys() | metrics["views"]["ours"].keys() <= named
    assert metrics["keypoints"].keys() <= named


def test_the_terms_of_the_page_are_those_of_a_log(walked):
    rows = [json.loads(line) for line in (walked / "runs/tiny_joint/metrics.jsonl").read_text().splitlines()]
    logged = {key for row in rows for key in row}
    named = set(re.findall(r"`(train/[a-z_0-9/]+)`", text_of(PAGE)))
    assert len(named) >= 4
    assert named <= logged


def test_generated_views_become_a_store(walked, run, monkeypatch):
    monkeypatch.chdir(walked)
    (line,) = re.findall(r"`keypoint-nvs (generate [^`]*)`", section(README, "Views and keypoints together"))
    run(line, "--sampling-steps", "1")
    assert len(MultiviewStore(walked / "generated.h5")) == 1


def test_ones_own_annotations_are_measured_as_described(walked, run, monkeypatch):
    monkeypatch.chdir(walked)
    text = section(README, "How good are they?")
    names, train, test = re.findall(r"^    (\S+)$", text, re.MULTILINE)
    rows = [train.replace("01.png", f"{index:02d}.png") for index in range(16)] + [test.replace("02.png", "16.png")]
    Path("labelled").mkdir()
    (Path("labelled") / "annotations.csv").write_text("\n".join([names, *rows]) + "\n")
    for row in rows:
        shutil.copy("photo.png", Path("labelled") / row.split(",")[0])
    *_, line = commands_of(text)
    done = json.loads(run(line.replace("runs/cats", "runs/tiny_joint"), "--warps", "0"))
    assert (Path(done["folder"]) / "metrics.json").is_file()


def test_the_benchmarks_of_the_table_are_those_that_are_read():
    text = section(README, "How good are they?")
    rows = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)[1:]
    assert {name for row in rows for name in re.findall(r"`([^`]*)`", row)} == BENCHMARKS.keys()


def test_a_network_can_be_used_elsewhere(walked, run, command, monkeypatch):
    monkeypatch.chdir(walked)
    for line in commands_of(section(README, "Use elsewhere")):
        run(line)
    done = command("doctor", "exported", "exported_diffusers", "objects", "photos")
    assert done.exit_code == 0, done.output


def test_the_smoke_job_of_the_page_is_printed(walked, run, monkeypatch):
    monkeypatch.chdir(walked)
    script = run(next(commands_of(section(README, "SLURM"))))
    assert "--partition=ai" in script
    assert "--time=00:20:00" in script
    assert "runs/tiny_joint-smoke" in script


@pytest.mark.parametrize("index", range(2))
def test_an_example_runs_on_what_the_commands_before_it_leave(walked, monkeypatch, index):
    monkeypatch.chdir(walked)
    code = blocks(text_of(README), "python")[index]
    exec(compile(code, "example", "exec"), {"__name__": "example"})


def test_every_example_of_the_readme_is_run():
    assert len(blocks(text_of(README), "python")) == 2


@pytest.mark.parametrize("code", blocks(text_of(README), "json"))
def test_a_configuration_of_the_page_is_valid(tmp_path, code):
    content = json.loads(code)
    content["extends"] = str(KeypointNvsConfig.presets / content["extends"])
    (tmp_path / "mine.json").write_text(json.dumps(content))
    config = load_config(KeypointNvsConfig, tmp_path / "mine.json", [])
    assert config.data.train


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(line, id=f"{page.parent.name}/{page.name}: {line[:60]}")
        for page in PAGES
        for line in commands_of(text_of(page))
    ],
)
def test_a_command_on_a_page_parses_and_its_settings_are_fields(line, parser):
    words = shlex.split(line, comments=True)
    parser.main(args=words, standalone_mode=False)  # raises where something does not exist
    for word, value in pairwise(words):
        if word == "--config" and (KeypointNvsConfig.presets / value).is_file():
            settings = [b for a, b in pairwise(words) if a == "--set"]
            load_config(KeypointNvsConfig, value, settings)


@pytest.mark.parametrize("code", blocks(text_of(PAGE), "python"))
def test_a_worked_number_is_right(code):
    exec(compile(code, "example", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", [README, PAGE, CHANGES], ids=lambda page: page.name)
def test_commands_options_and_fields_that_a_text_names_exist(page, parser, options):
    for code in inline_code(page):
        words = code.split()
        if words[0] == "keypoint-nvs":
            command = parser
            for word in words[1:]:
                if hasattr(command, "commands"):
                    assert word in command.commands, code
                    command = command.commands[word]
        elif words[0].startswith("--"):
            assert {word for word in words if word.startswith("--")} <= options, code
        elif match := re.fullmatch(r"([a-z_0-9]+(?:\.(?!json|csv)[a-z_0-9]+)+)(=.*)?", code):
            names = match[1].split(".")
            assert names[0] not in KeypointNvsConfig.model_fields or has_field(KeypointNvsConfig, names), code


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


@pytest.mark.parametrize("page", [PAGE, CHANGES], ids=lambda page: page.name)
def test_names_to_import_exist(page):
    for code in inline_code(page):
        if re.fullmatch(r"keypoint_nvs(\.\w+)+", code):
            head, _, last = code.rpartition(".")
            try:
                importlib.import_module(code)
            except ModuleNotFoundError:
                assert hasattr(importlib.import_module(head), last), code


def test_the_table_of_commands_is_complete(parser):
    table = section(README, "Commands")
    for name, command in parser.commands.items():
        for part in getattr(command, "commands", {"": None}):
            assert f"`keypoint-nvs {name} {part}".strip() in table or f"`{part}`" in table, (name, part)
    for part in parser.commands["data"].commands["convert"].commands:
        assert f"`{part}`" in table or f"convert {part}`" in table


def test_the_table_of_losses_is_complete():
    table = section(PAGE, "Losses")
    for name in ("nvs", *KEYPOINT_TERMS):
        weight = getattr(KeypointNvsConfig(nvs={}).loss, name)
        assert f"| `{name}` | {weight:g}" in table, name


def test_the_table_of_sections_is_complete():
    text = section(PAGE, "Configuration")
    assert re.findall(r"^\| `([a-z]+)`", text, re.MULTILINE) == [*KeypointNvsConfig.model_fields]


def test_the_keys_of_a_store_are_those_of_the_page():
    rows = re.findall(r"^\| (`[^|]*`) \|", section(PAGE, "The store"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([^`]*)`", row)} == DTYPES.keys()


@pytest.mark.parametrize("page", [PAGE, CHANGES], ids=lambda page: page.name)
def test_every_preset_is_named(page):
    for name in preset_names(KeypointNvsConfig.presets):
        assert f"`{name}`" in text_of(page), name


@pytest.mark.parametrize("page", [*PAGES, CHANGES], ids=lambda page: f"{page.parent.name}/{page.name}")
def test_every_link_of_a_page_leads_to_a_file_and_heading(page):
    for target in re.findall(r"!?\[[^\]]*\]\(([^)]+)\)", text_of(page)):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        headings = re.findall(r"^#+ (.*)$", text_of(file), re.MULTILINE) if anchor else []
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in slugs, f"{page.name}: {target}"
