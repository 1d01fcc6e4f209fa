"""Synthetic data: shapes, their symmetries, labels, and that what is written is what readers of real data read."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from posecore.errors import InputError
from vpog.data.bop_scenes import BopScenes
from vpog.data.records import ImageRecord
from vpog.data.shards import WebDatasetImages
from vpog.data.synthetic import (
    EASY,
    SceneOptions,
    SyntheticObject,
    SyntheticOptions,
    make_objects,
    synthesise,
    synthetic_pictures,
)
from vpog.data.synthetic.shapes import KINDS, random_shape
from vpog.data.synthetic.symmetry import Symmetry
from vpog.data.targets import read_targets
from vpog.objects.meshes import mesh_hash, read_mesh
from vpog.objects.models_info import read_models_info, symmetry_transforms
from vpog.objects.rendering import render
from vpog.templates.store import TemplateStore
from vpog.views import allocentric_rotation

SMALL = SyntheticOptions(objects=5, images=5, size_hw=(96, 128), template_level=None)
CROWD = replace(SMALL, scene=SceneOptions(objects=(4, 5), occluders=(2, 2), margin=0.0, overlap=0.2))
ALL_KINDS = len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_is_closed_and_its_triangles_look_outwards(kind):
    for seed in range(3):
        solid = random_shape(np.random.default_rng(seed), kind).solid
        corners = solid.points[solid.faces]
        assert np.einsum("nk,nk->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) > 0
        _, place = np.unique(solid.points, axis=0, return_inverse=True)
        ends = place.reshape(-1)[solid.faces]
        starts, stops = ends.reshape(-1).astype(np.int64), np.roll(ends, -1, axis=1).reshape(-1).astype(np.int64)
        edges, turned = starts * len(place) + stops, stops * len(place) + starts
        assert len(np.unique(edges)) == len(edges)
        # the ends of a mug's handle are inside its wall
        assert np.count_nonzero(~np.isin(turned, edges)) == (28 if kind == "mug" else 0)
        assert 2000 < len(solid.faces) < 6500


def _moved(each: SyntheticObject, transform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (mm) of each moved vertex to the nearest one of its colour or else any, and the difference of colours."""
    vertices = each.mesh.vertices_mm.astype(np.float64)
    colors = each.mesh.colors.astype(np.float64)
    moved = vertices @ transform[:3, :3].T + transform[:3, 3]
    both = np.column_stack([vertices, colors * 1e-3])  # among vertices at one place that of the likest colour
    _, nearest = cKDTree(both).query(np.column_stack([moved, colors * 1e-3]))
    return np.linalg.norm(vertices[nearest] - moved, axis=1), np.abs(colors[nearest] - colors).max(1)


@pytest.mark.parametrize("seed", [0, 1])
def test_declared_symmetries_map_vertices_and_colours_onto_themselves(seed):
    symmetric = [
        each for each in make_objects(SyntheticOptions(objects=ALL_KINDS, objects_seed=seed, symmetric_share=1.0))
    ]
    declared = [each for each in symmetric if each.info.is_symmetric]
    assert {each.kind for each in declared} == {
        "box", "square_box", "rounded_box", "cross", "hexagon", "can", "bottle", "torus"
    }  # fmt: skip
    for each in declared:
        for transform in symmetry_transforms(each.info, step=np.pi / 59.5)[1:]:  # 60 turns, as the meshes have
            distance, difference = _moved(each, transform)
            assert distance.max() < 0.01, each.kind
            assert difference.max() <= 1, each.kind


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_turn_that_is_not_declared_changes_shape_or_colours(share):
    turns = [*Symmetry(0, True).discrete, *Symmetry(4, True).discrete, *Symmetry(6).discrete]
    for each in make_objects(SyntheticOptions(objects=ALL_KINDS, objects_seed=2, symmetric_share=share)):
        declared = symmetry_transforms(each.info, step=np.pi / 59.5)
        if share == 0:
            assert len(declared) == 1
        for turn in turns:
            if np.abs(declared - turn).max((1, 2)).min() > 1e-9:
                distance, difference = _moved(each, turn)
                assert distance.mean() > 0.5 or difference.mean() > 10, (each.kind, turn)


def test_boxes_are_centred_and_sizes_are_those_of_things_in_hands():
    for each in make_objects(SyntheticOptions(objects=ALL_KINDS)):
        info = each.info
        np.testing.assert_allclose(info.min_mm, -info.size_mm / 2, atol=1e-3)
        assert 60 <= info.size_mm.max() <= 200.01
        assert info.size_mm.max() <= info.diameter_mm <= np.linalg.norm(info.size_mm) + 1e-3


