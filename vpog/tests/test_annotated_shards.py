"""Shards in BOP's layout: the reference shard, the round trip through the writer, and damaged shards."""

import copy
import io
import json
import tarfile

import cv2
import numpy as np
import pytest

from posecore.data.shards import find_shards
from posecore.errors import InputError
from vpog.data.depth_images import decode_depth_mm, encode_depth_mm
from vpog.data.key_to_shard import check_key_to_shard, find_key_to_shard, read_key_to_shard
from vpog.data.shard_writing import write_bop_shards
from vpog.data.shards import WebDatasetImages

KEY = "000012_000045"


@pytest.fixture
def shard_bytes(reference):
    return reference("formats")["shard_000000_tar_bytes"].tobytes()


@pytest.fixture
def source(shard_bytes, tmp_path):
    (tmp_path / "shard-000000.tar").write_bytes(shard_bytes)
    return WebDatasetImages(find_shards(tmp_path), "gso")


def rebuilt(shard_bytes, path, change):
    """The shard with `change` applied to its members {name: bytes}."""
    with tarfile.open(fileobj=io.BytesIO(shard_bytes)) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    change(members)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return WebDatasetImages([path], "gso")


def edited(field, edit):
    """A change of one JSON member of the second picture."""

    def change(members):
        content = json.loads(members[f"{KEY}.{field}"])
        members[f"{KEY}.{field}"] = json.dumps(edit(content) or content).encode()

    return change


@pytest.mark.parametrize("number", [0, 1])
def test_the_reference_shard_is_read_as_its_first_reader_does(source, reference, number):
    arrays = reference("formats")
    record = source.read(number)
    seen = [instance for instance in record.instances if instance.visib_fract > 0.1]
    assert f"{record.scene_id:06d}_{record.image_id:06d}" == arrays["keys"][number]
    assert np.array_equal(record.rgb, arrays[f"obs{number}/rgb"])
    assert np.array_equal(record.depth_mm, arrays[f"obs{number}/depth_mm"])
    assert np.array_equal(record.K, arrays[f"obs{number}/K"])
    assert [str(instance.obj_id) for instance in seen] == arrays[f"obs{number}/labels"].tolist()
    assert [str(instance.gt_index) for instance in seen] == arrays[f"obs{number}/unique_ids"].tolist()
    assert np.array_equal([instance.cam_from_obj_mm for instance in seen], arrays[f"obs{number}/TWO"])
    assert np.array_equal([instance.bbox_visib_xywh for instance in seen], arrays[f"obs{number}/bbox_visib_xywh"])
    assert np.array_equal([instance.visib_fract for instance in seen], arrays[f"obs{number}/visib_fract"])
    assert np.array_equal([instance.mask_visib.decode() for instance in seen], arrays[f"obs{number}/masks"])


def test_the_table_has_the_objects_of_the_pictures_in_order(source):
    records = [source.read(index) for index in range(len(source))]
    rows = [(i, r.scene_id, r.image_id, o.gt_index, o.obj_id) for i, r in enumerate(records) for o in r.instances]
    table = source.instances
    columns = (table.image, table.scene_id, table.image_id, table.gt_index, table.obj_id)
    assert np.array_equal(np.stack(columns, 1), rows)
    assert np.array_equal(table.visib_fract, np.float32([o.visib_fract for r in records for o in r.instances]))
    assert np.array_equal(table.longer_side_px, [o.bbox_visib_xywh[2:].max() for r in records for o in r.instances])


def same_records(first, second):
    plain = ("scene_id", "image_id")
    arrays = ("rgb", "depth_mm", "K")
    return (
        all(getattr(first, name) == getattr(second, name) for name in plain)
        and all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays)
        and len(first.instances) == len(second.instances)
        and all(same_instances(*pair) for pair in zip(first.instances, second.instances, strict=True))
    )


