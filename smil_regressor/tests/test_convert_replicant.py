"""replicAnt sets, written here in their public layout, become samples with the same cameras, points and rotations."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from posecore.bodymodel import BodyModel, read_model
from posecore.cameras import opencv_to_pytorch3d
from posecore.errors import InputError
from smil_regressor.data.converters.convert import convert_replicant
from smil_regressor.data.converters.notes import Notes
from smil_regressor.data.converters.replicant import iter_replicant
from smil_regressor.data.insect import insect_body
from smil_regressor.data.sample import Sample

SIZE = (160, 120)  # width, height: not square on purpose


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return insect_body("simple")


def unreal_camera(rng: np.random.Generator, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """M, t of C = X M + t (x right, y up, z forward, left-handed) looking at a point; horizontal FOV in degrees."""
    away = rng.normal(size=3)
    forward = -away / np.linalg.norm(away)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    up = np.cross(forward, right)  # a left-handed triple: det of (right, up, forward) is -1 in right-handed eyes
    M = np.stack([right, up, forward], axis=1)
    return M, -(target + 100 * away / np.linalg.norm(away)) @ M, float(rng.uniform(15, 30))


def pixels_of(points: np.ndarray, camera: tuple[np.ndarray, np.ndarray, float]) -> np.ndarray:
    """The formula of section 12 of the specification: from the picture's corner."""
    M, t, fov = camera
    C = points @ M + t
    f = SIZE[0] / 2 / np.tan(np.radians(fov) / 2)
    return np.stack([SIZE[0] / 2 + f * C[:, 0] / C[:, 2], SIZE[1] / 2 - f * C[:, 1] / C[:, 2]], axis=1)


