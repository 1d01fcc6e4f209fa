"""Stores of multi-view samples: what is written comes back, and what is wrong is named."""

import copy
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from keypoint_nvs.data.records import Cameras, Keypoints, MultiviewSample
from keypoint_nvs.data.store import MultiviewStore
from keypoint_nvs.data.store_writing import StoreWriter, write_store
from keypoint_nvs.rig import zero123plus_rig
from posecore.errors import InputError

SIZE = 12
RIG = zero123plus_rig("v1.2")


def cameras(cam_from_world: np.ndarray) -> Cameras:
    K = np.repeat(RIG.K(SIZE)[None], len(cam_from_world), 0)
    return Cameras(cam_from_world.astype(np.float32), K.astype(np.float32))


def sample(name: str = "horse/0", *, seed: int = 0, with_cameras: bool = True) -> MultiviewSample:
    rng = np.random.default_rng(seed)
    visible = rng.integers(0, 2, (7, 5)).astype(bool)
    return MultiviewSample(
        sample_id=name,
        cond_imgs=rng.integers(0, 256, (4, SIZE, SIZE), np.uint8),
        target_imgs=rng.integers(0, 256, (6, 4, SIZE, SIZE), np.uint8),
        cond_camera=cameras(RIG.cam_from_world()[:1]) if with_cameras else None,
        target_cameras=cameras(RIG.cam_from_world()) if with_cameras else None,
        keypoints=Keypoints(rng.standard_normal((5, 3)).astype(np.float32), visible) if with_cameras else None,
        category="horse" if with_cameras else "",
        azimuth_deg=12.5 if with_cameras else None,
        elevation_deg=-3.0 if with_cameras else None,
    )


def same(a: MultiviewSample, b: MultiviewSample) -> None:
    pairs = [(a.cond_imgs, b.cond_imgs), (a.target_imgs, b.target_imgs)]
    for one, other in ((a.cond_camera, b.cond_camera), (a.target_cameras, b.target_cameras)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            pairs += [(one.cam_from_world, other.cam_from_world), (one.K, other.K)]
    assert (a.keypoints is None) == (b.keypoints is None)
    if a.keypoints is not None and b.keypoints is not None:
        pairs += [(a.keypoints.world, b.keypoints.world), (a.keypoints.visible, b.keypoints.visible)]
    for x, y in pairs:
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)
    for name in ("sample_id", "category", "azimuth_deg", "elevation_deg"):
        assert getattr(a, name) == getattr(b, name)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "objects.hdf5"
    write_store(path, "zero123plus-v1.2", [sample("b/10"), sample("b/2", seed=1), sample("a/0", seed=2)])
    return path


def edited(path: Path, key: str, values: np.ndarray | None, name: str = "b/10") -> None:
    """Replace a dataset of a sample; None: remove it."""
    with h5py.File(path, "a") as file:
        group = file[f"samples/{name}"]
        if key in group:
            del group[key]
        if values is not None:
            group[key] = values


@pytest.mark.parametrize("with_cameras", [True, False])
def test_a_sample_comes_back_as_it_was_written(tmp_path, with_cameras):
    written = [sample("b/10", with_cameras=with_cameras), sample("a/0", seed=1, with_cameras=with_cameras)]
    write_store(tmp_path / "s.hdf5", "zero123plus-v1.2", written)
    store = MultiviewStore(tmp_path / "s.hdf5")
    assert store.sample_ids == ("b/10", "a/0")
    for index, expected in enumerate(written):
        same(store.read(index), expected)


def test_the_file_has_the_layout_of_the_format(store):
    with h5py.File(store) as file:
        assert dict(file.attrs)["format"] == "keypoint-nvs/multiview"
        assert (file.attrs["version"], file.attrs["height"], file.attrs["width"]) == (1, SIZE, SIZE)
        assert file.attrs["rig"] == "zero123plus-v1.2"
        targets = file["samples/b/10/target_imgs"]
        assert targets.chunks == (1, 4, SIZE, SIZE)
        assert (targets.compression, targets.compression_opts, targets.shuffle) == ("gzip", 4, True)
        assert file["samples/b/10/keypoints_visible"].dtype == np.uint8
        assert file["samples/b/10/cond_K"].shape == (3, 3)
        assert dict(file["samples/b/10"].attrs) == {"category": "horse", "azimuth_deg": 12.5, "elevation_deg": -3.0}


def test_a_store_without_a_list_of_samples_is_searched(store):
    with h5py.File(store, "a") as file:
        del file["sample_ids"]
        file.attrs["format"] = np.bytes_(file.attrs["format"])  # as C programs write text
    assert sorted(MultiviewStore(store).sample_ids) == ["a/0", "b/10", "b/2"]


def test_an_object_that_the_list_does_not_know_is_told(store):
    with h5py.File(store, "a") as file:
        file.copy("samples/a", "samples/new")
    with pytest.raises(InputError, match="sample_ids names 2 objects, samples has 3; delete sample_ids"):
        MultiviewStore(store)


def test_a_store_of_another_layout_is_told(store):
    with h5py.File(store, "a") as file:
        del file["sample_ids"], file["samples/a"]
        file["samples/a"] = np.zeros(3)
    with pytest.raises(InputError, match="samples/a: is no group OBJECT"):
        MultiviewStore(store)


