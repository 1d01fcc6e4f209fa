"""Shards are WebDataset's own format, read at any place; what is damaged names shard and key."""

import io
import json
import os
import pickle
import tarfile

import numpy as np
import pytest
import webdataset
from torch.utils.data import DataLoader

from posecore.data.images import encode_jpeg
from posecore.data.mixed import MixedSource
from posecore.data.sampler import GlobalBatchSampler
from posecore.data.shard_fields import decode_array
from posecore.data.shard_index import index_path, open_index, scan
from posecore.data.shards import LARGE, SMALL_GAP, ShardSource, ShardWriter, find_shards
from posecore.data.streaming import ShardStream
from posecore.errors import InputError

RNG = np.random.default_rng(0)


def sample(i):
    return {
        "rgb.png": np.full((4, 6, 3), i, np.uint8),
        "pose.npy": np.arange(i, dtype=np.float32),
        "json": {"i": i, "name": "ö"},
        "cls": i,
        "txt": f"sample {i}",
    }


def write(folder, count=10, **options):
    with ShardWriter(folder, **({"max_samples": 4} | options)) as writer:
        for i in range(count):
            writer.write(f"walk/{i:06d}", sample(i))
    return writer.paths


def check(read, i):
    np.testing.assert_array_equal(read["rgb.png"], np.full((4, 6, 3), i, np.uint8))
    np.testing.assert_array_equal(read["pose.npy"], np.arange(i, dtype=np.float32))
    assert (read["json"], read["cls"], read["txt"]) == ({"i": i, "name": "ö"}, i, f"sample {i}")
    assert read["__key__"] == f"walk/{i:06d}"


def tar_of(path, members, **options):
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def problem(call):
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_any_sample_comes_back_as_it_was_written(tmp_path):
    paths = write(tmp_path)
    assert [p.name for p in paths] == ["000000.tar", "000001.tar", "000002.tar"]
    source = ShardSource(find_shards(tmp_path))
    assert len(source) == 10
    for i in RNG.permutation(10):
        check(source.load(i, RNG), i)
        assert source.key(i) == f"walk/{i:06d}"
    check(pickle.loads(pickle.dumps(source)).read(7), 7)
    for i in (-1, 10):
        with pytest.raises(IndexError):
            source.read(i)


def test_samples_whose_fields_differ_are_read_member_by_member(tmp_path):
    with ShardWriter(tmp_path) as writer:
        writer.write("a", {"0.txt": "first", "1.txt": "second"})
        writer.write("b", {"0.txt": "third", "cls": 3})
    source = ShardSource(writer.paths, fields=())
    assert [source.members(i) for i in range(2)] == [("0.txt", "1.txt"), ("0.txt", "cls")]
    assert source.read_members(0, ["1.txt", "0.txt"]) == [b"second", b"first"]
    assert source.read_members(1, []) == []
    where = f"{writer.paths[0]}: b"
    assert source.where(1) == where
    for name in ("1.txt", "jpg"):
        assert (
            problem(lambda name=name: source.read_members(1, [name])) == f"{where}: has no .{name}; it has 0.txt, cls"
        )


def test_members_of_any_size_are_read_by_name_or_place_whatever_lies_between(tmp_path):
    sizes = [10, LARGE, 20, 30, 2 * LARGE, SMALL_GAP - 1, 40]
    members = {f"{i}.bin": bytes([i]) * size for i, size in enumerate(sizes)}
    with ShardWriter(tmp_path) as writer:
        for key in "ab":
            writer.write(key, members)
    source = ShardSource(writer.paths, fields=())
    for names in (["0.bin", "6.bin"], ["3.bin", "2.bin", "0.bin"], ["1.bin"], ["4.bin", "1.bin", "2.bin"], [*members]):
        expected = [members[name] for name in names]
        assert source.read_members(1, names) == expected
        assert source.read_columns(1, source.columns(1, names)) == expected
    path = writer.paths[0]
    path.write_bytes(path.read_bytes().replace(b"b.1.bin", b"c.1.bin"))
    assert problem(lambda: source.read_columns(1, source.columns(1, ["1.bin"]))) == (
        f"{path}: b.1.bin: is not where the index says; delete {path.name}.index.json"
    )


