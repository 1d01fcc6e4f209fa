"""Tables of objects: kept beside shards, made again when these change, and one file for many shards."""

import json
import logging

import numpy as np
import pytest

from posecore.errors import InputError
from vpog.data.object_index import (
    COLUMNS,
    check_objects,
    objects_path,
    read_object_index,
    write_object_index,
)
from vpog.data.shard_writing import write_bop_shards
from vpog.data.shards import WebDatasetImages


@pytest.fixture
def source(reference, tmp_path):
    first = tmp_path / "shard-000000.tar"
    first.write_bytes(reference("formats")["shard_000000_tar_bytes"].tobytes())
    (second,) = write_bop_shards(tmp_path / "more", [WebDatasetImages([first], "gso").read(1)])
    return WebDatasetImages([first, second], "gso")


def same(first, second):
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in COLUMNS)


def test_rows_of_later_shards_count_pictures_on(source):
    table = source.instances
    assert table.image.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert table.gt_index.tolist() == [0, 1, 2] * 3
    assert len(table) == 9


def test_a_table_beside_the_shard_is_used_and_one_of_an_older_shard_is_not(source):
    expected = source.instances
    paths = [index.path for index in source.shards.indexes]
    with np.load(objects_path(paths[1])) as stored:
        columns = {name: stored[name] for name in stored.files}
    columns["obj_id"] = columns["obj_id"] + 90
    np.savez(objects_path(paths[1]), **columns)
    assert WebDatasetImages(paths, "gso").instances.obj_id.tolist()[6:] == [93, 97, 93]
    paths[1].touch()
    assert same(WebDatasetImages(paths, "gso").instances, expected)


def test_a_damaged_table_is_told(source):
    path = objects_path(source.shards.indexes[0].path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match=r"objects\.npz: is damaged; delete it"):
        source.instances  # noqa: B018


def test_one_file_for_all_shards_gives_the_same_table(source, tmp_path):
    path = tmp_path / "object_index.json"
    write_object_index(path, source.shards.indexes, source.instances)
    paths = [index.path for index in source.shards.indexes]
    assert same(WebDatasetImages(paths, "gso", object_index=path).instances, source.instances)
    content = json.loads(path.read_text())["shards"][0]
    column = content["fields"].index("gt.json")
    offset, size = content["offsets"][1][column], content["sizes"][1][column]
    member = source.shards.indexes[0].path.read_bytes()[offset : offset + size]
    assert [row["obj_id"] for row in json.loads(member)] == [3, 7, 3]


def test_an_index_of_other_shards_or_another_program_is_refused(source, tmp_path):
    path = tmp_path / "object_index.json"
    write_object_index(path, source.shards.indexes, source.instances)
    with pytest.raises(InputError, match="was made of other shards"):
        read_object_index(path, source.shards.indexes[:1])
    path.write_text('{"format": "other", "version": "1.0"}')
    with pytest.raises(InputError, match=r"is 'other' 1\.0, expected vpog-object-index 2"):
        read_object_index(path, source.shards.indexes)


def test_an_object_without_a_model_is_told_by_picture(source):
    check_objects(source, {3, 7}, "templates")
    with pytest.raises(InputError) as caught:
        check_objects(source, {3}, "templates")
    (problem,) = caught.value.problems
    assert "shard-000000.tar: 000000_000003: object 7 (number 1 of the picture) has no templates" in problem
    assert "3 of 9 instances" in problem


def test_no_table_is_written_where_nothing_may_be_written(source, monkeypatch, caplog):
    """Permissions are replaced: the super-user, who runs tests in containers, may write everywhere."""
    monkeypatch.setattr("vpog.data.object_index.os.access", lambda path, mode: False)
    with caplog.at_level(logging.WARNING):
        assert len(source.instances) == 9
    assert not objects_path(source.shards.indexes[0].path).exists()