def test_objects_do_not_depend_on_how_many_there_are_and_differ_between_seeds():
    few, many = make_objects(replace(SMALL, objects=2)), make_objects(replace(SMALL, objects=4))
    assert [mesh_hash(each.mesh) for each in few] == [mesh_hash(each.mesh) for each in many[:2]]
    other = make_objects(replace(SMALL, objects=4, objects_seed=1))
    assert not {mesh_hash(each.mesh) for each in many} & {mesh_hash(each.mesh) for each in other}


def _assert_same(ours: ImageRecord, other: ImageRecord, depth_tolerance_mm: float) -> None:
    assert (ours.scene_id, ours.image_id) == (other.scene_id, other.image_id)
    np.testing.assert_array_equal(ours.rgb, other.rgb)
    np.testing.assert_allclose(ours.depth_mm, other.depth_mm, atol=depth_tolerance_mm)
    np.testing.assert_array_equal(ours.K, other.K)
    assert len(ours.instances) == len(other.instances)
    for a, b in zip(ours.instances, other.instances, strict=True):
        np.testing.assert_array_equal(a.cam_from_obj_mm, b.cam_from_obj_mm)
        np.testing.assert_array_equal(a.bbox_obj_xywh, b.bbox_obj_xywh)
        np.testing.assert_array_equal(a.bbox_visib_xywh, b.bbox_visib_xywh)
        assert (a.gt_index, a.obj_id, a.visib_fract) == (b.gt_index, b.obj_id, b.visib_fract)
        assert (a.mask, a.mask_visib) == (b.mask, b.mask_visib)


def test_readers_of_real_data_read_what_was_made(tmp_path):
    options = replace(
        CROWD, objects=2, images_per_scene=3, images_per_shard=4, template_level=0, bop_split="test", sigma=10.0
    )
    summary = synthesise(tmp_path, options)
    made = list(synthetic_pictures(options))
    shards = sorted((tmp_path / "synth" / "train_pbr_web").glob("*.tar"))
    assert summary["shards"] == [str(path.relative_to(tmp_path)) for path in shards]
    assert len(shards) == 2
    for source in (WebDatasetImages(shards, "synth"), BopScenes(tmp_path / "synth" / "test")):
        assert len(source) == summary["images"] == len(made)
        assert len(source.instances) == summary["instances"]
        for index, record in enumerate(made):
            _assert_same(record, source.read(index), 0.0501)
    wanted = sum(target.inst_count for target in read_targets(tmp_path / "synth" / "test_targets_bop19.json"))
    assert wanted == sum(instance.visib_fract >= 0.1 for record in made for instance in record.instances)
    infos = read_models_info(tmp_path / "synth" / "models" / "models_info.json")
    store = TemplateStore(tmp_path / "templates" / "synth", 64)
    for each in make_objects(options):
        mesh = read_mesh(
            tmp_path / "synth" / "models" / f"obj_{each.obj_id:06d}.ply", diameter_mm=infos[each.obj_id].diameter_mm
        )
        assert mesh_hash(mesh) == mesh_hash(each.mesh)
        assert store.views(each.obj_id).is_valid.all()
        depth = store.load(each.obj_id, np.arange(42)).depth_mm
        assert 100 < np.median(depth[depth > 0]) < 1000  # sigma is gone


def test_silhouettes_depth_and_visible_fractions_are_those_of_each_object_drawn_by_itself():
    objects = {each.obj_id: each.mesh for each in make_objects(CROWD)}
    height, width = CROWD.size_hw
    cut_off = hidden = 0
    for record in synthetic_pictures(CROWD):
        taken = np.zeros((height, width), int)
        for instance in record.instances:
            larger = record.K.copy()
            larger[:2, 2] += (width, height)
            drawn = render(
                objects[instance.obj_id], instance.cam_from_obj_mm[None], larger[None], (3 * height, 3 * width)
            )
            whole = drawn.mask[0, height : 2 * height, width : 2 * width]
            depth = drawn.depth_mm[0, height : 2 * height, width : 2 * width]
            visible = instance.mask_visib.decode()
            # a pixel's centre on an edge may fall to either side when the window is another
            assert np.count_nonzero(instance.mask.decode() != whole) <= 2
            assert not (visible & ~instance.mask.decode()).any()
            np.testing.assert_allclose(record.depth_mm[visible & whole], depth[visible & whole], atol=0.2)
            in_front = instance.mask.decode() & ~visible & whole
            assert (record.depth_mm[in_front] <= depth[in_front] + 0.2).all()
            assert abs(instance.visib_fract - visible.sum() / drawn.mask.sum()) < 0.01
            cut_off += int(whole.sum() < drawn.mask.sum())
            hidden += int(in_front.sum() > 20)
            taken += visible
            rows, columns = np.nonzero(visible)
            if len(rows):
                box = [columns.min(), rows.min(), np.ptp(columns), np.ptp(rows)]
                np.testing.assert_array_equal(instance.bbox_visib_xywh, box)
            rows, columns = np.nonzero(drawn.mask[0])
            box = np.array([columns.min() - width, rows.min() - height, np.ptp(columns), np.ptp(rows)])
            assert np.abs(instance.bbox_obj_xywh - box).max() <= 1
        assert taken.max() == 1
        assert (record.depth_mm[taken == 1] > 0).all()
    assert cut_off >= 3  # the options make both happen
    assert hidden >= 3


