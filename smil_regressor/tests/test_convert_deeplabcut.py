"""DeepLabCut tables, and pictures in which a mirror shows two views."""

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from posecore.errors import InputError
from smil_regressor.data.converters.convert import convert_deeplabcut
from smil_regressor.data.converters.crops import crop_box
from smil_regressor.data.converters.deeplabcut import FusedView, iter_deeplabcut, read_deeplabcut
from smil_regressor.data.converters.notes import Notes
from smil_regressor.data.converters.views import View, crop_view
from smil_regressor.data.insect import insect_body

JOINTS = ("b_t", "b_h", "b_a_1")
VIEWS = [FusedView("top", "_top", (0, 0, 80, 40)), FusedView("bottom", "_bot", (0, 40, 80, 60))]


def write_table(folder: Path, *, columns: int = 1) -> Path:
    """Two pictures of 80x100 pixels; b_a_1 is seen from below only, b_h is not labelled in the second."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["b_t_top", "b_h_top", "b_t_bot", "b_h_bot", "b_a_1_bot"]
    empty = "," * (columns - 1)
    lines = [
        f"scorer{empty}," + ",".join("me" for _ in names for _ in "xy"),
        f"bodyparts{empty}," + ",".join(name for name in names for _ in "xy"),
        f"coords{empty}," + ",".join("x,y" for _ in names),
    ]
    values = ["10,20,30,10,10,50,30,60,50,90", "12,22,,,12,52,,,52,92"]
    for number, row in enumerate(values):
        picture = f"img{number}.png"
        path = picture if columns == 1 else f"labeled-data,video,{picture}"
        lines.append(f"{path},{row}")
        image = np.zeros((100, 80, 3), np.uint8)
        image[50 + 2 * number, 10 + 2 * number] = (0, 0, 255)
        cv2.imwrite(str(folder / picture), image)
    (folder / "CollectedData.csv").write_text("\n".join(lines) + "\n")
    return folder / "CollectedData.csv"


@pytest.mark.parametrize("columns", [1, 3])
def test_empty_cells_are_missing_points_and_paths_may_take_three_columns(tmp_path: Path, columns: int) -> None:
    labels = read_deeplabcut(write_table(tmp_path, columns=columns))
    assert labels.names[:2] == ("b_t_top", "b_h_top")
    assert labels.pictures[1] == ("img1.png" if columns == 1 else "labeled-data/video/img1.png")
    np.testing.assert_array_equal(labels.points_px[0, 4], [50, 90])
    assert np.isnan(labels.points_px[1, 1]).all()


def test_the_views_of_a_fused_picture_become_slots_with_their_own_pixels(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    notes = Notes()
    samples = list(iter_deeplabcut(table, tmp_path, VIEWS, JOINTS, 5, 60, notes=notes))
    assert samples[0].view_mask.tolist() == [True, True]
    assert samples[1].view_mask.tolist() == [False, True]  # one labelled point in the top view is too few
    assert (samples[0].visibility > 0).tolist() == [[True, True, False], [True, True, True]]
    # from the region (0, 40, 80, 60) to 60x60: x' = (x + .5) .75 - .5, y' = y - 40
    np.testing.assert_allclose(samples[0].keypoints_px[1, 2], [50.5 * 0.75 - 0.5, 50], atol=1e-6)
    assert not samples[0].has_camera.any()
    row, column = np.unravel_index(samples[0].images[1, ..., 0].argmax(), (60, 60))
    np.testing.assert_allclose([column, row], samples[0].keypoints_px[1, 0], atol=1)


def test_a_fused_set_becomes_a_file_and_missing_pictures_are_counted(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    (tmp_path / "img0.png").unlink()
    done = convert_deeplabcut(table, tmp_path, tmp_path / "out.h5", insect_body("simple"), VIEWS, resolution=32)
    assert done.num_samples == 1
    assert done.notes == ("left out 1: the picture is not in the folder",)
    with h5py.File(tmp_path / "out.h5") as file:
        assert not file["metadata"].attrs["has_camera_parameters"]
        assert file["multiview_images/view_mask"][:].tolist() == [[False, True]]


def test_a_lookup_may_name_joints_of_another_view_but_not_of_none(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    lookup = {"thorax": "b_t", "head": "b_h", "abdomen": "b_a_1"}
    sample = next(iter_deeplabcut(table, tmp_path, VIEWS, tuple(lookup), 5, 32, joint_lookup=lookup))
    assert (sample.visibility[0] > 0).tolist() == [True, True, False]
    with pytest.raises(InputError, match="data joint 'wing' does not exist"):
        list(iter_deeplabcut(table, tmp_path, VIEWS, ("w",), 5, 32, joint_lookup={"w": "wing"}))


def test_a_wrong_table_or_region_is_told(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    with pytest.raises(InputError, match=r"region 0,0,80,140 of view all leaves the picture \(80x100 pixels\)"):
        list(iter_deeplabcut(table, tmp_path, [FusedView("all", "_top", (0, 0, 80, 140))], JOINTS, 5, 32))
    table.write_text(table.read_text().replace("12,22", "12,high"))
    with pytest.raises(InputError, match="could not convert string to float: 'high'"):
        read_deeplabcut(table)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="must begin with scorer, bodyparts and coords"):
        read_deeplabcut(table)


@pytest.mark.parametrize("mode", ["default", "centred", "bbox_crop"])
def test_crops_agree_with_the_reference_up_to_the_half_pixel(reference, mode: str) -> None:
    """The original scales x' = (x - x0) k, which is half a pixel off for pixel centres at integers."""
    vectors = reference("preprocess")
    keypoints, size = vectors["keypoints"].astype(float), int(vectors["target"])
    view = View(vectors["image"], keypoints, np.ones(len(keypoints)), vectors["K"].astype(float), np.eye(4))
    box = crop_box(mode, (128, 96), keypoints, np.ones(len(keypoints), bool), None)
    assert box is not None
    assert (box[1], box[0]) == tuple(vectors[f"{mode}_offset_yx"])
    assert (int(box[3]), int(box[2])) == tuple(vectors[f"{mode}_crop_hw"])
    cropped = crop_view(view, mode, size)
    assert cropped is not None
    factor = size / np.array(box[2:])
    np.testing.assert_allclose(
        cropped.keypoints_px, vectors[f"{mode}_keypoints"] + 0.5 * factor - 0.5, atol=1e-4, rtol=1e-5
    )
    K = vectors[f"{mode}_K"].copy()
    K[:2, 2] += 0.5 * factor - 0.5
    np.testing.assert_allclose(cropped.K, K, rtol=1e-5)


