"""BOP scene folders: the round trip through the writer, layouts of single sets, and damaged files."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from posecore.errors import InputError
from vpog.data.bop_layout import models_folder, split_folder
from vpog.data.bop_scenes import BopScenes
from vpog.data.bop_writing import BopSceneWriter
from vpog.data.shards import WebDatasetImages
from vpog.data.targets import Target, read_target_images, read_targets, write_targets


@pytest.fixture
def records(reference, tmp_path):
    shard = tmp_path / "shard-000000.tar"
    shard.write_bytes(reference("formats")["shard_000000_tar_bytes"].tobytes())
    source = WebDatasetImages([shard], "lmo")
    return [source.read(0), source.read(1)]


@pytest.fixture
def folder(records, tmp_path):
    with BopSceneWriter(tmp_path / "lmo", "test", targets=True) as writer:
        for record in records:
            writer.write(record)
    return tmp_path / "lmo" / "test"


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def plain(record):
    """Everything as lists, to be compared."""
    values = dataclasses.asdict(record)
    for value in [values, *values["instances"]]:
        value.update({name: item.tolist() for name, item in value.items() if isinstance(item, np.ndarray)})
    return values


def test_what_is_written_is_read_back_without_a_difference(folder, records):
    source = BopScenes(folder)
    assert source.dataset == "lmo"
    assert [plain(source.read(index)) for index in range(len(source))] == [plain(record) for record in records]


def test_the_table_has_the_objects_of_the_pictures_in_order(folder, records):
    table = BopScenes(folder).instances
    instances = [(i, instance) for i, record in enumerate(records) for instance in record.instances]
    assert table.image.tolist() == [i for i, _ in instances]
    assert table.gt_index.tolist() == [instance.gt_index for _, instance in instances]
    assert table.obj_id.tolist() == [instance.obj_id for _, instance in instances]
    assert table.scene_id.tolist() == [records[i].scene_id for i, _ in instances]
    np.testing.assert_array_equal(table.visib_fract, np.float32([instance.visib_fract for _, instance in instances]))


def test_changing_a_record_does_not_change_what_is_read_next(folder, records):
    source = BopScenes(folder)
    first = source.read(0)
    for array in (
        first.K,
        first.rgb,
        first.depth_mm,
        first.instances[0].cam_from_obj_mm,
        first.instances[0].bbox_obj_xywh,
    ):
        array += 1
    assert plain(source.read(0)) == plain(records[0])


def test_targets_count_the_instances_of_which_a_tenth_is_visible(folder):
    assert read_targets(folder.parent / "test_targets_bop19.json") == (
        Target(0, 3, 3, 2),
        Target(0, 3, 7, 1),
        Target(12, 45, 3, 1),  # a second one shows 5 %
        Target(12, 45, 7, 1),
    )


def test_only_the_pictures_that_targets_name_are_read(folder):
    source = BopScenes(folder, images={(12, 45)})
    assert (len(source), source.ids(0)) == (1, (12, 45))
    with pytest.raises(InputError, match="has no image 46 in scene 12, which is asked for"):
        BopScenes(folder, images={(12, 45), (12, 46)})


def test_a_test_set_without_ground_truth_has_pictures_without_objects(folder, records):
    for name in ("scene_gt.json", "scene_gt_info.json"):
        for path in folder.glob(f"*/{name}"):
            path.unlink()
    source = BopScenes(folder)
    assert source.read(0).instances == ()
    assert np.array_equal(source.read(1).rgb, records[1].rgb)
    assert len(source.instances) == 0


def test_a_scene_of_grey_pictures_without_depth_and_silhouettes_is_read(folder):
    scene = folder / "000012"
    grey = np.arange(72 * 96, dtype=np.uint8).reshape(72, 96)
    (scene / "rgb").rename(scene / "gray")
    (scene / "gray" / "000045.png").unlink()
    cv2.imwrite(str(scene / "gray" / "000045.tif"), grey)
    (scene / "depth").rename(scene / "no_depth")
    (scene / "mask").rename(scene / "no_mask")
    record = BopScenes(folder).read(1)
    assert np.array_equal(record.rgb, np.repeat(grey[..., None], 3, 2))
    assert record.depth_mm is None
    assert {instance.mask for instance in record.instances} == {None}


def test_a_writer_left_by_an_error_leaves_no_labels(records, tmp_path):
    with pytest.raises(ValueError, match="scene 0, image 3: was written already"):
        write_all(tmp_path / "broken", [records[0], records[0]])
    with pytest.raises(InputError, match=r"scene_camera\.json: No such file or directory"):
        BopScenes(tmp_path / "broken" / "test")


def write_all(root, pictures):
    with BopSceneWriter(root, "test") as writer:
        for picture in pictures:
            writer.write(picture)


def test_a_split_is_not_written_over_an_old_one(folder):
    with pytest.raises(InputError, match="is there already"):
        BopSceneWriter(folder.parent, "test")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("scene_camera.json", lambda c: c["45"].pop("depth_scale"), "depth/000045.png: its camera has no depth_scale"),
        ("scene_camera.json", lambda c: c["45"]["cam_K"].__setitem__(4, 0.0), "45: cam_K: has focal lengths 90 and 0"),
        ("scene_camera.json", lambda c: c.update({"46": c["45"]}), "image 46 is in only one of it and scene_camera"),
        ("scene_gt.json", lambda c: c["45"].pop(), "scene_gt_info.json: 45: has 3 entries"),
        ("scene_gt.json", lambda c: c["45"][1].update(cam_t_m2c=[0, 0]), "45[1].cam_t_m2c: has shape (2,)"),
        ("scene_gt.json", lambda c: c["45"][0].update(cam_R_m2c=[1.0] * 9), "45[0].cam_R_m2c: is no rotation"),
        ("scene_gt_info.json", lambda c: c["45"][2].pop("visib_fract"), "45[2]: has no 'visib_fract'"),
    ],
)
def test_a_wrong_label_is_told_by_file_image_and_field(folder, name, change, message):
    edit(folder / "000012" / name, change)
    with pytest.raises(InputError) as caught:
        BopScenes(folder).read(1)
    assert message in str(caught.value)
    assert str(folder / "000012") in str(caught.value)


def test_a_missing_or_odd_picture_is_told_by_file(folder):
    source = BopScenes(folder)
    mask = folder / "000012" / "mask_visib" / "000045_000002.png"
    cv2.imwrite(str(mask), np.zeros((72, 95), dtype=np.uint8))
    with pytest.raises(InputError, match=r"000045_000002\.png: is 72 x 95 \(height x width\), the picture is 72 x 96"):
        source.read(1)
    mask.unlink()
    with pytest.raises(InputError, match=r"mask_visib/000045_000002\.png: cannot be read: No such file"):
        source.read(1)
    (folder / "000012" / "depth" / "000045.png").unlink()
    with pytest.raises(InputError, match="depth: has no picture 000045"):
        source.read(1)
    (folder / "000012" / "rgb" / "000045.png").unlink()
    with pytest.raises(InputError, match="000012: image 45: no picture 000045 in rgb or gray"):
        source.read(1)


def test_boxes_and_visible_fractions_are_needed_where_there_are_poses(folder):
    (folder / "000012" / "scene_gt_info.json").unlink()
    with pytest.raises(InputError, match=r"scene_gt_info\.json: No such file.*calc_gt_info"):
        BopScenes(folder)


def test_the_usual_sensor_and_models_of_a_set_are_found(tmp_path):
    for name in ("test_primesense/000001", "train/000001", "models_cad", "models_eval"):
        (tmp_path / "tless" / name).mkdir(parents=True)
    root = tmp_path / "tless"
    assert split_folder(root, "test") == root / "test_primesense"
    assert split_folder(root, "train") == root / "train"
    assert models_folder(root, "render") == root / "models_cad"
    assert models_folder(root, "evaluate") == root / "models_eval"
    with pytest.raises(InputError, match=r"val: no such folder; splits with scenes .*: test_primesense, train"):
        split_folder(root, "val")
    with pytest.raises(InputError, match=r"models: no such folder; folders of models .*: models_cad, models_eval"):
        models_folder(root, "render", dataset="lmo")


def test_targets_survive_writing_and_an_object_named_twice_is_refused(tmp_path):
    path = tmp_path / "targets.json"
    targets = (Target(2, 3, 12, 1), Target(2, 4, 8, 3))
    write_targets(path, targets)
    assert read_targets(path) == targets
    assert read_target_images(path) == {(2, 3), (2, 4)}
    with pytest.raises(InputError, match="object 8 of scene 2, image 4 is there twice"):
        write_targets(path, [*targets, targets[1]])
    path.write_text('[{"scene_id": 1, "im_id": 2}]')
    assert read_target_images(path) == {(1, 2)}
    with pytest.raises(InputError, match=r"\[0\]: has no 'obj_id'"):
        read_targets(path)