def test_equal_options_give_equal_pictures_however_many_are_asked_for():
    first, again = list(synthetic_pictures(SMALL)), list(synthetic_pictures(replace(SMALL, images=3)))
    for ours, other in zip(first[:3], again, strict=True):
        _assert_same(ours, other, 0.0)
    for changed in (replace(SMALL, seed=1), replace(SMALL, split="val"), replace(SMALL, dataset="other")):
        assert not np.array_equal(next(iter(synthetic_pictures(changed))).rgb, first[0].rgb)


@pytest.mark.slow
def test_workers_change_nothing(tmp_path):
    options = replace(SMALL, objects=2, images=70, template_level=0)
    synthesise(tmp_path / "here", options)
    synthesise(tmp_path / "there", options, workers=2)
    files = sorted(
        path.relative_to(tmp_path / "here")
        for pattern in ("*.tar", "*.ply", "*.png", "*.npy", "*.json")
        for path in (tmp_path / "here").rglob(pattern)
        if not path.name.endswith(".index.json")  # tells when the shard was written
    )
    assert len(files) == 1 + 2 + 2 * 2 * 42 + 2 + 4  # shard, meshes, templates, poses; infos, keys, descriptions
    for file in files:
        assert (tmp_path / "here" / file).read_bytes() == (tmp_path / "there" / file).read_bytes()


def test_objects_stand_upright_as_they_are_seen_where_turns_are_switched_off():
    scene = replace(EASY, inplane_deg=0.0, upper_views=True, objects=(1, 1))
    for record in synthetic_pictures(replace(SMALL, scene=scene)):
        upwards = allocentric_rotation(record.instances[0].cam_from_obj_mm)[:, 2]
        assert abs(upwards[0]) < 1e-9
        assert upwards[1] <= 0  # upwards in the picture
        assert upwards[2] <= 1e-9  # towards the camera: seen from above


def test_a_second_split_uses_the_objects_that_are_there_and_other_objects_are_refused(tmp_path):
    synthesise(tmp_path, SMALL)
    synthesise(tmp_path, replace(SMALL, split="val_web", images=1))
    models = tmp_path / "synth" / "models"
    with pytest.raises(InputError) as told:
        synthesise(tmp_path, replace(SMALL, split="more", objects=4))
    assert str(told.value) == (
        f"{models / 'models_info.json'}: has 5 objects, 4 are asked for; give the options of its objects "
        "(objects, objects_seed, symmetric_share), or another dataset"
    )
    with pytest.raises(InputError, match=r"obj_000001\.ply: is another object than these options make"):
        synthesise(tmp_path, replace(SMALL, split="more", objects_seed=1))
    with pytest.raises(InputError, match="train_pbr_web: is there already; name another split, or delete it"):
        synthesise(tmp_path, SMALL)


def test_options_that_cannot_be_are_told_all_at_once(tmp_path):
    scene = SceneOptions(objects=(3, 1), fill=(0.05, 0.3), backgrounds=())
    with pytest.raises(InputError) as told:
        synthesise(tmp_path, replace(SMALL, images=0, dataset="a-b", bop_split="../x", scene=scene), workers=-1)
    assert told.value.problems == (
        "images: 0, must be at least 1",
        "dataset: 'a-b', must be letters and digits: names of result files carry it",
        "bop_split: '../x', must be letters, digits and _, as in train_pbr_web",
        "scene.objects: (3, 1), must be within 1 to 40 and not fall",
        "scene.backgrounds: (), must be one or more of plain, gradient, noise, photo",
        "scene.fill: begins at 0.05, which with scene.focal up to 1.6 puts objects 14780 mm away; depth pictures reach"
        " 6500 mm",
        "workers: -1, must be at least 0",
    )
    assert not any(tmp_path.iterdir())
