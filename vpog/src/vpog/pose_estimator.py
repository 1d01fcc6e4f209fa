"""Poses of known objects in pictures: what a notebook or a robot calls."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from posecore.devices import choose_device
from posecore.errors import InputError
from vpog.config.inference import InferenceConfig
from vpog.config.run import VpogConfig
from vpog.data.crop import crop_mask, crop_matrix, crop_rgb
from vpog.data.groups import scaled_box
from vpog.data.opening import info_of_points
from vpog.data.template_set import TemplateSet
from vpog.inference.hypotheses import Hypotheses, Query, joined, solve_groups
from vpog.inference.objects import KnownObject, TemplateBank, encode_templates, neighbours, view_groups
from vpog.inference.ranking import distinct_poses
from vpog.inference.scoring import score_views
from vpog.loading import load_network
from vpog.model.network import VpogNetwork
from vpog.objects.mesh import Mesh
from vpog.objects.models_info import ModelInfo, symmetry_transforms
from vpog.pnp.records import Failure
from vpog.templates import templates_of_mesh
from vpog.views import Level, direction_of


@dataclass(frozen=True)
class Detection:
    """An object that was seen: where, and which one."""

    obj_id: int
    image: int = 0
    """Place of its picture in the list."""
    box_xyxy: Float[np.ndarray, "4"] | None = None
    """x1, y1, x2, y2 px; the last two are one past the last pixel. Not needed with a mask."""
    mask: Bool[np.ndarray, "h w"] | None = None
    """Visible pixels."""
    hint_mm: Float[np.ndarray, "4 4"] | None = None
    """A pose to look near (mode subset)."""


@dataclass(frozen=True)
class Pose:
    """A pose and how sure it is."""

    cam_from_obj_mm: Float[np.ndarray, "4 4"]
    score: float
    """0..1, comparable across objects: how much of the crop is matched and agrees with the pose."""
    num_inliers: int
    num_pairs: int
    view_id: int
    """Template that explains most."""
    covariance: Float[np.ndarray, "6 6"]
    """Of translation (mm) and rotation (rad, about the camera's axes)."""


@dataclass(frozen=True)
class DetectionPoses:
    """What was found for one detection: poses, best first, or why there is none."""

    detection: Detection
    poses: tuple[Pose, ...]
    failure: str | None
    """None where there is a pose."""


@dataclass(frozen=True)
class Seconds:
    """Of one call, by stage."""

    crop: float = 0.0
    encode: float = 0.0
    score: float = 0.0
    solve: float = 0.0
    refine: float = 0.0

    @property
    def total(self) -> float:
        return self.crop + self.encode + self.score + self.solve + self.refine


@dataclass(frozen=True)
class Estimates:
    """Answers in the order of the detections."""

    results: tuple[DetectionPoses, ...]
    seconds: Seconds


@dataclass
class PoseEstimator:
    """Finds poses of the objects that it was shown. Objects are encoded once, when they are added.

    Example:
        estimator = PoseEstimator.load(Path("runs/tiny"))
        estimator.add_mesh(1, read_mesh(Path("mug.ply")))
        answer = estimator.estimate([picture], [K], [Detection(obj_id=1, box_xyxy=np.array([40, 30, 200, 180.0]))])
    """

    network: VpogNetwork
    config: VpogConfig
    device: torch.device
    inference: InferenceConfig
    objects: dict[int, KnownObject] = field(default_factory=dict)

    @classmethod
    def load(cls, checkpoint: Path, device: str = "auto", inference: InferenceConfig | None = None) -> Self:
        """
        Raises:
            InputError: No such checkpoint, damaged, or of another system.
        """
        loaded = load_network(checkpoint, choose_device(device))
        return cls(loaded.network, loaded.config, loaded.device, inference or loaded.config.inference)

    @property
    def crop_px(self) -> int:
        return self.config.model.img_size

    def add_mesh(self, obj_id: int, mesh: Mesh, info: ModelInfo | None = None, level: Level = 1) -> KnownObject:
        """Render templates of a mesh and encode them.

        Args:
            info: Diameter and symmetries; None: the mesh's diameter, no symmetry.
            level: Of the view sphere: 0, 1, 2 for 42, 162, 642 views.
        """
        info = info or info_of_points(mesh.vertices_mm)
        return self.add_templates(templates_of_mesh(mesh, obj_id, level=level, size=self.crop_px), info)

    @torch.no_grad()
    def add_templates(self, templates: TemplateSet, info: ModelInfo) -> KnownObject:
        """Encode the templates of an object.

        Raises:
            InputError: There are none, or they are of another size than the network's crops.
        """
        if not len(templates) or templates.rgb.shape[1] != self.crop_px:
            raise InputError(
                f"object {templates.obj_id}: has {len(templates)} templates of {templates.rgb.shape[1]} px; the network "
                f"needs some of {self.crop_px} px"
            )
        tokens = encode_templates(self.network, templates, self.device)
        known = KnownObject(
            templates.obj_id, templates, tokens, direction_of(templates.cam_from_obj_mm, rule="optical_axis"), info
        )
        self.objects[templates.obj_id] = known
        return known

    @torch.no_grad()
    def estimate(
        self,
        images: Sequence[UInt8[np.ndarray, "h w 3"]],
        K: Sequence[Float[np.ndarray, "3 3"]],
        detections: Sequence[Detection],
    ) -> Estimates:
        """Poses of several objects of any classes in several pictures, as one batch.

        Args:
            images: RGB.
            K: Of each picture, px.

        Raises:
            InputError: An unknown object, a box outside of its picture, an empty mask, intrinsics without focal length.
        """
        if not detections:
            return Estimates((), Seconds())
        marks = [time.perf_counter()]
        crops = [self._crop(images, K, number, detection) for number, detection in enumerate(detections)]
        marks.append(time.perf_counter())
        query = self._encode(crops, detections)
        marks.append(time.perf_counter())
        asked = {detection.obj_id for detection in detections}
        bank = TemplateBank({key: self.objects[key] for key in sorted(asked)}, self.device)
        owner, groups = self._groups(query, bank, detections)
        marks.append(time.perf_counter())
        found = solve_groups(self.network, query, bank, owner, groups, self.inference)
        marks.append(time.perf_counter())
        for _ in range(self.inference.refinements):
            found = self._refined(query, bank, detections, found)
        marks.append(time.perf_counter())
        results = tuple(self._result(number, detection, bank, found) for number, detection in enumerate(detections))
        return Estimates(results, Seconds(*np.diff(marks).tolist()))

    def _crop(
        self,
        images: Sequence[np.ndarray],
        intrinsics: Sequence[np.ndarray],
        number: int,
        detection: Detection,
    ) -> "_Crop":
        where = f"detection {number} (object {detection.obj_id})"
        if detection.obj_id not in self.objects:
            known = ", ".join(map(str, sorted(self.objects))) or "none"
            raise InputError(f"{where}: this object was not added; known are: {known}")
        if len(self.objects[detection.obj_id]) < self.inference.group:
            raise InputError(
                f"{where}: has {len(self.objects[detection.obj_id])} templates, but inference.group is "
                f"{self.inference.group}: the network sees so many together"
            )
        if not 0 <= detection.image < len(images) or len(images) != len(intrinsics):
            raise InputError(f"{where}: picture {detection.image} of {len(images)}, with {len(intrinsics)} intrinsics")
        picture, K = images[detection.image], np.asarray(intrinsics[detection.image], np.float64)
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise InputError(f"{where}: its picture is {picture.dtype} {picture.shape}; uint8 RGB (h, w, 3) is needed")
        if K.shape != (3, 3) or not np.isfinite(K).all() or K[0, 0] <= 0 or K[1, 1] <= 0:
            raise InputError(
                f"{where}: K is {np.round(K, 3).tolist()}; a 3x3 matrix with positive focal lengths is needed"
            )
        box = detection_box(detection, picture.shape[0], picture.shape[1], where)
        crop_from_image = crop_matrix(scaled_box(box, self.config.data.crop_scale), self.crop_px)
        mask = None if detection.mask is None else crop_mask(detection.mask, crop_from_image, self.crop_px)
        rgb = crop_rgb(picture, crop_from_image, self.crop_px)
        if self.config.data.background == "mask":
            if mask is None:
                raise InputError(
                    f"{where}: has no mask, but the network was trained on masked pictures (data.background is mask); give its "
                    "mask, or train with data.background=keep"
                )
            rgb = rgb * mask[..., None]
        return _Crop(rgb, mask, crop_from_image @ K)

    def _encode(self, crops: "Sequence[_Crop]", detections: Sequence[Detection]) -> Query:
        pictures = torch.from_numpy(np.stack([crop.rgb.transpose(2, 0, 1) for crop in crops])).to(self.device)
        tokens = self.network.encode(pictures / 255)
        step = self.network.patch_size
        is_object = [
            np.ones((self.crop_px // step,) * 2, bool)
            if crop.mask is None
            else crop.mask[step // 2 :: step, step // 2 :: step]
            for crop in crops
        ]
        diameters = [self.objects[detection.obj_id].info.diameter_mm for detection in detections]
        return Query(
            tokens,
            torch.from_numpy(np.stack(is_object)).flatten(1).to(self.device),
            torch.from_numpy(np.stack([crop.K for crop in crops])).float().to(self.device),
            torch.tensor(diameters, dtype=torch.float32, device=self.device),
        )

    def _groups(
        self, query: Query, bank: TemplateBank, detections: Sequence[Detection]
    ) -> tuple[Int64[Tensor, " g"], Int64[Tensor, "g s"]]:
        """The groups of views that are solved, and whose they are."""
        mode, size = self.inference.mode, self.inference.group
        if mode == "subset":
            return self._everyones(
                bank, detections, [self._near(d, self._hint_direction(n, d), size) for n, d in enumerate(detections)]
            )
        groups = [view_groups(self.objects[detection.obj_id].directions, size) for detection in detections]
        table = np.full((len(groups), max(map(len, groups)), size), -1)
        for row, detection, own in zip(table, detections, groups, strict=True):
            row[: len(own)] = bank.rows(detection.obj_id, own.ravel()).reshape(own.shape)
        rows = torch.from_numpy(table).to(self.device)
        if mode == "global":
            real = (rows >= 0).all(-1)
            return real.nonzero()[:, 0], rows[real]
        scores = (
            score_views(self.network, query.tokens, query.is_object, bank, rows, self.inference.view_chunk * 4)
            .cpu()
            .numpy()
        )
        chosen = []
        for detection, own, score in zip(detections, groups, scores, strict=True):
            chosen.append(self._best_views(detection, own, score[: len(own)], size))
        return self._everyones(bank, detections, chosen)

    def _best_views(
        self, detection: Detection, groups: Int64[np.ndarray, "g s"], score: Float[np.ndarray, "g s"], size: int
    ) -> Int64[np.ndarray, " s"]:
        """The views of the highest score, and the neighbours of the best of them."""
        known = self.objects[detection.obj_id]
        best = np.full(len(known), -np.inf)
        np.maximum.at(best, groups.ravel(), score.ravel())
        kept = np.argsort(-best, kind="stable")[: min(self.inference.kept_views, size)].tolist()
        near = [
            view for view in neighbours(known.directions, known.directions[kept[0]], len(known)) if view not in kept
        ]
        return np.array([*kept, *near[: size - len(kept)]])

    def _near(self, detection: Detection, direction: Float[np.ndarray, "3"], size: int) -> Int64[np.ndarray, " s"]:
        return np.array(neighbours(self.objects[detection.obj_id].directions, direction, size))

    def _hint_direction(self, number: int, detection: Detection) -> Float[np.ndarray, "3"]:
        if detection.hint_mm is None:
            raise InputError(
                f"detection {number} (object {detection.obj_id}): mode subset needs a hint, a pose to look near"
            )
        return direction_of(detection.hint_mm)

    def _everyones(
        self, bank: TemplateBank, detections: Sequence[Detection], views: Sequence[Int64[np.ndarray, " s"]]
    ) -> tuple[Int64[Tensor, " g"], Int64[Tensor, "g s"]]:
        """One group each."""
        rows = [bank.rows(detection.obj_id, own) for detection, own in zip(detections, views, strict=True)]
        return torch.arange(len(rows), device=self.device), torch.from_numpy(np.stack(rows)).to(self.device)

    def _refined(
        self, query: Query, bank: TemplateBank, detections: Sequence[Detection], found: Hypotheses
    ) -> Hypotheses:
        """Match each detection once more with the views around its best pose; better scores are found by ranking."""
        size = self.inference.group
        views, owners = [], []
        for number, detection in enumerate(detections):
            own = (found.query == number).nonzero()[:, 0]
            best = own[found.score[own].argmax()]
            if found.failure[best] == Failure.NONE:
                direction = direction_of(found.cam_from_obj_mm[best].double().cpu().numpy())
                views.append(bank.rows(detection.obj_id, self._near(detection, direction, size)))
                owners.append(number)
        if not owners:
            return found
        rows = torch.from_numpy(np.stack(views)).to(self.device)
        again = solve_groups(
            self.network, query, bank, torch.tensor(owners, device=self.device), rows, self.inference, seed=1
        )
        return joined(found, again)

    def _result(self, number: int, detection: Detection, bank: TemplateBank, found: Hypotheses) -> DetectionPoses:
        own = (found.query == number).nonzero()[:, 0]
        solved = own[found.failure[own] == Failure.NONE]
        if not len(solved):
            worst = Failure(int(found.failure[own[0]]))
            return DetectionPoses(detection, (), worst.reason)
        info = self.objects[detection.obj_id].info
        poses = found.cam_from_obj_mm[solved].double().cpu().numpy()
        kept = distinct_poses(
            poses,
            found.score[solved].cpu().numpy(),
            self.inference.hypotheses,
            symmetry_transforms(info),
            self.inference.merge_deg,
            self.inference.merge_diameter * info.diameter_mm,
        )
        views = self.objects[detection.obj_id].templates.view_ids
        first = bank.start[detection.obj_id]
        return DetectionPoses(
            detection,
            tuple(
                Pose(
                    poses[index],
                    float(found.score[row]),
                    int(found.num_inliers[row]),
                    int(found.num_pairs[row]),
                    int(views[int(found.view[row]) - first]),
                    found.covariance[row].cpu().numpy(),
                )
                for index, row in ((i, int(solved[i])) for i in kept)
            ),
            None,
        )


@dataclass(frozen=True)
class _Crop:
    rgb: UInt8[np.ndarray, "size size 3"]
    mask: Bool[np.ndarray, "size size"] | None
    K: Float[np.ndarray, "3 3"]


def detection_box(detection: Detection, height: int, width: int, where: str) -> Float[np.ndarray, "4"]:
    """The box of a detection, or of its mask.

    Raises:
        InputError: Neither is given, the mask is empty or of another size, the box has no area or lies outside.
    """
    if detection.mask is not None:
        if detection.mask.shape != (height, width):
            raise InputError(f"{where}: its mask is {detection.mask.shape}, the picture {(height, width)}")
        rows, columns = np.flatnonzero(detection.mask.any(1)), np.flatnonzero(detection.mask.any(0))
        if not len(rows):
            raise InputError(f"{where}: its mask is empty")
        if detection.box_xyxy is None:
            return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)
    if detection.box_xyxy is None:
        raise InputError(f"{where}: has neither a box nor a mask")
    box = np.asarray(detection.box_xyxy, np.float64)
    if box.shape != (4,) or not np.isfinite(box).all() or not (box[:2] < box[2:]).all():
        raise InputError(f"{where}: box {box.tolist()} has no area; x1, y1, x2, y2 with x1 < x2 and y1 < y2 is needed")
    if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
        raise InputError(f"{where}: box {box.tolist()} lies outside of the picture of {width} x {height} px")
    return box