def test_webdataset_reads_our_shards(tmp_path):
    paths = write(tmp_path)
    theirs = webdataset.WebDataset([str(p) for p in paths], shardshuffle=False).decode()
    for i, read in enumerate(theirs):
        assert read["__key__"] == f"walk/{i:06d}"
        assert (read["json"]["i"], read["cls"], read["txt"]) == (i, i, f"sample {i}")
        np.testing.assert_array_equal(read["pose.npy"], np.arange(i, dtype=np.float32))
    assert i == 9


def test_we_read_the_shards_of_webdataset(tmp_path):
    with webdataset.TarWriter(str(tmp_path / "a.tar")) as writer:
        for i in range(5):
            writer.write({"__key__": f"walk/{i:06d}", **sample(i) | {"rgb.jpg": encode_jpeg(sample(i)["rgb.png"])}})
    source = ShardSource([tmp_path / "a.tar"], fields=["rgb.png", "pose.npy", "json", "cls", "txt"])
    for i in range(5):
        check(source.read(i), i)


def test_a_transform_gets_the_sample_and_the_generator(tmp_path):
    source = ShardSource(write(tmp_path), fields=["cls"], transform=lambda s, rng: (s["cls"], rng.integers(100)))
    assert source.load(3, np.random.default_rng(5)) == (3, np.random.default_rng(5).integers(100))


def test_own_decoders_go_by_field_before_extension(tmp_path):
    own = {"rgb.png": lambda data, name: len(data), "txt": lambda data, name: name}
    source = ShardSource(write(tmp_path), decoders=own)
    read = source.read(5)
    assert read["rgb.png"] > 50
    assert read["txt"] == f"{tmp_path / '000001.tar'}: walk/000005.txt"


def test_an_index_lies_beside_each_shard_and_follows_a_change(tmp_path):
    (path, *_) = write(tmp_path)
    assert len(json.loads(index_path(path).read_text())["keys"]) == 4
    tar_of(path, [("a.txt", b"one"), ("b.txt", b"two")])
    assert open_index(path).keys == ["a", "b"]
    assert json.loads(index_path(path).read_text())["keys"] == ["a", "b"]
    index_path(path).write_text("{}")
    assert problem(lambda: open_index(path)) == f"{index_path(path)}: is damaged; delete it, it is made again"


def test_a_shard_that_changed_without_changing_its_size_is_told(tmp_path):
    path = tar_of(tmp_path / "a.tar", [("a.txt", b"one"), ("b.txt", b"two")])
    source = ShardSource([path])
    tar_of(path, [("c.txt", b"one"), ("d.txt", b"two")])
    assert problem(lambda: source.read(0)) == (f"{path}: a.txt: is not where the index says; delete a.tar.index.json")


@pytest.mark.parametrize("name_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_and_foreign_names_are_read(tmp_path, name_format):
    names = ["./a/" + "x" * 120 + ".txt", "./b/ü.txt", "./b/short.txt"]
    path = tar_of(tmp_path / "a.tar", [(n, n.encode()) for n in names], format=name_format)
    source = ShardSource([path])
    assert [source.read(i)["txt"] for i in range(3)] == names


def test_webdataset_metadata_and_folders_are_no_samples(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        folder = tarfile.TarInfo("walk")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name in ("__meta__/x", "walk/1.txt"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert open_index(tmp_path / "a.tar").keys == ["walk/1"]


def test_a_shard_that_is_cut_off_anywhere_is_told(tmp_path):
    (path,) = write(tmp_path, count=3)
    index_path(path).unlink()
    whole = path.read_bytes()
    last = scan(path).offsets.max()
    for kept in (100, 512 * 3, last + 1, last + 600, last + 512):
        path.write_bytes(whole[:kept])
        said = problem(lambda: scan(path))
        assert said.startswith(f"{path}: ")
        assert ("walk/000002.txt: is cut off" in said) == (kept == last + 1)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("../a.txt", b"")], "'../a.txt': leads out of the archive; refused"),
        ([("/etc/a.txt", b"")], "'/etc/a.txt': leads out of the archive; refused"),
        ([("a.txt", b""), ("b.txt", b""), ("a.cls", b"1")], "a: the sample's files do not follow each other"),
        ([("a.txt", b""), ("a.txt", b"")], "a.txt: occurs twice"),
        ([("README", b"")], "'README': has no key and extension, as in 000017.jpg"),
        ([], "holds no samples"),
        ([("a.txt", b""), ("b.cls", b"1")], "a: has no .cls; 1 samples lack it"),
        ([("a.pyd", b"")], None),
    ],
)
def test_unsafe_and_ambiguous_shards_are_refused(tmp_path, members, message):
    path = tar_of(tmp_path / "a.tar", members)
    said = problem(lambda: ShardSource([path]))
    expected = ".pyd: files of this kind are not read (jpg, jpeg, png, webp, json, npy, cls, txt are)"
    assert said == (f"{path}: {message}" if message else expected)


