"""The pages about vpog say what is so: commands run or parse, examples run, links, options, fields and tables hold."""

import contextlib
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer

from posecore.config import Config, load_config, preset_names
from vpog.cli import app
from vpog.config.loss import TERM_NAMES
from vpog.config.run import VpogConfig
from vpog.data.detections import Detection, write_detections
from vpog.data.opening import open_images
from vpog.layout import dataset_of_folder

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parent
README, PAGE, CHANGES = PACKAGE / "README.md", ROOT / "docs" / "vpog.md", PACKAGE / "CHANGELOG.md"
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
    """Every call of vpog in a shell block."""
    for block in blocks(text, "bash"):
        for line in block.splitlines():
            if match := re.search(r"(?:^|/|-m )vpog(?:\.cli)? ([a-z].*)", line):
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
        held = Path("objects/held")
        shutil.copy(held / "test/000000/rgb/000000.png", "photo.png")
        shutil.copy(held / "test/000000/mask_visib/000000_000000.png", "mug_mask.png")
        shutil.copy(held / "models/obj_000001.ply", "mug.ply")
    return folder


@pytest.fixture(scope="module")
def bop_set(walked, run):
    """`bop/lmo` and detections of it: the held-out objects by another name."""
    with contextlib.chdir(walked):
        shutil.copytree("objects/held", "bop/lmo")
        shutil.copytree("objects/templates/held", "bop/templates/lmo", ignore=lambda _, names: {"000002"} & {*names})
        found = []
        images = open_images(dataset_of_folder(Path("bop/lmo/test"), needs_templates=False))
        for index in range(len(images)):
            record = images.read(index)
            found += [
                Detection(
                    record.scene_id,
                    record.image_id,
                    i.obj_id,
                    np.asarray(i.bbox_visib_xywh, float),
                    0.9,
                    0.5,
                    i.mask_visib,
                )
                for i in record.instances
            ]
        write_detections(Path("detections_lmo.json"), found)
        templates, *rest = commands_of(section(README, "BOP data sets"))
        printed = [run(templates, "--level", "0"), *map(run, rest)]
    return dict(zip(("templates", "evaluate", "score", "convert"), map(json.loads, printed), strict=True))


def test_the_first_section_leads_from_nothing_to_errors_and_poses(walked):
    metrics = json.loads((walked / "runs/objects/evaluation/metrics.json").read_text())
    assert metrics["overall"]["targets"] >= 3
    assert {"ar", "ap", "add_or_s_recall"} <= metrics["overall"].keys()
    assert {file.suffix for file in (walked / "pictures").iterdir()} == {".png"}
    (row,) = json.loads((walked / "predictions/results.json").read_text())
    assert (row["failure"] is None) == bool(row["poses"])


def test_the_camera_of_the_first_section_is_that_of_the_picture(walked):
    (line,) = [x for x in commands_of(section(README, "Step by step, without any data")) if x.startswith("predict")]
    given = [float(value) for value in shlex.split(line)[-1].split(",")]
    K = json.loads((walked / "objects/held/test/000000/scene_camera.json").read_text())["0"]["cam_K"]
    assert given == pytest.approx([K[0], K[4], K[2], K[5]], abs=0.05)
    truth = json.loads((walked / "objects/held/test/000000/scene_gt.json").read_text())["0"][0]
    assert f"--obj-id {truth['obj_id']} " in line


def test_ones_own_picture_and_mesh_are_enough_and_leave_the_files_of_the_table(walked, run, monkeypatch):
    monkeypatch.chdir(walked)
    text = section(README, "Your own object")
    line = next(commands_of(text))
    run(line, "--level", "0")
    table = re.findall(r"^\| (`[^|]*`) \|", text, re.MULTILINE)
    named = {name.replace("NAME", "photo") for row in table for name in re.findall(r"`([^`]*)`", row)}
    assert named == {file.name for file in Path("poses").iterdir()}


def test_a_folder_as_described_gives_a_row_for_each_detection(walked, run, monkeypatch):
    monkeypatch.chdir(walked)
    text = section(README, "Your own object")
    tree = re.findall(r"^    (scene/\S+) +(.*)$", text, re.MULTILINE)
    assert [Path(name).name for name, _ in tree] == ["image.png", "camera.json", "detections.json", "mug.ply"]
    for name, content in tree:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".json"):
            rows = json.loads(content)
            if isinstance(rows, list):
                assert [sorted(row) for row in rows] == [["label", "mask"], ["bbox", "label"]]
                rows = rows[:1]  # the network of the first section wants masks
            Path(name).write_text(json.dumps(rows))
    for source, target in (
        ("photo.png", "image.png"),
        ("mug_mask.png", "mug_mask.png"),
        ("mug.ply", "meshes/mug/mug.ply"),
    ):
        shutil.copy(source, Path("scene") / target)
    *_, line = commands_of(text)
    run(line, "--level", "0")
    (row,) = json.loads(Path("poses/results.json").read_text())
    assert row["label"] == "mug"


def test_a_folder_and_an_option_that_it_does_not_look_at_are_refused(walked, command, monkeypatch):
    monkeypatch.chdir(walked)
    Path("other").mkdir()
    done = command("predict", "other", "--checkpoint", "runs/objects", "--box", "1,2,3,4", "--fov", "60")
    assert done.exit_code == 2
    assert "--box, --fov: for pictures only" in done.output


