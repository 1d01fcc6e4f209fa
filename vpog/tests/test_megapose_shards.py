"""Original MegaPose shards: quaternions in metres, worlds, labels, and the conversion to BOP's layout."""

import json

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posecore.data.shards import ShardWriter, find_shards
from posecore.errors import InputError
from vpog.data.bop_scenes import BopScenes
from vpog.data.bop_writing import BopSceneWriter
from vpog.data.converters.bop import convert_bop
from vpog.data.converters.megapose import convert_megapose
from vpog.data.megapose_shards import MegaPoseShards, pose_of, read_obj_ids
from vpog.data.records import ImageRecord
from vpog.data.shards import WebDatasetImages

SIZE = (40, 60)
K = [[80.0, 0.0, 30.0], [0.0, 81.0, 20.0], [0.0, 0.0, 1.0]]
STILL = [[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def pictures(number):
    rgb = np.full((*SIZE, 3), number, dtype=np.uint8)
    segmentation = np.zeros(SIZE, dtype=np.uint16)
    segmentation[5:15, 10:30], segmentation[20:30, 40:50] = 4, 300
    depth = np.where(segmentation > 0, np.uint16(500 + number), np.uint16(0)).astype(np.uint16)
    encoded = [cv2.imencode(".png", picture)[1].tobytes() for picture in (rgb, segmentation, depth)]
    return dict(zip(("rgb.png", "segmentation.png", "depth.png"), encoded, strict=True))


def objects(two=STILL):
    boxes = {4: [10, 5, 29, 14], 300: [40, 20, 49, 29]}
    return [
        {
            "label": label,
            "TWO": two,
            "unique_id": unique_id,
            "bbox_modal": boxes[unique_id],
            "bbox_amodal": boxes[unique_id],
            "visib_fract": fraction,
        }
        for label, unique_id, fraction in (("gso_Mug", 300, 1.0), ("gso_Box", 4, 0.5))
    ]


def write(folder, *, two=STILL, twc=STILL, change=lambda fields: None, count=3):
    with ShardWriter(folder, "shard-%08d.tar", max_samples=2) as writer:
        for number in range(count):
            fields = pictures(number) | {
                "infos.json": {"scene_id": "12", "view_id": str(number)},
                "camera_data.json": {"K": K, "TWC": twc, "resolution": list(SIZE), "camera_id": "cam"},
                "object_datas.json": objects(two),
            }
            change(fields)
            writer.write(f"{number:02d}ab34", fields)
    (folder / "infos.json").write_text('{"depth_scale": 1000}')
    return folder


OBJ_IDS = {"gso_Mug": 17, "gso_Box": 3}


def opened(folder, **options):
    return MegaPoseShards(find_shards(folder), "gso", obj_ids=OBJ_IDS, **options)


def test_a_quaternion_is_the_rotation_that_scipy_makes_of_it():
    rotation = Rotation.random(random_state=3)
    pose = pose_of([rotation.as_quat().tolist(), [0.1, 0.2, 0.3]], "TWO")
    np.testing.assert_allclose(pose[:3, :3], rotation.as_matrix(), atol=1e-12)
    assert pose[:, 3].tolist() == [0.1, 0.2, 0.3, 1.0]


def test_object_to_camera_is_the_inverse_of_the_camera_times_the_object_in_millimetres(tmp_path):
    turn, obj = Rotation.from_euler("xyz", [0.3, -0.2, 1.1]), Rotation.from_euler("xyz", [-1.0, 0.4, 0.2])
    point_world = obj.apply([0.01, 0.02, 0.03]) + np.array([0.5, 0.6, 0.7])
    expected_mm = turn.inv().apply(point_world - [0.1, 0.2, -0.9]) * 1000
    poses = {"two": [obj.as_quat().tolist(), [0.5, 0.6, 0.7]], "twc": [turn.as_quat().tolist(), [0.1, 0.2, -0.9]]}
    instance = opened(write(tmp_path / "s", **poses)).read(0).instances[0]
    np.testing.assert_allclose((instance.cam_from_obj_mm @ [10.0, 20.0, 30.0, 1.0])[:3], expected_mm, atol=1e-9)


def test_files_whose_objects_are_in_the_cameras_frame_already_need_nothing_else(tmp_path):
    obj = Rotation.from_euler("xyz", [-1.0, 0.4, 0.2])
    source = opened(write(tmp_path / "s", two=[obj.as_quat().tolist(), [0.0, 0.1, 0.8]]))
    pose = source.read(1).instances[0].cam_from_obj_mm
    np.testing.assert_allclose(pose[:3, :3], obj.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(pose[:3, 3], [0.0, 100.0, 800.0], atol=1e-9)


def test_a_picture_with_its_masks_boxes_and_depth_is_read(tmp_path):
    record = opened(write(tmp_path / "s")).read(2)
    assert isinstance(record, ImageRecord)
    assert (record.scene_id, record.image_id) == (12, 2)
    assert [i.obj_id for i in record.instances] == [17, 3]
    assert [i.mask_visib.area_px for i in record.instances] == [100, 200]
    assert record.instances[1].bbox_visib_xywh.tolist() == [10, 5, 19, 9]
    assert np.unique(record.depth_mm).tolist() == [0.0, 502.0]
    assert (record.rgb == 2).all()


def test_the_table_is_kept_until_the_objects_are_called_otherwise(tmp_path):
    folder = write(tmp_path / "s")
    assert opened(folder).instances.obj_id.tolist() == [17, 3] * 3
    others = MegaPoseShards(find_shards(folder), "gso", obj_ids={"gso_Mug": 1, "gso_Box": 2})
    assert others.instances.obj_id.tolist() == [1, 2] * 3
    assert others.instances.image_id.tolist() == [0, 0, 1, 1, 2, 2]
    assert others.instances.longer_side_px.tolist() == [9, 19] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["object_datas.json"][1].update(label="gso_Cup"), "[1].label: unknown object 'gso_Cup'"),
        (lambda f: f["object_datas.json"][0].update(TWO=[[0, 0, 0, 2], [0, 0, 0]]), "quaternion has length 2"),
        (lambda f: f["object_datas.json"][0].update(TWO=[0, 0, 0]), "[0].TWO: has 3 parts"),
        (lambda f: f["object_datas.json"][0].pop("bbox_modal"), "object_datas.json[0]: has no 'bbox_modal'"),
        (lambda f: f["object_datas.json"][0].pop("unique_id"), "object_datas.json[0]: has no 'unique_id'"),
        (lambda f: f["camera_data.json"].update(resolution=[60, 40]), "resolution: is 60 x 40 (height x width)"),
        (lambda f: f["camera_data.json"].update(K=[[0, 0, 1]] * 3), "camera_data.json: K: has focal lengths 0"),
        (lambda f: f.pop("segmentation.png"), "has no .segmentation.png"),
    ],
)
def test_a_wrong_label_is_told_by_shard_key_and_field(tmp_path, change, message):
    source = opened(write(tmp_path / "s", change=change))
    with pytest.raises(InputError) as caught:
        source.read(2)
    assert message in str(caught.value)
    assert "shard-00000001.tar: 02ab34" in str(caught.value)