def same_instances(first, second):
    plain = ("gt_index", "obj_id", "visib_fract", "mask", "mask_visib")
    arrays = ("cam_from_obj_mm", "bbox_visib_xywh", "bbox_obj_xywh")
    return all(getattr(first, name) == getattr(second, name) for name in plain) and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays
    )


def test_what_is_written_is_read_back_without_a_difference(source, tmp_path):
    records = [source.read(index) for index in range(len(source))]
    paths = write_bop_shards(tmp_path / "written", iter(records), images_per_shard=1)
    again = WebDatasetImages(paths, "gso")
    assert len(paths) == len(again) == 2
    assert all(same_records(again.read(index), record) for index, record in enumerate(records))
    assert {path.name for path in (tmp_path / "written").iterdir()} == {
        "shard-000000.tar",
        "shard-000000.tar.index.json",
        "shard-000001.tar",
        "shard-000001.tar.index.json",
        "key_to_shard.json",
    }
    assert read_key_to_shard(tmp_path / "written" / "key_to_shard.json") == {"000000_000003": 0, "000012_000045": 1}


def test_a_source_with_open_shards_can_be_copied_as_into_another_process(source):
    source.read(0)
    assert same_records(copy.deepcopy(source).read(1), source.read(1))


def test_a_picture_written_twice_is_refused_and_leaves_no_half_shard(source, tmp_path):
    record = source.read(0)
    with pytest.raises(ValueError, match="000000_000003: was written already"):
        write_bop_shards(tmp_path / "written", [record, record])
    assert not list((tmp_path / "written").iterdir())


def test_old_shards_are_not_mixed_with_new_ones(source, tmp_path):
    with pytest.raises(InputError, match="is there already"):
        write_bop_shards(tmp_path, [source.read(0)])


def test_pictures_without_depth_and_whole_silhouettes_are_read(shard_bytes, tmp_path):
    def change(members):
        for name in list(members):
            if name.endswith(("depth.png", ".mask.json")):
                del members[name]

    record = rebuilt(shard_bytes, tmp_path / "a.tar", change).read(0)
    assert record.depth_mm is None
    assert {instance.mask for instance in record.instances} == {None}


def test_depth_that_is_not_asked_for_is_not_decoded(shard_bytes, tmp_path):
    damaged = rebuilt(shard_bytes, tmp_path / "a.tar", lambda m: m.update({f"{KEY}.depth.png": b"nothing"}))
    assert damaged.read(1, depth=False).depth_mm is None
    with pytest.raises(InputError, match=r"000012_000045\.depth\.png: is not a picture"):
        damaged.read(1)


def test_a_grey_tiff_gives_three_equal_channels_and_a_depth_tiff_the_same_depth(source, shard_bytes, tmp_path):
    grey = np.arange(72 * 96, dtype=np.uint8).reshape(72, 96)
    counts = np.arange(72 * 96, dtype=np.uint16).reshape(72, 96)

    def change(members):
        del members[f"{KEY}.rgb.png"], members[f"{KEY}.depth.png"]
        members[f"{KEY}.gray.tif"] = cv2.imencode(".tif", grey)[1].tobytes()
        members[f"{KEY}.depth.tif"] = cv2.imencode(".tif", counts)[1].tobytes()
        for name in [name for name in members if name.startswith(KEY)]:  # behind the others again
            members[name] = members.pop(name)

    record = rebuilt(shard_bytes, tmp_path / "a.tar", change).read(1)
    assert np.array_equal(record.rgb, np.repeat(grey[..., None], 3, 2))
    np.testing.assert_allclose(record.depth_mm, counts / 10.0, rtol=1e-6)


def test_the_scale_of_depth_is_the_cameras(shard_bytes, tmp_path):
    usual = rebuilt(shard_bytes, tmp_path / "a.tar", lambda members: None).read(1)
    finer = rebuilt(shard_bytes, tmp_path / "b.tar", edited("camera.json", lambda c: c | {"depth_scale": 0.05})).read(1)
    np.testing.assert_allclose(finer.depth_mm, usual.depth_mm / 2, rtol=1e-6)


