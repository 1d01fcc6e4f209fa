"""Configurations: merging, overrides, and the text of what is said when they are wrong."""

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveFloat, PositiveInt

from posecore.config import Config, json_schema, load_config, merge
from posecore.errors import InputError


class ViT(Config):
    kind: Literal["vit"] = "vit"
    name: str = "vit_base"
    frozen_blocks: int = 0


class ResNet(Config):
    kind: Literal["resnet"] = "resnet"
    depth: PositiveInt = 50


class Run(Config):
    backbone: Annotated[ViT | ResNet, Field(discriminator="kind")] = ViT()
    learning_rate: PositiveFloat = 1e-4
    """Peak rate."""
    layers: list[int] = [1, 2]
    schedule: dict[int, float] = {0: 1.0}


@pytest.fixture
def write(tmp_path: Path):
    def _write(name: str, data: object) -> Path:
        file = tmp_path / name
        file.write_text(data if isinstance(data, str) else json.dumps(data))
        return file

    return _write


def problems(file: Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        load_config(Run, file, overrides)
    return caught.value.problems


def test_a_file_overrides_what_it_extends_and_an_override_beats_both(write):
    write("base.json", {"learning_rate": 1.0, "layers": [7], "backbone": {"name": "a", "frozen_blocks": 3}})
    file = write("run.json", {"extends": "base.json", "backbone": {"name": "b"}, "layers": [9, 9]})
    config = load_config(Run, file, ["learning_rate=0.5"])
    assert config == Run(learning_rate=0.5, layers=[9, 9], backbone=ViT(name="b", frozen_blocks=3))


def test_of_several_extended_files_the_last_wins(write):
    write("a.json", {"learning_rate": 1.0, "layers": [1]})
    write("b.json", {"learning_rate": 2.0})
    config = load_config(Run, write("run.json", {"extends": ["a.json", "b.json"]}))
    assert (config.learning_rate, config.layers) == (2.0, [1])


def test_a_cycle_of_extends_prints_its_chain(write):
    write("a.json", {"extends": "b.json"})
    (line,) = problems(write("b.json", {"extends": "a.json"}))
    assert line.endswith("extends runs in a circle: b.json -> a.json -> b.json")


def test_changing_kind_starts_from_that_variants_defaults(write):
    write("base.json", {"backbone": {"kind": "vit", "name": "a"}})
    config = load_config(Run, write("run.json", {"extends": "base.json", "backbone": {"kind": "resnet"}}))
    assert config.backbone == ResNet()
    assert load_config(Run, write("c.json", {"backbone": {"name": "a"}}), ["backbone.kind=resnet"]).backbone == ResNet()


def test_an_override_replaces_a_dict_and_takes_text_that_is_no_json(write):
    config = load_config(Run, write("run.json", {}), ['schedule={"5": 0.1}', "backbone.name=resnet-ish"])
    assert config.schedule == {5: 0.1}
    assert config.backbone.name == "resnet-ish"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"learning_rat": 1}, "learning_rat: no such field; did you mean learning_rate?"),
        ({"backbone": {"frozen": 1}}, "backbone.frozen: no such field; did you mean backbone.frozen_blocks?"),
        (
            {"backbone": {"kind": "vit", "frozen": 1}},
            "backbone.frozen: no such field; did you mean backbone.frozen_blocks?",
        ),
        ({"learning_rate": -1}, "learning_rate: input should be greater than 0, not -1"),
        ({"layers": "x"}, 'layers: input should be a valid list, not "x"'),
        (
            {"layers": [1, "x"]},
            'layers.1: input should be a valid integer, unable to parse string as an integer, not "x"',
        ),
        ([1], "holds a list; a JSON object {...} is needed"),
        ("{", ":1:2: not valid JSON: Expecting property name enclosed in double quotes"),
        ('{"learning_rate": NaN}', "NaN is not a number that JSON or a configuration knows"),
        ('{"layers": [], "layers": []}', "the key 'layers' stands twice in one object"),
        ({"extends": "gone.json"}, "gone.json: no such file"),
        ({"backbone": {"kind": "tree"}}, "'vit', 'resnet'"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(write, data, expected):
    file = write("run.json", data)
    (line,) = problems(file)
    assert line.startswith(str(file))
    assert expected in line


def test_every_problem_gets_its_own_line(write):
    assert len(problems(write("run.json", {"a": 1, "learning_rate": 0, "layers": 3}))) == 3


def test_a_malformed_override_shows_how_it_is_written(write):
    assert "should read dotted.key=value" in problems(write("run.json", {}), "learning_rate")[0]
    assert "learning_rate is a value" in problems(write("run.json", {"learning_rate": 1}), "learning_rate.x=1")[0]


def test_a_bare_name_is_looked_up_among_the_presets(write, tmp_path, monkeypatch):
    write("tiny.json", {"learning_rate": 3})
    monkeypatch.setattr(Run, "presets", tmp_path)
    monkeypatch.chdir("/")
    assert load_config(Run, "tiny.json").learning_rate == load_config(Run, "tiny").learning_rate == 3
    with pytest.raises(InputError, match=r"presets are tiny.json; did you mean tiny.json\?"):
        load_config(Run, "tinny.json")


def test_the_schema_carries_docstrings_and_the_keys_of_files():
    schema = json_schema(Run)
    assert schema["properties"]["learning_rate"]["description"] == "Peak rate."
    assert "extends" in schema["properties"]
    assert schema["additionalProperties"] is False


def test_merge_leaves_its_inputs_alone():
    base, update = {"a": {"b": 1}}, {"a": {"c": 2}}
    assert merge(base, update) == {"a": {"b": 1, "c": 2}}
    assert (base, update) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_a_config_round_trips_through_json():
    config = Run(schedule={3: 0.5})
    assert Run.from_dict(json.loads(json.dumps(config.to_json_dict()))) == config