def test_an_object_out_of_sight_needs_no_boxes(tmp_path):
    def hide(fields):
        row = fields["object_datas.json"][1]
        row.update(visib_fract=0.0, bbox_modal=None)
        del row["bbox_amodal"]

    hidden = opened(write(tmp_path / "s", change=hide)).read(0).instances[1]
    assert hidden.bbox_visib_xywh.tolist() == hidden.bbox_obj_xywh.tolist() == [-1, -1, -1, -1]


def test_the_meaning_of_depth_has_to_be_known(tmp_path):
    folder = write(tmp_path / "s")
    (folder / "infos.json").write_text('{"depth_scale": 0}')
    with pytest.raises(InputError, match=r"infos\.json: depth_scale: is 0, expected counts per metre"):
        opened(folder)
    (folder / "infos.json").unlink()
    with pytest.raises(InputError, match=r"infos\.json: No such file"):
        opened(folder)


def test_labels_that_are_numbers_need_no_names_and_others_do(tmp_path):
    def number(fields):
        for row, label in zip(fields["object_datas.json"], ("5", "obj_000012"), strict=True):
            row["label"] = label

    plain = MegaPoseShards(find_shards(write(tmp_path / "a", change=number)), "gso")
    assert [i.obj_id for i in plain.read(0).instances] == [5, 12]
    with pytest.raises(InputError, match=r"'gso_Mug' is no object number; give the models_info\.json"):
        MegaPoseShards(find_shards(write(tmp_path / "b")), "gso").read(0)