def write_picture(folder: Path, name: str, pixels: np.ndarray, mask_name: str | None) -> None:
    """A dark picture with an orange dot on the first joint; the mask is the hull of the joints."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5  # pixel centres, from the corner
    dot = 255 * np.exp(-((columns - pixels[0, 0]) ** 2 + (rows - pixels[0, 1]) ** 2) / 8)
    cv2.imwrite(str(folder / f"{name}.JPG"), np.stack([dot * 0.2, dot * 0.6, dot], -1).astype(np.uint8))
    if mask_name is not None:
        mask = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
        cv2.fillConvexPoly(mask, cv2.convexHull(np.round(pixels - 0.5).astype(np.int32)), (0, 0, 200))
        cv2.imwrite(str(folder / f"{mask_name}.png"), mask)


def write_set(
    folder: Path,
    body: BodyModel,
    *,
    samples: int = 3,
    cameras: tuple[str, ...] = ("",),
    masks: bool = True,
    old: bool = False,
    num_betas: int = 5,
    hidden: Mapping[int, str] | None = None,
) -> dict[str, Any]:
    """Write a set; returns the ground truth of each sample: points (Unreal), quaternions, betas, cameras."""
    folder.mkdir(parents=True, exist_ok=True)
    batch = {"Name": folder.name, "Image Resolution": {"x": SIZE[0], "y": SIZE[1]}}
    (folder / f"_BatchData_{folder.name}.json").write_text(json.dumps(batch))
    rng = np.random.default_rng(0)
    truth: dict[str, Any] = {}
    for number in range(samples):
        points = rng.uniform(-6, 6, (body.num_joints, 3)) + rng.normal(size=3) * 30
        points[0] = points[1:].mean(0)
        local = Rotation.random(body.num_joints, random_state=rng)
        root = Rotation.random(random_state=rng).as_quat()
        betas = rng.normal(size=num_betas)
        views = {}
        for camera in cameras:
            views[camera] = unreal_camera(rng, points.mean(0))
            M, t, fov = views[camera]
            pixels = pixels_of(points, views[camera])
            stem = f"{folder.name}_{number:05d}" if camera else f"{folder.name}_{number:02d}"
            end = f"_CAM{camera}" if camera else ""
            write_picture(folder, stem + end, pixels, f"{stem}_ID{end}" if masks else None)
            planes = {f"{a}Plane": dict(zip("xyz", row, strict=True)) for a, row in zip("xyzw", [*M, t], strict=True)}
            joints = {}
            for j, name in enumerate(body.joint_names):
                joints[name] = {"2DPos": dict(zip("xy", pixels[j], strict=True))}
                joints[name]["3DPos"] = dict(zip("xyz", points[j], strict=True))
                if not old:
                    joints[name]["quaternion"] = dict(zip("xyzw", local[j].as_quat(), strict=True))
                    joints[name]["globalRotation"] = dict(zip("xyzw", root, strict=True))
            animal: dict[str, Any] = {"keypoints": joints}
            if not old:
                animal["shape betas"] = {f"PC_{i + 1:02d}": value for i, value in enumerate(betas)}
                animal["ScaleWeights"], animal["TranslationWeights"] = list(0.1 * betas), list(betas)
            absent = hidden is not None and hidden.get(number) == camera
            data = {
                "iteration": number,
                "camera": {"FOV": fov, "View Matrix": planes},
                "subject Data": [] if absent else [{"1": animal}],
            }
            (folder / f"{stem}{end}.json").write_text(json.dumps({"iterationData": data}))
        truth[f"{number}"] = {"points": points, "local": local, "root": root, "betas": betas, "views": views}
    return truth


def reprojected(sample: Sample, view: int = 0) -> np.ndarray:
    points = sample.keypoints_world @ sample.cam_from_world[view, :3, :3].T + sample.cam_from_world[view, :3, 3]
    pixels = points @ sample.K[view].T
    return np.asarray(pixels[:, :2] / pixels[:, 2:])


@pytest.mark.parametrize("crop", ["default", "centred", "bbox_crop", "mask_crop"])
def test_points_through_the_camera_give_the_2d_labels_in_every_crop_mode(tmp_path: Path, body, crop) -> None:
    write_set(tmp_path / "ants", body)
    samples = list(iter_replicant(tmp_path / "ants", body, 96, crop=crop))
    assert [sample.frame for sample in samples] == [0, 1, 2]
    for sample in samples:
        seen = sample.visibility[0] > 0
        assert seen.sum() >= 5
        np.testing.assert_allclose(reprojected(sample)[seen], sample.keypoints_px[0][seen], atol=2e-3)


@pytest.mark.parametrize("crop", ["default", "bbox_crop"])
def test_the_dot_on_the_root_is_where_its_keypoint_is(tmp_path: Path, body, crop) -> None:
    write_set(tmp_path / "ants", body)
    for sample in iter_replicant(tmp_path / "ants", body, 128, crop=crop):
        red = sample.images[0, ..., 0].astype(float)
        assert sample.images[0, ..., 2].max() < 0.5 * red.max(), "red came back blue"
        red[red < 30] = 0
        rows, columns = np.mgrid[:128, :128]
        centre = np.array([(red * columns).sum(), (red * rows).sum()]) / red.sum()
        # 0.05 px of the original picture, enlarged; JPEG takes most of it
        np.testing.assert_allclose(centre, sample.keypoints_px[0, 0], atol=0.05 * 128 / sample.native_size_wh.min())


def test_the_body_frame_is_the_root_bone_and_rotations_are_mirrored(tmp_path: Path, body) -> None:
    truth = write_set(tmp_path / "ants", body, samples=1)["0"]
    sample = next(iter_replicant(tmp_path / "ants", body, 64))
    np.testing.assert_array_equal(sample.keypoints_world[0], 0)
    np.testing.assert_array_equal(sample.rotations[0], np.eye(3))
    distances = np.linalg.norm(truth["points"] - truth["points"][0], axis=1)
    np.testing.assert_allclose(np.linalg.norm(sample.keypoints_world, axis=1), distances, rtol=1e-5)
    vectors = truth["local"].as_rotvec() * np.array([-1, 1, -1])
    np.testing.assert_allclose(sample.rotations[1:], Rotation.from_rotvec(vectors[1:]).as_matrix(), atol=1e-6)
    np.testing.assert_allclose(sample.betas, truth["betas"], rtol=1e-6)
    assert sample.has_betas
    assert sample.has_joint_rotations
    assert sample.has_root_rotation
    assert sample.has_translation


def test_limb_weights_become_scales_by_the_models_components(tmp_path: Path, body) -> None:
    truth = write_set(tmp_path / "ants", body, samples=1)["0"]
    sample = next(iter_replicant(tmp_path / "ants", body, 64))
    assert sample.has_log_scales
    scales = 1 + np.einsum("cja,c->ja", body.scaledirs.numpy(), 0.1 * truth["betas"])
    np.testing.assert_allclose(sample.log_scales, np.log(np.maximum(scales, 1e-4)), atol=1e-5)
    offsets = 0.01 * np.einsum("cja,c->ja", body.transdirs.numpy(), truth["betas"])
    np.testing.assert_allclose(sample.joint_offsets, offsets, atol=1e-6)


def test_coefficients_that_do_not_fit_the_model_are_unknown_and_told_once(tmp_path: Path, body) -> None:
    write_set(tmp_path / "ants", body, num_betas=13)
    notes = Notes()
    samples = list(iter_replicant(tmp_path / "ants", body, 64, notes=notes))
    assert len(samples) == 3
    assert not any(sample.has_betas or sample.has_log_scales for sample in samples)
    assert notes.warnings.count("shape betas: the set has 13 coefficients, the model 5: they are left out") == 1


def test_old_sets_with_positions_only_give_points_but_no_rotations(tmp_path: Path, body) -> None:
    write_set(tmp_path / "ants", body, old=True)
    for sample in iter_replicant(tmp_path / "ants", body, 64):
        assert not sample.has_root_rotation
        assert not sample.has_joint_rotations
        assert sample.has_translation
        seen = sample.visibility[0] > 0
        np.testing.assert_allclose(reprojected(sample)[seen], sample.keypoints_px[0][seen], atol=2e-3)


def test_many_cameras_share_one_world_and_views_without_the_animal_stay_empty(tmp_path: Path, body) -> None:
    truth = write_set(tmp_path / "ants", body, cameras=("10", "2", "0"), hidden={1: "2"})
    samples = list(iter_replicant(tmp_path / "ants", body, 64))
    assert [sample.camera_slots.tolist() for sample in samples] == [[0, 1, 2], [0, -1, 2], [0, 1, 2]]
    for number, sample in enumerate(samples):
        for view in np.flatnonzero(sample.view_mask):
            seen = sample.visibility[view] > 0
            np.testing.assert_allclose(reprojected(sample, view)[seen], sample.keypoints_px[view][seen], atol=5e-3)
        # centimetres times 0.1
        spread = np.linalg.norm(truth[str(number)]["points"] - truth[str(number)]["points"][0], axis=1)
        np.testing.assert_allclose(np.linalg.norm(sample.keypoints_world, axis=1), 0.1 * spread, rtol=1e-5)


def test_joints_off_the_mask_are_hidden_and_joints_next_to_it_are_not(tmp_path: Path, body) -> None:
    write_set(tmp_path / "ants", body, samples=1)
    path = tmp_path / "ants" / "ants_00_ID.png"
    everything = next(iter_replicant(tmp_path / "ants", body, 64)).visibility[0]
    mask = cv2.imread(str(path))
    mask[:, : SIZE[0] // 2] = 0
    cv2.imwrite(str(path), mask)
    half = next(iter_replicant(tmp_path / "ants", body, 64))
    kept = half.visibility[0] > 0
    assert 0 < kept.sum() < (everything > 0).sum()
    native_x = (half.keypoints_px[0, kept, 0] + 0.5) * SIZE[0] / 64
    assert native_x.min() > SIZE[0] / 2 - 6


def test_the_depth_test_hides_what_lies_behind_a_surface(tmp_path: Path, body) -> None:
    truth = write_set(tmp_path / "ants", body, samples=1, cameras=("0", "1"))["0"]
    for camera, (M, t, _) in truth["views"].items():
        depth = (truth["points"] @ M + t)[:, 2]
        levels = np.full((SIZE[1], SIZE[0], 3), (np.median(depth) - 5) * 255 / 1000, np.uint8)
        cv2.imwrite(str(tmp_path / "ants" / f"ants_00000_Depth_CAM{camera}.png"), levels)
    plain = next(iter_replicant(tmp_path / "ants", body, 64))
    tested = next(iter_replicant(tmp_path / "ants", body, 64, depth_test=True))
    assert 0 < (tested.visibility > 0).sum() < (plain.visibility > 0).sum()


def test_shards_together_are_the_whole_in_its_order(tmp_path: Path, body) -> None:
    write_set(tmp_path / "ants", body, samples=5)
    frames = [s.frame for part in range(3) for s in iter_replicant(tmp_path / "ants", body, 32, shard=(part, 3))]
    assert frames == [0, 1, 2, 3, 4]


def test_samples_with_few_visible_keypoints_are_counted_and_left_out(tmp_path: Path, body) -> None:
    write_set(tmp_path / "ants", body)
    notes = Notes()
    assert not list(iter_replicant(tmp_path / "ants", body, 32, min_visible_keypoints=99, notes=notes))
    assert notes.dropped["fewer than 99 visible keypoints"] == 3
    with pytest.raises(InputError, match="no sample is left to write"):
        convert_replicant(tmp_path / "ants", tmp_path / "out.h5", body, min_visible_keypoints=99)
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize("cameras", [("",), ("0", "1")])
def test_a_set_becomes_a_file_and_the_file_is_the_same_every_time(tmp_path: Path, body, cameras) -> None:
    write_set(tmp_path / "ants", body, cameras=cameras)
    for name in ("a.h5", "b.h5"):
        done = convert_replicant(tmp_path / "ants", tmp_path / name, body, resolution=48)
        assert done.num_samples == 3
    import h5py

    with h5py.File(tmp_path / "a.h5") as one, h5py.File(tmp_path / "b.h5") as two:
        names: list[str] = []
        one.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(names) > 10
        for name in names:
            for left, right in zip(one[name][:], two[name][:], strict=True):
                np.testing.assert_array_equal(left, right)


def break_json(folder: Path, change: str) -> None:
    path = folder / "ants_01.json"
    data = json.loads(path.read_text())
    inner = data["iterationData"]
    if change == "fov":
        inner["camera"]["FOV"] = 0
    elif change == "subject":
        inner["subject Data"] = [{"2": inner["subject Data"][0]["1"]}]
    elif change == "view":
        del inner["camera"]["View Matrix"]["yPlane"]
    elif change == "position":
        next(iter(inner["subject Data"][0]["1"]["keypoints"].values()))["3DPos"] = {"x": "far"}
    elif change == "names":
        animal = inner["subject Data"][0]["1"]
        animal["keypoints"] = {f"bone{i}": value for i, value in enumerate(animal["keypoints"].values())}
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("fov", "camera.FOV: degrees between 0 and 180 are expected, this is 0"),
        ("subject", "no subject '1'; there are 2"),
        ("view", "yPlane: missing"),
        ("position", "3DPos: numbers x, y, z are expected"),
        ("names", "none of the joints bone0, bone1"),
    ],
)
def test_a_damaged_sample_is_named_with_what_is_wrong(tmp_path: Path, body, change: str, message: str) -> None:
    write_set(tmp_path / "ants", body)
    break_json(tmp_path / "ants", change)
    with pytest.raises(InputError) as caught:
        list(iter_replicant(tmp_path / "ants", body, 32))
    assert message in str(caught.value)
    assert "ants_01" in str(caught.value)


def test_missing_and_misfitting_pictures_are_told(tmp_path: Path, body) -> None:
    with pytest.raises(InputError, match="the folder of a replicAnt set is expected"):
        list(iter_replicant(tmp_path, body, 32))
    write_set(tmp_path / "ants", body)
    cv2.imwrite(str(tmp_path / "ants" / "ants_01.JPG"), np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(InputError, match=r"ants_01.JPG: 50x50 pixels, but _BatchData says 160x120"):
        list(iter_replicant(tmp_path / "ants", body, 32))
    (tmp_path / "ants" / "ants_01.JPG").unlink()
    with pytest.raises(InputError, match=r"ants_01.json: its picture ants_01.JPG is missing"):
        list(iter_replicant(tmp_path / "ants", body, 32))


@pytest.mark.parametrize("number", [0, 3, 7])
def test_real_samples_agree_with_the_reference(real_data: Path, reference, number: int) -> None:
    """Reference values were computed by the original; its cameras are PyTorch3D's."""
    vectors = {k.split("/")[1]: v for k, v in reference("replicant").items() if k.startswith(f"{number:02d}/")}
    stick = read_model(real_data / "models" / "SMILy_STICK.pkl")
    found = {s.frame: s for s in iter_replicant(real_data / "replicant" / "replicAnt-x-SMIL-TEX", stick, 1024)}
    sample = found[number]
    R, T = opencv_to_pytorch3d(torch.from_numpy(sample.cam_from_world[0]))
    np.testing.assert_allclose(R.numpy(), vectors["cam_rot"], atol=2e-6)
    np.testing.assert_allclose(T.numpy(), vectors["cam_trans"], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(sample.keypoints_world, vectors["keypoints_3d"], rtol=1e-5, atol=1e-5)
    rotations = Rotation.from_rotvec(vectors["joint_angles"]).as_matrix()
    np.testing.assert_allclose(sample.rotations[1:], rotations[1:], atol=1e-6)
    np.testing.assert_array_equal(sample.visibility[0] > 0, vectors["keypoint_visibility"] > 0)
    # the original measures from the corner of the picture, we from the centre of its first pixel
    seen = sample.visibility[0] > 0
    pixels = vectors["keypoints_2d"][:, ::-1] * 1024 - 0.5
    np.testing.assert_allclose(sample.keypoints_px[0][seen], pixels[seen], atol=1e-3)
    np.testing.assert_allclose(
        sample.K[0], [[vectors["fx"], 0, 511.5], [0, vectors["fy"], 511.5], [0, 0, 1]], rtol=1e-6
    )


def test_real_old_sets_with_masks_are_read(real_data: Path) -> None:
    stick = read_model(real_data / "models" / "SMILy_STICK.pkl")
    samples = list(iter_replicant(real_data / "replicant" / "SMIL", stick, 128, crop="mask_crop"))
    assert [sample.frame for sample in samples] == [1, 3, 7, 9]
    assert all(sample.has_mask[0] and sample.masks[0].mean() > 0.03 for sample in samples)
