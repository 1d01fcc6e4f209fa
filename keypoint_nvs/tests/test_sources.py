"""Samples of a configuration's data sets, and their way to pictures on the device."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from keypoint_nvs.config.data import ImageData, MultiviewData
from keypoint_nvs.data.batch import StoredBatch, ViewSample, collate
from keypoint_nvs.data.clips import collate_clips
from keypoint_nvs.data.compositing import coarsened, condition_sides, view_batch
from keypoint_nvs.data.records import Cameras, Keypoints, MultiviewSample
from keypoint_nvs.data.rgba_images import made_square, read_rgba, resized
from keypoint_nvs.data.sources import SourceOptions, open_source
from keypoint_nvs.data.store_writing import write_store
from keypoint_nvs.poses import orbit_cameras, turn_world
from keypoint_nvs.rig import Rig, zero123plus_rig
from posecore.data.loader import evaluation_batches
from posecore.errors import InputError

SIZE = 8
RIG = zero123plus_rig("v1.2")
OPTIONS = SourceOptions(RIG, image_px=16)


def sample(
    name: str, poses: np.ndarray | None = None, cond_azimuth_deg: float = 0.0, joints: int = 0
) -> MultiviewSample:
    rng = np.random.default_rng(len(name))
    K = RIG.K(SIZE)[None].astype(np.float32)
    cond = orbit_cameras(np.array([cond_azimuth_deg]), np.array([10.0]), 2.0)
    points = Keypoints(rng.standard_normal((joints, 3)).astype(np.float32), np.ones((7, joints), bool))
    return MultiviewSample(
        sample_id=name,
        cond_imgs=rng.integers(0, 256, (4, SIZE, SIZE), np.uint8),
        target_imgs=rng.integers(0, 256, (6, 4, SIZE, SIZE), np.uint8),
        cond_camera=None if poses is None else Cameras(cond.astype(np.float32), K),
        target_cameras=None if poses is None else Cameras(poses.astype(np.float32), np.repeat(K, 6, 0)),
        keypoints=points if joints else None,
    )


def stored(path: Path, samples: list[MultiviewSample], rig: str = "zero123plus-v1.2") -> MultiviewData:
    write_store(path, rig, samples)
    return MultiviewData(path=str(path))


def load(data: MultiviewData | ImageData, index: int = 0, options: SourceOptions = OPTIONS) -> ViewSample:
    return open_source([data], options)[0].load(index, np.random.default_rng(3))


def test_targets_without_cameras_have_those_of_the_rig(tmp_path):
    found = load(stored(tmp_path / "s.hdf5", [sample("a/0")]))
    np.testing.assert_allclose(found.target_cam_from_world, RIG.cam_from_world(), atol=1e-6)
    np.testing.assert_allclose(found.target_K, np.repeat(RIG.K(SIZE)[None], 6, 0), rtol=1e-6)
    assert found.cond_cam_from_world is None


def test_cameras_of_a_sample_may_lie_in_a_world_that_is_turned_about_its_upward_axis(tmp_path):
    poses = turn_world(RIG.cam_from_world(), -70.0)
    found = load(stored(tmp_path / "s.hdf5", [sample("a/0", poses, cond_azimuth_deg=70.0)], "free"))
    np.testing.assert_allclose(found.target_cam_from_world, poses, atol=1e-6)


@pytest.mark.parametrize("rig", ["free", "zero123plus-v1.2"])
def test_a_view_that_is_turned_too_far_from_the_rigs_is_named(tmp_path, rig):
    azimuth = np.array(RIG.azimuth_deg)
    azimuth[4] += 6
    poses = orbit_cameras(azimuth, np.array(RIG.elevation_deg), 2.0)
    data = stored(tmp_path / "s.hdf5", [sample("a/0", RIG.cam_from_world()), sample("b/0", poses)], rig)
    load(data, 0)
    with pytest.raises(
        InputError, match=r"s\.hdf5: b/0: target_cam_from_world: view 4 is turned [56]\.\d degrees away"
    ):
        load(data, 1)
    load(data, 1, replace(OPTIONS, max_pose_error_deg=7.0))


def test_a_store_of_another_rig_is_refused(tmp_path):
    data = stored(tmp_path / "s.hdf5", [sample("a/0")], "zero123plus-v1.1")
    with pytest.raises(InputError, match=r"rig is zero123plus-v1\.1, model\.rig is zero123plus-v1\.2"):
        load(data)
    four = Rig(RIG.azimuth_deg[:4], RIG.elevation_deg[:4], 30.0, 2.0, 2, 2)
    with pytest.raises(InputError, match=r"samples have 6 target views, model\.rig has 4"):
        load(stored(tmp_path / "f.hdf5", [sample("a/0", RIG.cam_from_world())], "free"), 0, SourceOptions(four, 16))


def test_sets_are_drawn_by_their_weights_and_stack(tmp_path):
    sets = [
        stored(tmp_path / "a.hdf5", [sample("a/0"), sample("a/1")]).model_copy(update={"weight": 3.0}),
        stored(tmp_path / "b.hdf5", [sample("b/0", RIG.cam_from_world(), joints=4)]).model_copy(update={"weight": 1.0}),
    ]
    source, weights = open_source(sets, OPTIONS)
    assert weights == [1.5, 1.5, 1.0]
    (batch,) = evaluation_batches(source, 3, collate)
    assert batch.sample_ids == ("a/0", "a/1", "b/0")
    assert batch.has_cond_camera.tolist() == [False, False, True]
    assert batch.keypoints_visible.sum((1, 2)).tolist() == [0, 0, 28]


def test_worker_processes_read_a_store_that_this_process_has_open(tmp_path):
    source, _ = open_source([stored(tmp_path / "s.hdf5", [sample(f"a/{i}") for i in range(4)])], OPTIONS)
    source.load(0, np.random.default_rng(0))
    here, there = (list(evaluation_batches(source, 2, collate, workers=workers)) for workers in (0, 2))
    for one, other in zip(here, there, strict=True):
        assert one.sample_ids == other.sample_ids
        assert torch.equal(one.seed, other.seed)
        assert torch.equal(one.target_imgs, other.target_imgs)


def test_samples_of_one_set_with_different_keypoints_are_refused(tmp_path):
    data = stored(tmp_path / "s.hdf5", [sample("a/0", joints=4), sample("b/0", joints=5)])
    with pytest.raises(InputError, match=r"b/0: keypoints_world: has 5 keypoints, .*a/0 has 4"):
        load(data, 1)
    assert load(data, 1, replace(OPTIONS, with_keypoints=False)).keypoints_world is None


def test_sets_of_different_sizes_or_keypoints_are_refused(tmp_path):
    first = stored(tmp_path / "a.hdf5", [sample("a/0", joints=4)])
    small = replace(
        sample("b/0"), cond_imgs=np.zeros((4, 4, 4), np.uint8), target_imgs=np.zeros((6, 4, 4, 4), np.uint8)
    )
    with pytest.raises(InputError, match=r"pictures are 4 px, those of .* 8"):
        open_source([first, stored(tmp_path / "b.hdf5", [small])], OPTIONS)
    with pytest.raises(InputError, match=r"samples have 5 keypoints, those of .* 4"):
        open_source([first, stored(tmp_path / "c.hdf5", [sample("c/0", joints=5)])], OPTIONS)


def test_clips_are_neighbouring_frames_of_one_object(tmp_path):
    names = ["a/10", "a/9", "b/0", "a/11", "c/1", "c/3"]
    data = stored(tmp_path / "s.hdf5", [sample(name) for name in names])
    source, _ = open_source([data], replace(OPTIONS, frames=2))
    clips = [source.load(i, np.random.default_rng(i)) for i in range(len(source))]
    found = [tuple(frame.sample_id for frame in clip) for clip in clips]
    assert found == [("a/9", "a/10"), ("a/10", "a/11"), ("c/1", "c/3")]
    (batch,) = evaluation_batches(source, 3, collate_clips)
    assert batch.sample_ids == ("a/9", "a/10", "a/10", "a/11", "c/1", "c/3")
    assert len(set(batch.seed.tolist())) == 6
    with pytest.raises(InputError, match=r"s\.hdf5: no object has 4 frames"):
        open_source([data], replace(OPTIONS, frames=4))


def write_rgba(path: Path, rgba: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), rgba.transpose(1, 2, 0)[..., [2, 1, 0, 3][: len(rgba)]])


def test_pictures_keep_their_transparency_and_their_colours(tmp_path):
    rgba = np.random.default_rng(0).integers(0, 256, (4, 16, 16), np.uint8)
    write_rgba(tmp_path / "x" / "clear.png", rgba)
    write_rgba(tmp_path / "plain.png", rgba[:3])
    source, _ = open_source([ImageData(path=str(tmp_path))], OPTIONS)
    plain, clear = (source.load(i, np.random.default_rng(0)) for i in range(2))
    assert (plain.sample_id, clear.sample_id) == ("plain.png", "x/clear.png")
    np.testing.assert_array_equal(clear.target_imgs[0], rgba)
    np.testing.assert_array_equal(plain.target_imgs[0, :3], rgba[:3])
    assert (plain.target_imgs[0, 3] == 255).all()
    assert plain.cond_imgs is None
    assert collate([plain, clear]).target_cam_from_world is None


def test_a_glob_finds_the_pictures_that_it_names(tmp_path):
    for name in ("a/1.png", "a/2.jpg", "b/1.png", "b/notes.txt"):
        write_rgba(tmp_path / "x.png", np.zeros((3, 4, 4), np.uint8))
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((tmp_path / "x.png").read_bytes())
    source, _ = open_source([ImageData(path=str(tmp_path / "*" / "1.png"))], OPTIONS)
    assert [source.load(i, np.random.default_rng(0)).sample_id for i in range(2)] == ["a/1.png", "b/1.png"]
    with pytest.raises(InputError, match="no picture there"):
        open_source([ImageData(path=str(tmp_path / "*" / "3.png"))], OPTIONS)
    with pytest.raises(InputError, match="no such folder"):
        open_source([ImageData(path=str(tmp_path / "c"))], OPTIONS)


def test_a_picture_that_is_not_square_is_refused_cut_or_padded(tmp_path):
    rgba = np.full((4, 4, 8), 255, np.uint8)
    rgba[0] = np.arange(8)
    with pytest.raises(InputError, match=r"wide\.png: is 4 x 8, a square is needed"):
        made_square(rgba, "exact", "wide.png")
    assert made_square(rgba, "centre_crop", "")[0, 0].tolist() == [2, 3, 4, 5]
    padded = made_square(rgba, "pad", "")
    np.testing.assert_array_equal(padded[:, 2:6], rgba)
    assert padded[3, [0, 1, 6, 7]].max() == 0


def test_a_resized_object_takes_no_colour_from_what_is_transparent():
    rgba = np.zeros((4, 64, 64), np.uint8)
    rgba[:, 20:45, 20:45] = np.array([200, 100, 50, 255])[:, None, None]
    small = resized(rgba, 24)
    covered = small[3] > 0
    assert 0 < (small[3][covered] < 255).mean() < 1
    assert np.abs(small[:3][:, covered].astype(int) - np.array([[200], [100], [50]])).max() <= 1


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is empty"), (b"text", "is not a picture"), (None, "PNG file is cut off")]
)
def test_a_file_that_is_no_picture_is_named(tmp_path, content, message):
    path = tmp_path / "bad.png"
    if content is None:
        write_rgba(path, np.random.default_rng(0).integers(0, 256, (4, 16, 16), np.uint8))
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"bad\.png: ({message})"):
        read_rgba(path)


def batch_of(seeds: list[int], size: int = 24) -> StoredBatch:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (len(seeds), 7, 4, size, size), np.uint8)
    return collate(
        [
            ViewSample(f"{i}/0", s, im[0], im[1:], None, None)
            for i, (s, im) in enumerate(zip(seeds, images, strict=True))
        ]
    )


def test_transparent_pixels_show_the_background():
    batch = batch_of([1])
    batch.target_imgs[:, :, 3, 0, 0] = 0
    batch.target_imgs[:, :, 3, 1, 1] = 255
    views = view_batch(batch, (10, 20, 30))
    assert (views.target_imgs[0, 0, :, 0, 0] * 255).round().tolist() == [10, 20, 30]
    torch.testing.assert_close(views.target_imgs[0, :, :, 1, 1] * 255, batch.target_imgs[0, :, :3, 1, 1].float())
    torch.testing.assert_close(views.alpha, batch.target_imgs[:, :, 3] / 255)
    assert views.cond_imgs is not None
    assert views.cond_imgs.shape == (1, 3, 24, 24)


def test_the_varied_input_view_does_not_depend_on_how_the_batch_is_cut():
    seeds = [11, 2**62, 7, 3]
    images = torch.rand(4, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    whole = coarsened(images, torch.tensor(seeds), (6, 24))
    for i, seed in enumerate(seeds):
        torch.testing.assert_close(whole[i : i + 1], coarsened(images[i : i + 1], torch.tensor([seed]), (6, 24)))
    assert len({round(float((a - b).abs().mean()), 4) for a, b in zip(whole, images, strict=True)}) > 1


def test_the_varied_input_view_is_resized_and_back():
    images = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))

    def there_and_back(side: int) -> torch.Tensor:
        pixels = images
        for size in (side, 24):
            pixels = torch.nn.functional.interpolate(pixels, (size, size), mode="bicubic", antialias=True)
        return pixels.clamp(0, 1)

    seeds = range(40)
    assert condition_sides((6, 22)) == list(range(6, 23))
    drawn = [coarsened(images, torch.tensor([seed]), (6, 22)) for seed in seeds]
    expected = [there_and_back(side) for side in condition_sides((6, 22))]
    nearest = [min(float((d - e).abs().max()) for e in expected) for d in drawn]
    assert max(nearest) < 1e-5
    unvaried = view_batch(batch_of([1]), "grey")
    assert unvaried.cond_imgs is not None
    assert not torch.equal(unvaried.cond_imgs, view_batch(batch_of([1]), "grey", (6, 22)).cond_imgs)
