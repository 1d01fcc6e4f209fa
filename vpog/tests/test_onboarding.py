"""Folders of known objects: made once, added to, loaded as they were made."""

import json
import shutil

import numpy as np
import pytest

from posecore.errors import InputError
from vpog.objects.mesh import Mesh
from vpog.objects.meshes import read_mesh, write_mesh
from vpog.objects.models_info import read_models_info
from vpog.onboarding import add_objects, object_file, onboard_files
from vpog.pose_estimator import PoseEstimator
from vpog.templates import load_templates


@pytest.fixture(scope="module")
def folder(command, run, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    models = data / "synth" / "models"
    done = command("onboard", models / "obj_000001.ply", models / "obj_000003.ply", "--checkpoint", run,
                   "--output", folder, "--level", 0, "--models-info", models / "models_info.json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert [row["obj_id"] for row in json.loads(done.stdout)["objects"]] == [1, 3]
    return folder


def test_meshes_templates_and_sizes_are_kept(folder, data):
    infos, given = (read_models_info(p / "models_info.json") for p in (folder, data / "synth" / "models"))
    assert sorted(infos) == [1, 3]
    for obj_id in infos:
        assert infos[obj_id].diameter_mm == pytest.approx(given[obj_id].diameter_mm)
        kept, mesh = (read_mesh(p / f"obj_{obj_id:06d}.ply") for p in (folder, data / "synth" / "models"))
        np.testing.assert_allclose(kept.vertices_mm, mesh.vertices_mm, atol=1e-3)
        assert len(load_templates(object_file(folder, obj_id, ".npz"))) == 42


def test_a_known_object_is_the_same_as_one_added_from_its_mesh(folder, run, data):
    from_files, from_mesh = (PoseEstimator.load(run, "cpu") for _ in range(2))
    meshes = add_objects(from_files, folder)
    assert sorted(meshes) == [1, 3]
    info = read_models_info(folder / "models_info.json")[1]
    from_mesh.add_mesh(1, read_mesh(data / "synth/models/obj_000001.ply"), info, level=0)
    np.testing.assert_allclose(from_files.objects[1].tokens, from_mesh.objects[1].tokens, atol=1e-5)
    np.testing.assert_array_equal(from_files.objects[1].directions, from_mesh.objects[1].directions)


def test_a_further_object_joins_and_the_others_stay(folder, run, data, tmp_path):
    shutil.copytree(folder, tmp_path / "known")
    before = object_file(tmp_path / "known", 1, ".npz").read_bytes()
    mesh = read_mesh(data / "synth/models/obj_000002.ply")
    write_mesh(tmp_path / "thing.ply", mesh)
    told = onboard_files([tmp_path / "thing.ply"], run, tmp_path / "known", first=7, level=0, device="cpu")
    assert told["objects"][0]["obj_id"] == 7
    assert sorted(read_models_info(tmp_path / "known" / "models_info.json")) == [1, 3, 7]
    assert object_file(tmp_path / "known", 1, ".npz").read_bytes() == before


def test_metres_and_millimetres_make_the_same_object(folder, run, data, tmp_path):
    mesh = read_mesh(data / "synth/models/obj_000001.ply")
    write_mesh(tmp_path / "metres.ply", Mesh(mesh.vertices_mm / 1000, mesh.faces, mesh.colors, mesh.texture))
    told = onboard_files([tmp_path / "metres.ply"], run, tmp_path / "known", level=0, device="cpu")
    diameter = read_models_info(folder / "models_info.json")[1].diameter_mm
    assert told["objects"][0]["diameter_mm"] == pytest.approx(diameter, rel=1e-3)


@pytest.mark.parametrize(("scale", "told"), [(1 / 300, "its unit cannot be told"), (40.0, "its unit cannot be told")])
def test_a_mesh_whose_unit_is_unclear_is_refused(scale, told, run, data, tmp_path):
    mesh = read_mesh(data / "synth/models/obj_000001.ply")
    unclear = 2000 / np.ptp(mesh.vertices_mm, axis=0).max() * scale
    write_mesh(tmp_path / "thing.ply", Mesh(mesh.vertices_mm * np.float32(unclear), mesh.faces, mesh.colors))
    with pytest.raises(InputError, match=told):
        onboard_files([tmp_path / "thing.ply"], run, tmp_path / "known", level=0, device="cpu")


def test_objects_without_number_and_folders_that_are_none_are_told(run, data, tmp_path):
    models = data / "synth" / "models"
    with pytest.raises(InputError, match=r"has no models_info\.json; make the folder with `vpog onboard"):
        add_objects(PoseEstimator.load(run, "cpu"), tmp_path)
    write_mesh(tmp_path / "thing.ply", read_mesh(models / "obj_000001.ply"))
    with pytest.raises(InputError, match=r"models_info\.json: has no object 9"):
        onboard_files([tmp_path / "thing.ply"], run, tmp_path / "k", first=9, models_info=models / "models_info.json")
    with pytest.raises(InputError, match="no mesh found"):
        onboard_files([tmp_path / "k"], run, tmp_path / "k")