def test_shards_of_a_folder_are_one_set_in_order_of_their_names(tmp_path):
    for name, ids in (("b", ["x/0"]), ("a", ["y/0", "z/0"])):
        write_store(tmp_path / f"{name}.hdf5", "zero123plus-v1.2", [sample(i) for i in ids])
    assert MultiviewStore(tmp_path).sample_ids == ("y/0", "z/0", "x/0")
    assert MultiviewStore(str(tmp_path / "[b]*.hdf5")).sample_ids == ("x/0",)
    write_store(tmp_path / "c.hdf5", "zero123plus-v1.2", [sample("x/0")])
    with pytest.raises(InputError, match=r"c\.hdf5: x/0: is also in .*b\.hdf5"):
        MultiviewStore(tmp_path)


def test_shards_of_different_rigs_are_not_one_set(tmp_path):
    write_store(tmp_path / "a.hdf5", "zero123plus-v1.2", [sample("a/0")])
    write_store(tmp_path / "b.hdf5", "zero123plus-v1.1", [sample("b/0")])
    with pytest.raises(InputError, match=r"b\.hdf5: has .*v1\.1.*a\.hdf5 has .*v1\.2"):
        MultiviewStore(tmp_path)


def test_a_store_that_was_read_goes_to_another_process(store):
    first = MultiviewStore(store)
    first.read(0)
    same(copy.deepcopy(first).read(0), first.read(0))  # by the protocol that sends it to a worker


def test_a_file_that_was_not_finished_is_not_there(tmp_path):
    with StoreWriter(tmp_path / "s.hdf5", "free") as writer:
        writer.append(sample())
    assert list(tmp_path.iterdir()) == []


IMGS = np.zeros((6, 4, SIZE, SIZE), np.uint8)


@pytest.mark.parametrize(
    ("key", "values", "message"),
    [
        ("target_imgs", None, "target_imgs is missing"),
        ("cond_K", None, "cond_K is missing beside cond_cam_from_world"),
        ("cond_img", IMGS[0], "cond_img: no such key; did you mean cond_imgs?"),
        ("target_imgs", IMGS.astype(np.float32), "target_imgs: dtype is float32, expected uint8"),
        ("target_imgs", IMGS[:5], r"target_imgs: shape is \(5, 4, 12, 12\), .*a sample has 6 target views"),
        ("target_imgs", IMGS.transpose(0, 2, 3, 1), "target_imgs: shape is .*channels come before rows"),
        ("cond_imgs", IMGS[0, :3], r"cond_imgs: shape is \(3, 12, 12\), .*pictures are RGBA"),
        ("cond_imgs", IMGS[0].transpose(1, 2, 0), "cond_imgs: shape is .*channels come before rows"),
        ("cond_cam_from_world", np.full((4, 4), np.nan, np.float32), r"cond_cam_from_world: nan at \[0, 0\]"),
        (
            "cond_cam_from_world",
            np.diag([1, 1, -1, 1]).astype(np.float32),
            "cond_cam_from_world: view 0: is no rigid map",
        ),
        ("cond_K", np.eye(3, dtype=np.float32), "cond_K: view 0: .* are no intrinsics in pixels"),
        ("keypoints_visible", np.full((7, 5), 2, np.uint8), "keypoints_visible: holds 2"),
        ("keypoints_visible", np.ones((7, 4), np.uint8), r"keypoints_visible: shape is \(7, 4\)"),
    ],
)
def test_a_wrong_key_names_file_and_sample(store, key, values, message):
    edited(store, key, values)
    with pytest.raises(InputError, match=rf"objects\.hdf5: b/10: {message}"):
        MultiviewStore(store).read(0)


def test_a_free_store_needs_cameras(tmp_path):
    with pytest.raises(InputError, match="cond_cam_from_world is missing"):
        write_store(tmp_path / "s.hdf5", "free", [sample(with_cameras=False)])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("format", "other", "format is 'other'"),
        ("version", 2, "version is 2; version 1 is read"),
        ("rig", "zero123", "rig is 'zero123'; it is one of"),
        ("height", -1, "height is -1"),
        ("alpha", "premultiplied", "alpha is 'premultiplied'; colours must be straight"),
    ],
)
def test_a_wrong_attribute_of_the_file_is_named(store, name, value, message):
    with h5py.File(store, "a") as file:
        file.attrs[name] = value
    with pytest.raises(InputError, match=message):
        MultiviewStore(store)


def test_a_damaged_picture_is_named(store):
    with h5py.File(store) as file:
        place = file["samples/b/10/target_imgs"].id.get_chunk_info(2)
    data = bytearray(store.read_bytes())
    data[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    store.write_bytes(data)
    with pytest.raises(InputError, match=r"objects\.hdf5: b/10: target_imgs: cannot be read"):
        MultiviewStore(store).read(0)


def test_five_targets_and_twice_the_same_sample_are_not_written(tmp_path):
    with pytest.raises(InputError, match="a sample has 6 target views"):
        write_store(tmp_path / "s.hdf5", "zero123plus-v1.2", [replace(sample(), target_imgs=IMGS[:5])])
    with pytest.raises(InputError, match="horse/0: is there twice"):
        write_store(tmp_path / "s.hdf5", "zero123plus-v1.2", [sample(), sample()])
    with pytest.raises(InputError, match="ids are OBJECT/INDEX"):
        write_store(tmp_path / "s.hdf5", "zero123plus-v1.2", [sample("horse")])


def test_a_rig_of_four_views_is_kept(tmp_path):
    poses = RIG.cam_from_world()[:4]
    four = replace(sample(), target_imgs=IMGS[:4], target_cameras=cameras(poses), keypoints=None)
    write_store(tmp_path / "s.hdf5", "free", [four])
    store = MultiviewStore(tmp_path / "s.hdf5")
    assert store.header.num_targets == 4
    same(store.read(0), four)