def test_missing_and_compressed_shards_are_told(tmp_path):
    none = tmp_path / "none.tar"
    assert problem(lambda: ShardSource([none])) == f"{none}: no such file"
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    assert "not a whole, uncompressed tar file" in problem(lambda: ShardSource([tmp_path / "a.tar"]))
    assert problem(lambda: find_shards(tmp_path / "x")) == f"{tmp_path / 'x'}: no .tar shard there"
    assert problem(lambda: ShardSource([])) == "shards: the list is empty; at least one .tar file is needed"


@pytest.mark.parametrize(
    ("field", "data", "message"),
    [
        ("jpg", b"\xff\xd8\xff", "is not a picture"),
        ("json", b"{", "is not JSON"),
        ("cls", b"one", "'one' is not a whole number"),
        ("txt", b"\xff", "is not UTF-8 text"),
        ("npy", b"\x93NUMPY\x01\0", "is not a whole array"),
        ("npy", pickle.dumps({"a": 1}), "is not a whole array without objects"),
    ],
)
def test_a_damaged_field_names_shard_and_key(tmp_path, field, data, message):
    path = tar_of(tmp_path / "a.tar", [(f"k7.{field}", data)])
    said = problem(lambda: ShardSource([path]).read(0))
    assert said.startswith(f"{path}: k7.{field}: {message}")


