"""Samples: an instance of a picture and its group of templates, against the truth that the data were made from."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from posecore.errors import InputError
from vpog.config.augmentation import AugmentationConfig
from vpog.data.groups import GroupRules, GroupSource, scaled_box
from vpog.data.opening import MeasuredModels, open_dataset
from vpog.layout import dataset_of_folder
from vpog.objects.meshes import read_mesh
from vpog.objects.rendering import render
from vpog.selection import SelectionRules

SIZE = 64
RULES = GroupRules(SIZE, SelectionRules(num_positive=2, num_negative=1))


@pytest.fixture(scope="module")
def dataset(data):
    return open_dataset(dataset_of_folder(data / "synth" / "train"), SIZE, 64)


@pytest.fixture(scope="module")
def source(dataset):
    return GroupSource(dataset, RULES)


def seeded(number=0):
    return np.random.default_rng(number)


def points_of(sample, index):
    """In the object's frame, of every pixel with depth."""
    row, column = np.nonzero(sample.depth_mm[index] > 0)
    pixels = np.stack([column, row, np.ones_like(row)]).astype(float)
    points_cam = np.linalg.solve(sample.K[index], pixels) * sample.depth_mm[index][row, column]
    pose = sample.cam_from_obj_mm[index]
    return (pose[:3, :3].T @ (points_cam - pose[:3, 3:])).T


def test_a_mesh_drawn_with_a_samples_cameras_covers_its_masks_and_depth(source, data):
    """Query and templates, cut by different code, are in the same pixel convention as the renderer."""
    offsets = []
    for number in range(len(source)):
        sample = source.load(number, seeded())
        if sample.instance.visib_fract < 0.99:
            continue
        mesh = read_mesh(data / "synth" / "models" / f"obj_{sample.instance.obj_id:06d}.ply")
        drawn = render(mesh, sample.cam_from_obj_mm, sample.K, (SIZE, SIZE))
        for index in range(len(sample.images)):
            mine, theirs = sample.masks[index], drawn.mask[index]
            assert (mine & theirs).sum() / (mine | theirs).sum() > 0.9
            offsets.append(np.argwhere(mine).mean(0) - np.argwhere(theirs).mean(0))
            both = (sample.depth_mm[index] > 0) & theirs
            gap = np.abs(sample.depth_mm[index] - drawn.depth_mm[index])[both]
            assert np.median(gap) < 0.01 * sample.instance.diameter_mm
    assert len(offsets) > 12
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.1, "half a pixel of either picture would be 0.35 or more"


def test_positives_look_from_nearer_than_negatives_and_the_reference_is_the_nearest_view(source):
    for number in range(len(source)):
        sample = source.load(number, seeded())
        directions = -sample.cam_from_obj_mm[:, 2, :3]
        pose = sample.cam_from_obj_mm[0]
        towards = -pose[:3, :3].T @ pose[:3, 3]
        cosines = directions[1:] @ (towards / np.linalg.norm(towards))
        assert (sample.template_types == [0, 0, 1]).all()
        assert cosines[0] >= cosines[1] > cosines[2]
        np.testing.assert_allclose(sample.d_ref, directions[1], atol=1e-6)


def test_the_crop_is_the_pictures_pixels_at_the_objects_box(source):
    sample = source.load(0, seeded())
    table, row = source.table, source.rows[0]
    record = source.dataset.images.read(int(table.image[row]))
    instance = next(i for i in record.instances if i.gt_index == sample.instance.gt_index)
    pixels = np.argwhere(instance.mask_visib.decode())[:, ::-1]
    in_crop = pixels @ sample.crop_from_image[:2, :2].T + sample.crop_from_image[:2, 2]
    assert in_crop.min() > -1.5
    assert in_crop.max() < SIZE + 0.5
    inner = ((in_crop > 1) & (in_crop < SIZE - 2)).all(1)
    column, row = in_crop[inner].round().astype(int).T
    assert sample.masks[0][row, column].mean() > 0.97
    seen = sample.images[0][:, row, column].T.astype(float)
    there = record.rgb[pixels[inner, 1], pixels[inner, 0]].astype(float)
    assert np.median(np.abs(seen - there)) < 12
    np.testing.assert_allclose(sample.K[0], sample.crop_from_image @ record.K)


def test_the_same_generator_gives_the_same_sample_and_another_varies_it(dataset):
    source = GroupSource(dataset, replace(RULES, augmentation=AugmentationConfig(occlusion=0.5, inplane_deg=20)))
    first, again, other = (source.load(1, seeded(n)) for n in (3, 3, 4))
    np.testing.assert_array_equal(first.images, again.images)
    assert first.seed == again.seed
    assert (first.images != other.images).any()
    assert (first.crop_from_image != other.crop_from_image).any()


def test_a_turned_template_has_a_turned_pose_whose_points_are_still_the_objects(dataset):
    turned = GroupSource(dataset, replace(RULES, augmentation=AugmentationConfig(color=0, inplane_deg=40)))
    plain, varied = GroupSource(dataset, RULES).load(0, seeded()), turned.load(0, seeded(5))
    model = dataset.models[varied.instance.obj_id]
    for index in (1, 2):
        assert (plain.images[index] != varied.images[index]).any()
        points = points_of(varied, index)
        slack = 0.05 * model.diameter_mm
        inside = (points > model.min_mm - slack) & (points < model.min_mm + model.size_mm + slack)
        assert inside.all(1).mean() > 0.99


def test_a_masked_background_is_black_and_the_object_stays(dataset):
    kept, masked = (GroupSource(dataset, replace(RULES, background=b)).load(2, seeded()) for b in ("keep", "mask"))
    outside = ~masked.masks[0]
    assert not masked.images[0][:, outside].any()
    assert kept.images[0][:, outside].any()
    np.testing.assert_array_equal(kept.images[0][:, ~outside], masked.images[0][:, ~outside])


def test_hidden_and_small_objects_and_those_without_templates_are_left_out_and_counted(dataset, data):
    table = dataset.images.instances
    limit = float(np.median(table.longer_side_px))
    some = GroupSource(dataset, RULES, min_box_px=int(limit))
    assert some.left_out.small == int((table.longer_side_px < int(limit)).sum()) > 0
    assert len(some) + some.left_out.small + some.left_out.hidden == len(table)
    with pytest.raises(InputError, match=r"synth: none of \d+ instances can be used: \d+ are hidden too much"):
        GroupSource(dataset, RULES, min_visib_fract=1.0)
    one = GroupSource(dataset, RULES, objects=[2])
    assert set(table.obj_id[one.rows].tolist()) == {2}


def test_a_source_goes_to_another_process_and_gives_the_same(source):
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.load(3, seeded()).images, source.load(3, seeded()).images)


def test_a_selection_of_samples_is_in_the_order_asked_for(source):
    chosen = source.select(np.array([4, 1]))
    assert len(chosen) == 2
    np.testing.assert_array_equal(chosen.load(0, seeded()).images, source.load(4, seeded()).images)


def test_objects_without_models_are_measured_on_their_templates(dataset):
    measured = MeasuredModels(dataset.templates)
    assert list(measured) == dataset.templates.objects
    for obj_id in measured:
        assert measured[obj_id].diameter_mm == pytest.approx(dataset.models[obj_id].diameter_mm, rel=0.08)
    assert 77 not in measured


def test_a_box_grows_about_its_centre():
    np.testing.assert_allclose(scaled_box(np.array([10.0, 20.0, 30.0, 60.0]), 1.5), [5, 10, 35, 70])