def test_a_box_at_the_border_stays_square_and_is_padded(reference) -> None:
    vectors = reference("preprocess")
    keypoints = vectors["bbox_edge_keypoints_in"].astype(float)
    box = crop_box("bbox_crop", (128, 96), keypoints, np.ones(len(keypoints), bool), None)
    assert box is not None
    assert box[2] == box[3] > 96
    cropped = crop_view(View(vectors["image"], keypoints, np.ones(len(keypoints))), "bbox_crop", 56)
    assert cropped is not None
    assert (cropped.image[0] == 0).all(), "what lies outside the picture is black"
    assert (cropped.visibility > 0).all()
    assert crop_box("bbox_crop", (128, 96), keypoints, np.zeros(len(keypoints), bool), None) is None


def test_a_mask_keeps_its_area_when_it_is_resized() -> None:
    rows, columns = np.mgrid[:200, :200]
    mask = (rows - 90) ** 2 + (columns - 110) ** 2 < 50**2
    view = View(np.zeros((200, 200, 3), np.uint8), np.zeros((1, 2)), np.zeros(1), mask=mask)
    small = crop_view(view, "default", 64)
    assert small is not None
    assert small.mask is not None
    assert abs(small.mask.mean() / mask.mean() - 1) < 0.02


def test_real_mirror_pictures_are_split_into_views(real_data: Path) -> None:
    folder = real_data / "multiview" / "mirror_mouse"
    views = [FusedView("top", "_top", (0, 0, 396, 190)), FusedView("bottom", "_bot", (0, 190, 396, 216))]
    names = ("paw1LH", "paw2LF", "paw3RF", "paw4RH", "tailBase", "nose")
    notes = Notes()
    samples = list(iter_deeplabcut(folder / "CollectedData.csv", folder, views, names, 3, 128, notes=notes))
    assert len(samples) == 16
    assert notes.dropped["the picture is not in the folder"] == 74
    assert all(sample.view_mask.all() and (sample.visibility > 0).sum() >= 8 for sample in samples)