def test_a_null_mask_is_one_without_pixels_only_where_nothing_is_visible(shard_bytes, tmp_path):
    def hide(members):
        edited("mask_visib.json", lambda masks: masks | {"2": None})(members)
        edited("gt_info.json", lambda info: [*info[:2], info[2] | {"visib_fract": 0.0}])(members)

    assert rebuilt(shard_bytes, tmp_path / "a.tar", hide).read(1).instances[2].mask_visib.area_px == 0
    broken = rebuilt(shard_bytes, tmp_path / "b.tar", edited("mask_visib.json", lambda masks: masks | {"0": None}))
    with pytest.raises(InputError, match=r"mask_visib\.json\[0\]: is no run-length mask"):
        broken.read(1)


def turned(gt):
    gt[1]["cam_R_m2c"][0] *= 1.1
    return gt


def mirrored(gt):
    gt[1]["cam_R_m2c"] = [-value for value in gt[1]["cam_R_m2c"]]
    return gt


def without_pose(gt):
    gt[0]["cam_t_m2c"][2] = float("nan")
    return gt


def unnamed(gt):
    gt[2]["obj_id"] = "mug"
    return gt


@pytest.mark.parametrize(
    ("field", "edit", "message"),
    [
        ("camera.json", lambda c: {"cam_K": c["cam_K"]}, "depth.png: its camera has no depth_scale"),
        ("camera.json", lambda c: c | {"depth_scale": 0}, "camera.json: depth_scale: is 0, expected millimetres"),
        ("camera.json", lambda c: c | {"cam_K": [0.0, *c["cam_K"][1:]]}, "cam_K: has focal lengths 0 and 91 px"),
        ("camera.json", lambda c: c | {"cam_K": c["cam_K"][:6]}, "cam_K: has shape (6,), expected (9,)"),
        ("camera.json", lambda c: c | {"cam_K": [*c["cam_K"][:8], 2.0]}, "cam_K: its last row is [0.0, 0.0, 2.0]"),
        ("gt.json", turned, "gt.json[1].cam_R_m2c: is no rotation"),
        ("gt.json", mirrored, "gt.json[1].cam_R_m2c: is no rotation"),
        ("gt.json", without_pose, "gt.json[0].cam_t_m2c: has nan, expected finite numbers"),
        ("gt.json", unnamed, "gt.json[2].obj_id: is 'mug', expected a whole number"),
        ("gt.json", lambda gt: gt[:2], "gt_info.json: has 3 entries"),
        ("gt_info.json", lambda i: [i[0] | {"visib_fract": 1.5}, *i[1:]], "gt_info.json[0].visib_fract: is 1.5"),
        ("gt_info.json", lambda i: [{"visib_fract": 1.0}, *i[1:]], "gt_info.json[0]: has no 'bbox_visib'"),
        ("mask_visib.json", lambda m: {"0": m["0"]}, "mask_visib.json: has no '1'"),
        (
            "mask.json",
            lambda m: m | {"1": {"counts": [72 * 95], "size": [72, 95]}},
            "mask.json[1]: is 72 x 95 (height x width), the picture is 72 x 96",
        ),
    ],
)
def test_a_wrong_label_is_told_by_shard_key_and_field(shard_bytes, tmp_path, field, edit, message):
    damaged = rebuilt(shard_bytes, tmp_path / "shard-000007.tar", edited(field, edit))
    damaged.read(0)
    with pytest.raises(InputError) as caught:
        damaged.read(1)
    (problem,) = caught.value.problems
    assert f"shard-000007.tar: {KEY}." in problem
    assert message in problem


def test_a_member_that_is_missing_is_told_by_name(shard_bytes, tmp_path):
    source = rebuilt(shard_bytes, tmp_path / "a.tar", lambda members: members.pop(f"{KEY}.gt_info.json"))
    with pytest.raises(InputError, match=r"000012_000045: has no \.gt_info\.json; it has camera\.json"):
        source.read(1)
    with pytest.raises(InputError, match=r"has no \.gt_info\.json"):
        source.instances  # noqa: B018


