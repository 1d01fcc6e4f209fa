"""Public data sets, in miniatures of exactly their layout, to stores."""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from keypoint_nvs.data.converters.instantmesh import convert_instantmesh
from keypoint_nvs.data.converters.nearest_views import nearest_views
from keypoint_nvs.data.converters.skel4d import FOV_RAD, convert_skel4d
from keypoint_nvs.data.sources import MultiviewSource, SourceOptions
from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.poses import orbit_cameras, turn_world
from keypoint_nvs.rig import zero123plus_rig
from posecore.errors import InputError

SIZE = 10
RIG = zero123plus_rig("v1.2")
TO_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
TURN_DEG = 37.0
"""Azimuth of the view from which the rig's views are right."""
JOINTS = np.array([[0.0, 0.0, 0.0], [0.3, 0.1, 0.2], [0.0, 0.0, 9.0]])


def free_cameras(off_deg: float = 0.0) -> np.ndarray:
    """Twelve views, mixed: an input view, the rig's six turned with it (one of them off), and five others."""
    azimuth = np.array([0.0, *RIG.azimuth_deg, 10, 100, 200, 260, 350])
    elevation = np.array([5.0, *RIG.elevation_deg, 60, 55, 62, -40, 58])
    azimuth[4] += off_deg
    cams = turn_world(orbit_cameras(azimuth, elevation, 2.0), -TURN_DEG)
    return np.asarray(cams[ORDER])


ORDER = np.array([7, 3, 0, 11, 5, 1, 8, 6, 2, 9, 4, 10])
TARGETS = [int(np.flatnonzero(1 + view == ORDER)[0]) for view in range(6)]
COND = int(np.flatnonzero(ORDER == 0)[0])


def write_skel4d(path: Path, frames: dict[str, float]) -> dict[str, np.ndarray]:
    """The layout of Skel4D's train.hdf5; returns the bytes behind its floats."""
    written = {}
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, off_deg in frames.items():
            group = file.create_group(name)
            pixels = rng.integers(0, 256, (12, SIZE, SIZE, 4), np.uint8)
            written[name] = pixels
            for view, cam in enumerate(free_cameras(off_deg)):
                group[f"{view}_image"] = pixels[view].astype(np.float32) / 255
                group[f"{view}_skeleton"] = np.zeros((SIZE, SIZE, 4), np.float32)
                group[f"{view}_camera"] = (TO_OPENGL @ cam)[:3].astype(np.float32)
            group["joints"] = JOINTS
    return written


def test_the_rigs_views_are_found_among_free_ones():
    chosen = nearest_views(free_cameras(), RIG)
    assert (chosen.cond, chosen.targets.tolist()) == (COND, TARGETS)
    assert chosen.errors_deg.max() < 1e-5


def test_skel4d_frames_become_samples_of_the_rig(tmp_path):
    written = write_skel4d(tmp_path / "train.hdf5", {"fox/0": 0.0, "fox/10": 3.0, "ant/2": 0.0})
    report = convert_skel4d(tmp_path / "train.hdf5", tmp_path / "out", RIG, with_joints=True, samples_per_shard=2)
    assert [path.name for path in report.shards] == ["views-00000.hdf5", "views-00001.hdf5"]
    store = MultiviewStore(tmp_path / "out")
    assert store.sample_ids == ("ant/2", "fox/0", "fox/10")
    sample = store.read(1)
    np.testing.assert_array_equal(sample.cond_imgs, written["fox/0"][COND].transpose(2, 0, 1))
    np.testing.assert_array_equal(sample.target_imgs, written["fox/0"][TARGETS].transpose(0, 3, 1, 2))
    assert sample.azimuth_deg == pytest.approx(TURN_DEG, abs=1e-4)
    assert sample.elevation_deg == pytest.approx(5.0, abs=1e-4)
    source = MultiviewSource(store, SourceOptions(RIG, SIZE))
    assert len(source.load(2, np.random.default_rng(0)).target_imgs) == 6


def test_skel4d_joints_stay_where_the_pictures_show_them(tmp_path):
    write_skel4d(tmp_path / "train.hdf5", {"fox/0": 0.0})
    convert_skel4d(tmp_path / "train.hdf5", tmp_path / "out", RIG, with_joints=True)
    sample = MultiviewStore(tmp_path / "out").read(0)
    assert sample.target_cameras is not None
    assert sample.keypoints is not None
    original = free_cameras()[TARGETS]
    focal = SIZE / (2 * np.tan(FOV_RAD / 2))
    for view in range(6):
        before = original[view, :3, :3] @ JOINTS[1] + original[view, :3, 3]
        pose, K = sample.target_cameras.cam_from_world[view], sample.target_cameras.K[view]
        after = K @ (pose[:3, :3] @ sample.keypoints.world[1] + pose[:3, 3])
        np.testing.assert_allclose(after[:2] / after[2], focal * before[:2] / before[2] + (SIZE - 1) / 2, atol=1e-4)
    assert sample.keypoints.visible[:, 0].all()
    assert not sample.keypoints.visible[:, 2].any()


def test_skel4d_with_y_up_gives_the_same_samples(tmp_path):
    write_skel4d(tmp_path / "z.hdf5", {"fox/0": 0.0})
    write_skel4d(tmp_path / "y.hdf5", {"fox/0": 0.0})
    z_up_from_y_up = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])
    with h5py.File(tmp_path / "y.hdf5", "a") as file:
        for view in range(12):
            file["fox/0"][f"{view}_camera"][...] = file["fox/0"][f"{view}_camera"][()] @ z_up_from_y_up
        file["fox/0/joints"][...] = JOINTS @ z_up_from_y_up[:3, :3]
    samples = []
    for up in ("z", "y"):
        convert_skel4d(tmp_path / f"{up}.hdf5", tmp_path / up, RIG, up=up, with_joints=True)
        samples.append(MultiviewStore(tmp_path / up).read(0))
    a, b = samples
    np.testing.assert_allclose(a.target_cameras.cam_from_world, b.target_cameras.cam_from_world, atol=1e-5)
    np.testing.assert_allclose(a.keypoints.world, b.keypoints.world, atol=1e-5)