def test_arrays_of_objects_are_not_unpickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="without objects"):
        decode_array(buffer.getvalue(), "x.npy")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.zeros((0, 3)),
        np.float64(3.5).reshape(()),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">i4"),
        np.array(["a", "bc"]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array([True, False]),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_an_array_is_decoded_as_numpy_does_and_can_be_written_to(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    for _ in range(2):  # the header is known the second time
        decoded = decode_array(buffer.getvalue(), "x.npy")
        np.testing.assert_array_equal(decoded, array)
        assert decoded.dtype == array.dtype
        assert decoded.flags.writeable


def test_a_cut_array_is_told():
    buffer = io.BytesIO()
    np.save(buffer, np.arange(6.0))
    for size in (9, 11, 60, 130):
        with pytest.raises(InputError, match="is not a whole array"):
            decode_array(buffer.getvalue()[:size], "x.npy")


def test_find_shards_takes_folders_globs_and_braces(tmp_path):
    paths = write(tmp_path)
    assert find_shards(tmp_path) == find_shards(tmp_path / "*.tar") == paths
    assert find_shards(f"{tmp_path}/{{000000..000001}}.tar") == paths[:2]
    assert find_shards(paths[1]) == [paths[1]]
    assert problem(lambda: find_shards(f"{tmp_path}/{{000002..000003}}.tar")).startswith(f"{tmp_path}/000003.tar")


def test_an_interrupted_writer_keeps_whole_shards_only(tmp_path):
    def interrupted():
        with ShardWriter(tmp_path, max_samples=2) as writer:
            for i in range(3):
                writer.write(str(i), {"cls": i})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert sorted(os.listdir(tmp_path)) == ["000000.tar", "000000.tar.index.json"]
    assert "is there already" in problem(lambda: ShardWriter(tmp_path))
    with ShardWriter(tmp_path, "part-01-%04d.tar") as other:
        other.write("a", {"txt": "b"})


def test_a_full_shard_by_bytes_begins_the_next(tmp_path):
    paths = write(tmp_path, max_samples=1000, max_bytes=9000)
    assert len(paths) == 5
    assert all(path.stat().st_size <= 20480 for path in paths)


@pytest.mark.parametrize(
    ("key", "fields", "message"),
    [
        ("a.b", {"txt": "x"}, "must not be empty or hold dots"),
        ("../a", {"txt": "x"}, "must not be empty or hold dots"),
        ("/a", {"txt": "x"}, "nor begin with /"),
        ("__a__", {"txt": "x"}, "nor begin with / or __"),
        ("a b", {"txt": "x"}, "blanks"),
        ("a", {}, "has no fields"),
        ("a", {"../b": b"x"}, "must be letters"),
        ("a" * 98, {"txt": "x"}, "longer than the 100 bytes"),
        ("a", {"txt": 3}, "txt: cannot hold int; pass bytes"),
        ("a", {"npy": np.array([{}])}, "npy: cannot hold ndarray"),
    ],
)
def test_names_and_values_that_would_be_read_otherwise_are_refused(tmp_path, key, fields, message):
    with ShardWriter(tmp_path) as writer, pytest.raises(ValueError, match=message):
        writer.write(key, fields)
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_written_once(tmp_path):
    with ShardWriter(tmp_path) as writer:
        writer.write("a", {"txt": "x"})
        with pytest.raises(ValueError, match="a: was written already"):
            writer.write("a", {"txt": "y"})


def test_a_stream_gives_each_sample_once_over_ranks_and_workers(tmp_path):
    urls = [str(path) for path in write(tmp_path, count=12, max_samples=2)]
    seen = []
    for rank in (0, 1):
        stream = ShardStream(urls, seed=1, rank=rank, world_size=2, shuffle_buffer=3)
        seen += [s["cls"] for s in DataLoader(stream, batch_size=None, num_workers=2)]
    assert sorted(seen) == list(range(12))
    assert seen != sorted(seen)


def test_a_stream_has_another_order_in_another_epoch_and_the_same_in_the_same(tmp_path):
    stream = ShardStream([str(path) for path in write(tmp_path, count=12)], seed=1, shuffle_buffer=5)
    orders = []
    for epoch in (0, 0, 1):
        stream.set_epoch(epoch)
        orders.append([s["cls"] for s in stream])
    assert orders[0] == orders[1] != orders[2]
    kept = ShardStream(stream.urls, seed=1, shuffle_buffer=0)
    assert [s["cls"] for s in kept] == list(range(12))


def test_a_stream_runs_no_commands_and_tells_what_it_cannot_read(tmp_path):
    for url in ("pipe:touch x", "ais://a.tar", "https://a/b.tar; touch x", "http://a/$(touch x).tar"):
        assert "not an address that is read" in problem(lambda url=url: ShardStream([url], seed=0))
    missing = str(tmp_path / "none.tar")
    assert problem(lambda: list(ShardStream([missing], seed=0))).startswith(f"{missing}: cannot be read as a shard")
    with pytest.raises(ValueError, match="1 shards cannot be shared"):
        ShardStream([missing], seed=0, world_size=2)
    (path,) = write(tmp_path, count=3)
    path.write_bytes(path.read_bytes()[:5000])
    assert "cannot be read as a shard" in problem(lambda: list(ShardStream([str(path)], seed=0)))


def test_a_mixture_draws_its_sources_by_weight_not_size(tmp_path):
    sources = [ShardSource(write(tmp_path / name, count=n), fields=["cls"]) for name, n in (("a", 9), ("b", 3))]
    mixed = MixedSource(sources, weights=[1.0, 3.0])
    assert [mixed.load(i, RNG)["cls"] for i in range(12)] == [*range(9), *range(3)]
    sampler = GlobalBatchSampler(12, 4, seed=0, weights=mixed.sample_weights())
    drawn = np.concatenate([sampler.order(epoch) for epoch in range(400)])
    assert (drawn >= 9).mean() == pytest.approx(0.75, abs=0.02)
    assert MixedSource(sources).sample_weights() is None
    with pytest.raises(ValueError, match="2 sources with weights"):
        MixedSource(sources, weights=[1.0])
    with pytest.raises(IndexError):
        mixed.load(12, RNG)