def test_a_picture_that_is_cut_off_inside_a_whole_shard_is_told(shard_bytes, tmp_path):
    def cut(members):
        members[f"{KEY}.rgb.png"] = members[f"{KEY}.rgb.png"][:9000]
        members[f"{KEY}.gt.json"] = members[f"{KEY}.gt.json"][:300]

    source = rebuilt(shard_bytes, tmp_path / "a.tar", cut)
    with pytest.raises(InputError, match=r"a\.tar: 000012_000045\.rgb\.png: PNG file is cut off"):
        source.read(1)
    with pytest.raises(InputError, match=r"a\.tar: 000012_000045\.gt\.json: is not JSON"):
        source.instances  # noqa: B018


def test_a_key_without_numbers_is_refused(shard_bytes, tmp_path):
    def rename(members):
        for name in [name for name in members if name.startswith(KEY)]:
            members[name.replace(KEY, "kitchen")] = members.pop(name)

    with pytest.raises(InputError, match="its key 'kitchen' is not SCENE_IMAGE in digits"):
        rebuilt(shard_bytes, tmp_path / "a.tar", rename).read(1)


def test_a_shard_that_is_cut_off_stops_everything_unless_broken_ones_are_left_out(shard_bytes, tmp_path, caplog):
    (tmp_path / "shard-000000.tar").write_bytes(shard_bytes[:40000])
    (tmp_path / "shard-000001.tar").write_bytes(shard_bytes)
    with pytest.raises(InputError, match=r"shard-000000\.tar.*cut off"):
        WebDatasetImages(find_shards(tmp_path), "gso")
    source = WebDatasetImages(find_shards(tmp_path), "gso", skip_broken=True)
    assert len(source) == 2
    assert len(source.broken) == 1
    assert [r.getMessage()[:24] for r in caplog.records] == ["1 of 2 shards are broken"]


def test_nothing_is_left_where_all_shards_are_broken(shard_bytes, tmp_path):
    (tmp_path / "shard-000000.tar").write_bytes(shard_bytes[:40000])
    with pytest.raises(InputError, match="cut off"):
        WebDatasetImages(find_shards(tmp_path), "gso", skip_broken=True)


def test_the_table_of_keys_is_found_beside_the_shards_or_one_level_up(shard_bytes, reference, tmp_path):
    folder = tmp_path / "train_pbr_web"
    folder.mkdir()
    assert find_key_to_shard(folder) is None
    (tmp_path / "key_to_shard.json").write_text(str(reference("formats")["key_to_shard_json"]))
    assert find_key_to_shard(folder) == tmp_path / "key_to_shard.json"
    (folder / "key_to_shard.json").write_text("{}")
    assert find_key_to_shard(folder) == folder / "key_to_shard.json"


def test_a_table_of_keys_of_another_release_is_told(source, reference, tmp_path):
    table = tmp_path / "key_to_shard.json"
    table.write_text(str(reference("formats")["key_to_shard_json"]))
    check_key_to_shard(table, source.shards.indexes)
    table.write_text('{"000000_000003": 0, "000012_000045": 4}')
    with pytest.raises(InputError, match=r"000012_000045: lies in shard-000000\.tar, the table says shard 4"):
        check_key_to_shard(table, source.shards.indexes)


@pytest.mark.parametrize("scale", [0.1, 1.0, 0.0625])
def test_depth_on_the_grid_of_its_scale_survives_writing(scale):
    counts = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    depth_mm = (counts * np.float64(scale)).astype(np.float32)
    assert np.array_equal(decode_depth_mm(encode_depth_mm(depth_mm, scale), "depth", scale), depth_mm)


@pytest.mark.parametrize("value", [7000.0, -1.0, np.nan])
def test_depth_that_sixteen_bits_cannot_hold_is_refused(value):
    with pytest.raises(ValueError, match="does not fit 16 bits"):
        encode_depth_mm(np.full((2, 2), value, dtype=np.float32), 0.1)