def test_a_box_where_masks_were_learnt_is_refused_with_the_remedy(walked, command, monkeypatch):
    monkeypatch.chdir(walked)
    done = command(
        *("predict", "photo.png", "--checkpoint", "runs/objects", "--objects", "known"),
        *("--box", "10,10,80,80", "--fov", "60"),
    )
    assert done.exit_code == 2
    assert "give its mask, or train with data.background=keep" in done.output


def test_the_example_runs_on_what_the_commands_before_it_leave(walked, monkeypatch):
    monkeypatch.chdir(walked)
    (code,) = blocks(text_of(README), "python")
    exec(compile(code, "example", "exec"), {"__name__": "example"})


def test_the_commands_about_bop_sets_run_and_both_ways_to_measure_agree(walked, bop_set):
    assert bop_set["evaluate"]["metrics"] == bop_set["score"]["metrics"]
    assert bop_set["convert"]["num_images"] == bop_set["evaluate"]["pictures"] == 3
    left = {file.name for file in (walked / "results/lmo").iterdir()}
    text = section(README, "BOP data sets")
    named = {
        name for name in re.findall(r"`([^`/]*)`", text) if name.endswith((".md", ".csv")) or name == "metrics.json"
    }
    assert named <= left
    assert "worst" in left


def test_the_metrics_of_the_page_are_those_of_a_report(bop_set):
    named = set(re.findall(r"`([a-z_]+)`", section(PAGE, "Metrics")))
    assert bop_set["evaluate"]["metrics"].keys() - {"answered"} <= named


def test_an_exported_network_is_a_checkpoint(walked, run, command, monkeypatch):
    monkeypatch.chdir(walked)
    (line,) = commands_of(section(README, "Use elsewhere"))
    run(line)
    done = command("doctor", "exported", "runs/objects", "mug.ply", "objects/held/val", "objects/templates/held")
    assert done.exit_code == 0, done.output


def test_the_configuration_of_several_data_sets_is_valid(tmp_path):
    (code,) = blocks(text_of(README), "json")
    content = json.loads(code)
    content["extends"] = str(VpogConfig.presets / content["extends"])
    (tmp_path / "mine.json").write_text(json.dumps(content))
    config = load_config(VpogConfig, tmp_path / "mine.json", [])
    assert [dataset.sigma for dataset in config.data.train] == [10, 10]
    assert config.model.encoder.weights.name in text_of(README)


def test_the_line_for_dinov2_makes_a_valid_configuration():
    (line,) = [line for line in commands_of(section(README, "Train on MegaPose's data")) if "dino" in line]
    words = shlex.split(line)
    settings = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    assert load_config(VpogConfig, "base.json", settings).model.encoder.kind == "dino"


@pytest.mark.parametrize(
    "line",
    [pytest.param(line, id=f"{page.name}: {line[:60]}") for page in PAGES for line in commands_of(text_of(page))],
)
def test_a_command_on_a_page_parses(line, parser):
    parser.main(args=shlex.split(line, comments=True), standalone_mode=False)  # raises where something does not exist


@pytest.mark.parametrize("code", blocks(text_of(PAGE), "python"))
def test_a_worked_number_is_right(code):
    exec(compile(code, "example", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", [README, PAGE, CHANGES], ids=lambda page: page.name)
def test_commands_options_and_fields_that_a_text_names_exist(page, parser, options):
    for code in inline_code(page):
        words = code.split()
        if words[0] == "vpog":
            command = parser
            for word in words[1:]:
                if hasattr(command, "commands"):
                    assert word in command.commands, code
                    command = command.commands[word]
        elif words[0].startswith("--"):
            assert {word for word in words if word.startswith("--")} <= options, code
        elif match := re.fullmatch(r"([a-z_0-9]+(?:\.[a-z_0-9]+)+)(=.*)?", code):
            names = match[1].split(".")
            assert names[0] not in VpogConfig.model_fields or has_field(VpogConfig, names), code


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
            assert f"`vpog {name} {part}".strip() in table or f"`{part}`" in table, (name, part)
    for part in parser.commands["data"].commands["convert"].commands:
        assert f"`{part}`" in table or f"convert {part}`" in table


def test_the_table_of_losses_is_complete():
    table = section(PAGE, "Losses")
    for name in TERM_NAMES:
        weight = getattr(VpogConfig().loss, name).weight
        assert f"| `{name}` | {weight:g}" in table, name


def test_the_table_of_sections_is_complete():
    text = section(PAGE, "Configuration")
    assert re.findall(r"^\| `([a-z]+)`", text, re.MULTILINE) == [*VpogConfig.model_fields]


def test_the_shards_of_the_page_are_those_that_are_written(walked):
    import tarfile

    with tarfile.open(next((walked / "objects/held/val").glob("*.tar"))) as shard:
        members = {name.partition(".")[2] for name in shard.getnames()}
    named = set(re.findall(r"`([a-z_]+\.(?:json|png|jpg))`", section(PAGE, "Formats"))) - {"key_to_shard.json"}
    assert members <= named
    assert {name for name in named if name.endswith(".json")} <= members


@pytest.mark.parametrize("page", [PAGE, CHANGES], ids=lambda page: page.name)
def test_every_preset_is_named(page):
    for name in preset_names(VpogConfig.presets):
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
