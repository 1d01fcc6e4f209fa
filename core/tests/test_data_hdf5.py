"""HDF5 tables give back what was written, in both picture layouts, and say where they are damaged."""

import multiprocessing
import pickle

import h5py
import numpy as np
import pytest

from posecore.data.hdf5 import Hdf5Reader, Hdf5Writer
from posecore.errors import InputError


def rows(count):
    rng = np.random.default_rng(0)
    return [
        {
            "images/jpeg": rng.bytes(int(rng.integers(0, 400))),
            "pose": rng.standard_normal((5, 3)).astype(np.float32),
            "frame": np.int64(i),
            "session": f"sitzung é {i % 3}",
        }
        for i in range(count)
    ]


def write(path, count=70, **options):
    with Hdf5Writer(path, **options) as writer:
        for row in rows(count):
            writer.append(row)
        writer.finish({"joint_names": "a,b", "rate_hz": 30.0})
    return path


@pytest.mark.parametrize("blobs", ["packed", "vlen"])
def test_rows_come_back_as_they_were_written(tmp_path, blobs):
    reader = Hdf5Reader(write(tmp_path / "a.h5", blobs=blobs))
    written = rows(70)
    for index in np.random.default_rng(1).permutation(70):
        assert reader.blob("images/jpeg", index) == written[index]["images/jpeg"]
        np.testing.assert_array_equal(reader.row("pose", index), written[index]["pose"])
    np.testing.assert_array_equal(reader.column("frame"), np.arange(70))
    assert reader.texts("session") == [row["session"] for row in written]
    assert (reader.attribute("joint_names"), reader.attribute("rate_hz"), reader.attribute("x")) == ("a,b", 30.0, None)
    assert reader.require("images/none", "images/jpeg", shape=(None,)) == "images/jpeg"
    assert reader.require("pose", shape=(70, None, 3)) == "pose"
    assert "pose" in reader
    assert "none" not in reader
    with pytest.raises(IndexError):
        reader.blob("images/jpeg", 70)


@pytest.mark.parametrize("blobs", ["packed", "vlen"])
@pytest.mark.parametrize("pictures", [[b"ab"], [b""], [b"ab", b"cd"], [b""] * 3, [b"abc"] * 33, [b"a", b"", b"bc"]])
def test_pictures_of_equal_length_and_empty_ones_come_back(tmp_path, blobs, pictures):
    with Hdf5Writer(tmp_path / "a.h5", blobs) as writer:
        for picture in pictures:
            writer.append({"jpeg": picture})
        writer.finish({})
    reader = Hdf5Reader(tmp_path / "a.h5")
    assert reader.shape("jpeg") == (len(pictures),)
    assert [reader.blob("jpeg", index) for index in range(len(pictures))] == pictures


def test_a_dictionary_in_the_metadata_becomes_a_subgroup(tmp_path):
    with Hdf5Writer(tmp_path / "a.h5") as writer:
        writer.append({"frame": 1})
        writer.finish({"rate_hz": 30.0, "statistics": {"processed": 1}})
    with h5py.File(tmp_path / "a.h5") as file:
        assert dict(file["metadata"].attrs) == {"rate_hz": 30.0}
        assert dict(file["metadata/statistics"].attrs) == {"processed": 1}


def test_the_chunks_of_a_column_hold_few_rows(tmp_path):
    with h5py.File(write(tmp_path / "a.h5")) as file:
        assert file["pose"].chunks == (32, 5, 3)
        assert file["images/jpeg/offsets"].shape == (71,)
        assert file["images/jpeg/data"].dtype == np.uint8


def test_an_interrupted_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    old = write(tmp_path / "a.h5").read_bytes()

    def interrupted():
        with Hdf5Writer(tmp_path / "a.h5") as writer:
            writer.append(rows(1)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "a.h5").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_row_unlike_the_first_is_refused(tmp_path):
    with Hdf5Writer(tmp_path / "a.h5") as writer:
        writer.append({"pose": np.zeros(3), "key": "a"})
        for other in ({"pose": np.zeros(4), "key": "a"}, {"pose": np.zeros(3, np.int8), "key": "a"}):
            with pytest.raises(ValueError, match="row 1: pose differ from the first row"):
                writer.append(other)
        with pytest.raises(ValueError, match="row 1: extra, key differ"):
            writer.append({"pose": np.zeros(3), "extra": 1})


def test_a_writer_without_rows_is_refused(tmp_path):
    with Hdf5Writer(tmp_path / "a.h5") as writer, pytest.raises(InputError, match="there is no sample to write"):
        writer.finish({})
    assert list(tmp_path.iterdir()) == []


def read_in_child(reader, queue):
    queue.put(reader.blob("images/jpeg", 3))


def test_a_reader_that_is_open_works_in_a_forked_and_in_a_pickled_copy(tmp_path):
    reader = Hdf5Reader(write(tmp_path / "a.h5"))
    expected = reader.blob("images/jpeg", 3)
    assert pickle.loads(pickle.dumps(reader)).blob("images/jpeg", 3) == expected
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=read_in_child, args=(reader, queue))
    child.start()
    assert queue.get(timeout=20) == expected
    child.join()
    assert reader.blob("images/jpeg", 3) == expected


def test_missing_files_datasets_and_wrong_shapes_are_told(tmp_path):
    path = write(tmp_path / "a.h5")
    reader = Hdf5Reader(path)
    for call, message in [
        (lambda: Hdf5Reader(tmp_path / "none.h5").column("pose"), f"{tmp_path / 'none.h5'}: no such file"),
        (lambda: reader.column("nose"), f"{path}: nose: no such dataset"),
        (lambda: reader.require("mask", "masks", shape=(None,)), f"{path}: mask or masks: no such dataset"),
        (lambda: reader.require("pose", shape=(None, 6)), f"{path}: pose: expected shape (any, 6), found (70, 5, 3)"),
        (lambda: reader.column("images"), f"{path}: images: is a group, expected a dataset"),
        (lambda: reader.blob("pose", 0), f"{path}: pose: holds no encoded pictures"),
    ]:
        with pytest.raises(InputError) as caught:
            call()
        assert str(caught.value) == message


def test_a_torn_file_is_told(tmp_path):
    path = write(tmp_path / "a.h5")
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"a\.h5: not a whole HDF5 file \(.*truncated"):
        Hdf5Reader(path).column("pose")
    path.write_text("hello")
    with pytest.raises(InputError, match=r"a\.h5: not a whole HDF5 file"):
        Hdf5Reader(path).column("pose")


def test_offsets_that_do_not_fit_the_data_are_told(tmp_path):
    path = write(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        file["images/jpeg/offsets"][-1] += 1
    with pytest.raises(InputError, match="images/jpeg: offsets do not fit its"):
        Hdf5Reader(path).blob("images/jpeg", 0)
