"""Data sets found from the folder of a split."""

import json
import logging
import shutil

from vpog.data.opening import open_dataset
from vpog.layout import dataset_of_folder


def test_a_list_that_numbers_objects_is_not_taken_for_their_sizes(data, tmp_path):
    shutil.copytree(data / "synth" / "train", tmp_path / "gso" / "train")
    shutil.copytree(data / "templates" / "synth", tmp_path / "templates" / "gso")
    (tmp_path / "gso" / "models_info.json").write_text(json.dumps([{"obj_id": 1, "gso_id": "Mug"}]))
    found = dataset_of_folder(tmp_path / "gso" / "train")
    assert found.models_info is None
    measured = open_dataset(found, 64, 16).models
    true = open_dataset(dataset_of_folder(data / "synth" / "train"), 64, 16).models
    assert all(abs(measured[key].diameter_mm / true[key].diameter_mm - 1) < 0.05 for key in true)


def test_templates_of_unknown_scale_are_told(data, tmp_path, caplog):
    shutil.copytree(data / "templates" / "synth", tmp_path / "templates")
    for file in (tmp_path / "templates").glob("*/templates.json"):
        file.unlink()
    config = dataset_of_folder(data / "synth" / "train")
    with caplog.at_level(logging.WARNING):
        open_dataset(config, 64, 16)
        assert "sigma" not in caplog.text
        open_dataset(config.model_copy(update={"templates": tmp_path / "templates"}), 64, 16)
    assert "sigma 10" in caplog.text