def test_a_skel4d_frame_far_from_the_rig_is_refused_or_left_out_by_name(tmp_path):
    write_skel4d(tmp_path / "train.hdf5", {"fox/0": 0.0, "fox/1": 8.0})
    with pytest.raises(
        InputError, match=rf"fox/1: view {TARGETS[3]} is the nearest to view 3 .* turned [78]\.\d degrees"
    ):
        convert_skel4d(tmp_path / "train.hdf5", tmp_path / "out", RIG)
    report = convert_skel4d(tmp_path / "train.hdf5", tmp_path / "out", RIG, skip_far=True)
    assert (report.num_samples, report.left_out) == (1, ("fox/1",))
    again = convert_skel4d(tmp_path / "train.hdf5", tmp_path / "out", RIG, skip_far=True)
    assert (again.num_kept, again.left_out) == (1, ("fox/1",))


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("3_camera", None, "3_camera is missing"),
        ("3_camera", np.zeros((4, 4)), r"3_camera: shape is \(4, 4\), expected \(3, 4\)"),
        ("5_image", np.zeros((4, SIZE, SIZE), np.float32), "5_image: is float32"),
        ("5_image", np.full((SIZE, SIZE, 4), 255.0), "5_image: values go from 255 to 255"),
    ],
)
def test_a_damaged_skel4d_frame_names_frame_and_key(tmp_path, key, values, message):
    write_skel4d(tmp_path / "train.hdf5", {"fox/0": 0.0})
    with h5py.File(tmp_path / "train.hdf5", "a") as file:
        del file[f"fox/0/{key}"]
        if values is not None:
            file[f"fox/0/{key}"] = values
    with pytest.raises(InputError, match=rf"train\.hdf5: fox/0: {message}"):
        convert_skel4d(tmp_path / "train.hdf5", tmp_path / "out", RIG)


def write_instantmesh(root: Path, count: int) -> dict[str, np.ndarray]:
    """The folders of InstantMesh's training set and its list."""
    rng = np.random.default_rng(0)
    paths = [f"000-{i % 2:03d}/object{i}" for i in range(count)]
    written = {}
    for path in paths:
        pixels = rng.integers(0, 256, (7, SIZE, SIZE, 4), np.uint8)
        folder = root / "renders" / path
        folder.mkdir(parents=True)
        for view in range(7):
            cv2.imwrite(str(folder / f"{view:03d}.png"), pixels[view][..., [2, 1, 0, 3]])
        written[path] = pixels.transpose(0, 3, 1, 2)
    (root / "paths.json").write_text(json.dumps({"fox": paths[:10], "ant": paths[10:]}))
    return written


def convert(root: Path, output: Path, **options: object) -> object:
    return convert_instantmesh(root, output, image_dir="renders", paths_json=root / "paths.json", **options)


def test_instantmesh_folders_come_back_exactly_and_the_last_16_are_validation(tmp_path):
    written = write_instantmesh(tmp_path, 20)
    convert(tmp_path, tmp_path / "train")
    convert(tmp_path, tmp_path / "val", split="val")
    train, validation = MultiviewStore(tmp_path / "train"), MultiviewStore(tmp_path / "val")
    assert (len(train), len(validation)) == (4, 16)
    for store in (train, validation):
        for index in range(len(store)):
            sample = store.read(index)
            path = sample.sample_id.removesuffix("/0").replace("__", "/")
            np.testing.assert_array_equal(sample.cond_imgs, written[path][0])
            np.testing.assert_array_equal(sample.target_imgs, written[path][1:])
            assert sample.category == ("fox" if list(written).index(path) < 10 else "ant")


def test_parts_of_a_job_array_write_the_shards_of_one_conversion(tmp_path):
    write_instantmesh(tmp_path, 21)
    convert(tmp_path, tmp_path / "whole", samples_per_shard=2)
    for part in (1, 0):
        convert(tmp_path, tmp_path / "parts", samples_per_shard=2, shard=(part, 2))
    names = [path.name for path in sorted((tmp_path / "whole").iterdir())]
    assert names == [f"views-{number:05d}.hdf5" for number in range(3)]
    assert names == [path.name for path in sorted((tmp_path / "parts").iterdir())]
    assert MultiviewStore(tmp_path / "whole").sample_ids == MultiviewStore(tmp_path / "parts").sample_ids
    with pytest.raises(InputError, match=r"views-00000\.hdf5: is there already with other samples"):
        convert(tmp_path, tmp_path / "whole", samples_per_shard=2, split="val")


def test_a_missing_instantmesh_picture_and_a_wrong_list_are_named(tmp_path):
    write_instantmesh(tmp_path, 17)
    (tmp_path / "renders" / "000-000" / "object0" / "004.png").unlink()
    with pytest.raises(InputError, match=r"object0/004\.png: cannot be read"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "paths.json").write_text(json.dumps({"fox": ["../secret"]}))
    with pytest.raises(InputError, match=r"paths\.json: fox: '\.\./secret' is no path inside"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "paths.json").write_text(json.dumps({"fox": ["a"] * 16}))
    with pytest.raises(InputError, match="lists 16 paths"):
        convert(tmp_path, tmp_path / "out")