def test_names_of_both_public_sets_are_read(tmp_path):
    path = tmp_path / "models_info.json"
    path.write_text('[{"obj_id": 7, "gso_id": "Mug_Red"}]')
    assert read_obj_ids(path) == {"Mug_Red": 7, "gso_Mug_Red": 7}
    path.write_text('[{"obj_id": 8, "shapenet_synset_id": "02691156", "shapenet_source_id": "10155"}]')
    assert read_obj_ids(path)["shapenet_02691156_10155"] == 8
    path.write_text('[{"obj_id": 8, "gso_id": "A"}, {"obj_id": 9, "gso_id": "A"}]')
    with pytest.raises(InputError, match="is object 8 already, here 9"):
        read_obj_ids(path)


def test_the_conversion_shows_the_same_pictures_in_bops_layout(tmp_path):
    obj = Rotation.from_euler("xyz", [-1.0, 0.4, 0.2])
    folder = write(tmp_path / "s", two=[obj.as_quat().tolist(), [0.0, 0.1, 0.8]])
    report = convert_megapose(folder, tmp_path / "out", dataset="gso", obj_ids=OBJ_IDS, images_per_shard=2)
    assert (len(report.shards), report.num_kept, report.num_images) == (2, 0, 3)
    before, after = opened(folder), WebDatasetImages(report.shards, "gso")
    for index in range(3):
        first, second = before.read(index), after.read(index)
        assert (first.scene_id, first.image_id) == (second.scene_id, second.image_id)
        for name in ("rgb", "depth_mm", "K"):
            assert np.array_equal(getattr(first, name), getattr(second, name))
        for a, b in zip(first.instances, second.instances, strict=True):
            assert np.array_equal(a.cam_from_obj_mm, b.cam_from_obj_mm)
            assert (a.obj_id, a.visib_fract, a.mask_visib, a.mask) == (b.obj_id, b.visib_fract, b.mask_visib, b.mask)
    assert json.loads((tmp_path / "out" / "key_to_shard.json").read_text())["000012_000002"] == 1


def test_parts_make_the_shards_that_one_process_makes_and_leave_what_is_there(tmp_path):
    folder = write(tmp_path / "s", count=5)
    options = {"dataset": "gso", "obj_ids": OBJ_IDS, "images_per_shard": 2}
    whole = convert_megapose(folder, tmp_path / "whole", **options)
    for part in (1, 0):
        convert_megapose(folder, tmp_path / "parts", shard=(part, 2), **options)
    again = convert_megapose(folder, tmp_path / "parts", **options)
    assert again.num_kept == 3
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "parts").iterdir())
    for path in whole.shards:
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()
    with pytest.raises(InputError, match="is there already with 2 other pictures"):
        convert_megapose(folder, tmp_path / "parts", **options | {"images_per_shard": 3})
    with pytest.raises(InputError, match="shard: 2/2: the first number counts from 0 to 1"):
        convert_megapose(folder, tmp_path / "parts", shard=(2, 2), **options)


def test_scenes_become_shards_with_the_same_pictures_and_all_their_labels(tmp_path):
    source = opened(write(tmp_path / "s"))
    with BopSceneWriter(tmp_path / "lmo", "train") as writer:
        for index in range(len(source)):
            writer.write(source.read(index))
    file = tmp_path / "lmo" / "train" / "000012" / "scene_camera.json"
    cameras = json.loads(file.read_text())
    cameras["1"]["cam_R_w2c"] = [1, 0, 0, 0, 1, 0, 0, 0, 1]
    file.write_text(json.dumps(cameras))
    report = convert_bop(tmp_path / "lmo", "train", tmp_path / "out", images_per_shard=2)
    scenes, shards = BopScenes(tmp_path / "lmo" / "train"), WebDatasetImages(report.shards, "lmo")
    for index in range(3):
        first, second = scenes.read(index), shards.read(index)
        assert np.array_equal(first.rgb, second.rgb)
        assert np.array_equal(first.depth_mm, second.depth_mm)
        assert [i.mask_visib for i in first.instances] == [i.mask_visib for i in second.instances]
        assert [i.cam_from_obj_mm.tolist() for i in first.instances] == [
            i.cam_from_obj_mm.tolist() for i in second.instances
        ]
    (member,) = shards.shards.read_members(1, ["camera.json"])
    assert json.loads(member) == cameras["1"]


def test_scenes_without_poses_are_not_converted(tmp_path):
    with BopSceneWriter(tmp_path / "lmo", "test") as writer:
        writer.write(opened(write(tmp_path / "s")).read(0))
    (tmp_path / "lmo" / "test" / "000012" / "scene_gt.json").unlink()
    with pytest.raises(InputError, match=r"000012: has no scene_gt\.json"):
        convert_bop(tmp_path / "lmo", "test", tmp_path / "out")
