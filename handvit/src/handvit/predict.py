"""The predictor that a notebook or a robot calls: pictures and boxes in, hands in camera coordinates out."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from handvit.cameras import Intrinsics
from handvit.data.patches import fill_patches
from handvit.data.preprocess import prepare_clip, unlabelled_clip
from handvit.data.records import Handedness
from handvit.data.sample import Batch, Sample, collate
from handvit.hand import mirror_rotations
from handvit.loading import LoadedNetwork, load_network
from handvit.model.prediction import HandInput, HandPrediction
from handvit.posing import pose_hands
from posecore.devices import choose_device
from posecore.errors import InputError
from posecore.rotations import matrix_to_axis_angle

Picture = UInt8[np.ndarray, "h w 3"]
Cameras = Intrinsics | Float[np.ndarray, "3 3"] | Float[np.ndarray, "n 3 3"] | float | None
MM = 1000.0
NEAREST_MM = 1.0


@dataclass(frozen=True)
class Hands:
    """n hands in the frames of their pictures' cameras: OpenCV axes, millimetres, pixels with centres at integers.

    Left hands are left hands: their pose is in the left model's convention, their mesh has its faces turned round.
    """

    handedness: tuple[Handedness, ...]
    image_index: Int[np.ndarray, " n"]
    """Which of the given pictures the hand is in."""
    boxes: Float[np.ndarray, "n 4"]
    """As given: x1, y1, x2, y2."""
    K: Float[np.ndarray, "n 3 3"]
    is_depth_assumed: Bool[np.ndarray, " n"]
    """The intrinsics were not given: depth is only as good as the guess 1.2 max(W, H)."""
    rotations: Float[np.ndarray, "n 16 3 3"]
    """Local, root first, absolute (a flat hand is the identity)."""
    pose: Float[np.ndarray, "n 48"]
    """The same as axis-angle."""
    betas: Float[np.ndarray, "n 10"]
    translation_mm: Float[np.ndarray, "n 3"]
    """MANO's transl: the wrist minus J_0(beta)."""
    root_mm: Float[np.ndarray, "n 3"]
    """The wrist."""
    joints_mm: Float[np.ndarray, "n 21 3"]
    vertices_mm: Float[np.ndarray, "n v 3"]
    """778, or none where only parameters are kept (`without_vertices`)."""
    joints_px: Float[np.ndarray, "n 21 2"]
    """nan where a joint is not in front of the camera."""
    hand_size_mm: Float[np.ndarray, " n"]
    """Length of the predicted middle finger."""
    score: Float[np.ndarray, " n"]
    """1 - normalised entropy of the root's heat maps: near 1 where the network is sure of the place, 0 where it knows nothing."""
    right_faces: Int[np.ndarray, "f 3"]
    is_standin: bool
    """Made with the stand-in hand, not with MANO."""

    def __len__(self) -> int:
        return len(self.handedness)

    def faces(self, index: int) -> Int[np.ndarray, "f 3"]:
        """Triangles of a hand's mesh, normals outward."""
        return self.right_faces if self.handedness[index] == "right" else self.right_faces[:, ::-1]

    def rows(self, indices: Sequence[int]) -> "Hands":
        """Some of the hands, in this order."""
        chosen = np.asarray(indices, np.int64)
        values: dict[str, Any] = {name: getattr(self, name)[chosen] for name in _ROWS}
        return replace(self, handedness=tuple(self.handedness[i] for i in chosen.tolist()), **values)

    def without_vertices(self) -> "Hands":
        """A fifth of the memory; `reposing.posed_again` makes the vertices anew."""
        return replace(self, vertices_mm=self.vertices_mm[:, :0])

    @classmethod
    def concatenated(cls, parts: "Sequence[Hands]") -> "Hands":
        """Hands of one predictor, one after the other."""
        values: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ROWS}
        return replace(parts[0], handedness=sum((part.handedness for part in parts), ()), **values)


_ROWS = tuple(field.name for field in fields(Hands) if field.name not in ("handedness", "right_faces", "is_standin"))


class Predictor:
    """Predicts hands from pictures.

    >>> predictor = Predictor.load("runs/stage1")
    >>> hands = predictor(picture, [[120, 80, 260, 230]], "right", K)
    >>> hands.joints_mm.shape
    (1, 21, 3)
    """

    def __init__(self, loaded: LoadedNetwork) -> None:
        self.loaded = loaded

    @classmethod
    def load(cls, checkpoint: Path | str, mano_path: Path | str | None = None, device: str = "auto") -> Self:
        """From a run folder, a checkpoint folder or an export."""
        return cls(
            load_network(Path(checkpoint), None if mano_path is None else Path(mano_path), choose_device(device))
        )

    def __call__(
        self,
        images: Picture | Sequence[Picture],
        boxes: Float[np.ndarray, "n 4"] | Sequence[Sequence[float]],
        handedness: Handedness | Sequence[Handedness] = "right",
        intrinsics: Cameras = None,
        image_index: Sequence[int] | None = None,
    ) -> Hands:
        """Predict n hands as one batch, each by itself. A stage 2 network gets clips of one frame; `streaming` tracks.

        Args:
            images: RGB; one, or several of any sizes.
            boxes: x1, y1, x2, y2 of each hand, px.
            handedness: One for all, or one a hand.
            intrinsics: For all pictures: K, `Intrinsics`, a horizontal field of view in degrees; or one K a hand;
                None: assumed, and told so in the result.
            image_index: The picture of each hand; None: all in the one picture, or hand i in picture i.

        Raises:
            InputError: A box without area or outside of its picture, no focal length, numbers that do not fit.
        """
        request = self.request(images, boxes, handedness, intrinsics, image_index)
        with torch.no_grad():
            batch = self.batch(request)
            return self.answer(request, batch, self.loaded.network(batch.network_input()))

    def request(
        self,
        images: Picture | Sequence[Picture],
        boxes: Float[np.ndarray, "n 4"] | Sequence[Sequence[float]],
        handedness: Handedness | Sequence[Handedness],
        intrinsics: Cameras,
        image_index: Sequence[int] | None = None,
    ) -> "Request":
        """The arguments of a call, checked."""
        pictures = [images] if isinstance(images, np.ndarray) else list(images)
        for number, picture in enumerate(pictures):
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                raise InputError(
                    f"image {number}: {picture.dtype} {picture.shape}; RGB uint8 (h, w, 3) is needed "
                    "(posecore.data.images.decode_image makes it of a file)"
                )
        corners = np.asarray(boxes, np.float64)
        if corners.ndim != 2 or corners.shape[1] != 4 or not len(corners):
            raise InputError(f"boxes: shape {corners.shape}; (n, 4) with x1, y1, x2, y2 is needed")
        sides = [handedness] * len(corners) if isinstance(handedness, str) else list(handedness)
        if len(sides) != len(corners) or not {*sides} <= {"right", "left"}:
            raise InputError(f"handedness: {sides}; right or left is needed for each of {len(corners)} boxes")
        if image_index is None:
            image_index = [0] * len(corners) if len(pictures) == 1 else list(range(len(corners)))
        if len(image_index) != len(corners) or max(image_index) >= len(pictures) or min(image_index) < 0:
            raise InputError(
                f"image_index: {list(image_index)} does not fit {len(corners)} boxes in {len(pictures)} images"
            )
        cameras = _cameras(intrinsics, [pictures[i].shape for i in image_index])
        return Request(pictures, corners, tuple(sides), tuple(image_index), cameras)

    def batch(self, request: "Request") -> Batch:
        """The network's input: one clip of one frame for each hand, patches on the device."""
        device = self.loaded.device
        batch = collate([self._sample(request, index) for index in range(len(request.boxes))])
        moved: dict[str, Any] = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in vars(batch).items()}
        return fill_patches(Batch(**moved), self.loaded.config.model.img_size)

    def _sample(self, request: "Request", index: int) -> Sample:
        camera = request.cameras[index]
        record = unlabelled_clip(
            f"box {index}",
            request.boxes[index][None],
            request.handedness[index],
            np.array([camera.focal]),
            np.array([camera.princpt]),
            np.zeros(1),
        )
        return prepare_clip(record, [request.images[request.image_index[index]]], self.loaded.patch_settings)

    def answer(self, request: "Request", batch: Batch, prediction: HandPrediction) -> Hands:
        """From the network's camera back to the picture's."""
        hand, norm = self.loaded.hand, self.loaded.config.model.norm_by_hand
        posed = pose_hands(hand, prediction, norm_by_hand=norm, with_vertices=True)
        assert posed.vertices_cam_mm is not None
        back = batch.camera_from_network[:, -1]
        is_left = batch.is_left
        local = prediction.rotations[:, -1]
        rest_mm = hand.root_rest_m(prediction.betas[:, -1]) * MM
        local = torch.where(is_left[:, None, None, None], mirror_rotations(local), local)
        mirror = torch.diag(back.new_tensor([-1.0, 1.0, 1.0]))
        turn = torch.where(
            is_left[:, None, None], back @ mirror, back
        )  # M back M of a left hand's root, as R = back Rn M
        rotations = torch.cat([(turn @ local[:, 0])[:, None], local[:, 1:]], 1)
        rest_mm = torch.where(is_left[:, None], rest_mm * rest_mm.new_tensor([-1.0, 1.0, 1.0]), rest_mm)
        joints = posed.joint_cam_mm[:, -1] @ back.mT
        root = joints[:, 0]
        K = np.stack([camera.K for camera in request.cameras])
        joints_mm = _np(joints)
        return Hands(
            handedness=request.handedness,
            image_index=np.array(request.image_index),
            boxes=request.boxes,
            K=K,
            is_depth_assumed=np.array([camera.is_assumed for camera in request.cameras]),
            rotations=_np(rotations),
            pose=_np(matrix_to_axis_angle(rotations).flatten(-2)),
            betas=_np(prediction.betas[:, -1]),
            translation_mm=_np(root - rest_mm),
            root_mm=_np(root),
            joints_mm=joints_mm,
            vertices_mm=_np(posed.vertices_cam_mm[:, -1] @ back.mT),
            joints_px=project_mm(joints_mm, K),
            hand_size_mm=_np(posed.hand_size_mm[:, -1]),
            score=_np(root_confidence(prediction)),
            right_faces=_np(hand.faces),
            is_standin=self.loaded.facts.is_standin,
        )


@dataclass(frozen=True)
class Request:
    """What is asked of the predictor, checked."""

    images: list[Picture]
    boxes: Float[np.ndarray, "n 4"]
    handedness: tuple[Handedness, ...]
    image_index: tuple[int, ...]
    cameras: list[Intrinsics]


def root_confidence(prediction: HandPrediction) -> Float[Tensor, " b"]:
    """1 - entropy of the last frame's root heat maps over that of a uniform one, the mean of the axes."""
    translation = prediction.translation
    maps = [heatmap.log_probabilities[:, -1] for heatmap in translation.heatmaps]
    if translation.uv_log_probabilities is not None:
        maps.append(translation.uv_log_probabilities[:, -1].flatten(1))
    shares = [-(log.exp() * log).sum(-1) / np.log(log.shape[-1]) for log in maps]
    return 1 - torch.stack(shares).mean(0)


def frozen_frames(batch: Batch, timestamps_ms: Float[Tensor, "b t"]) -> HandInput:
    """Cameras of clips whose tokens are known: those of the last frame, repeated; no patches."""
    t = timestamps_ms.shape[1]

    def repeated(values: Tensor) -> Tensor:
        return values[:, -1:].expand(-1, t, *values.shape[2:])

    return HandInput(
        patches=batch.patch_bbox.new_zeros(len(batch), t, 3, 0, 0),
        patch_bbox=repeated(batch.patch_bbox),
        hand_bbox=repeated(batch.hand_bbox),
        focal=repeated(batch.focal),
        princpt=repeated(batch.princpt),
        timestamp_ms=timestamps_ms,
    )


def _cameras(given: Cameras, shapes: Sequence[tuple[int, ...]]) -> list[Intrinsics]:
    """One camera a hand."""
    sizes = [(shape[1], shape[0]) for shape in shapes]
    if given is None:
        return [Intrinsics.assumed(size) for size in sizes]
    if isinstance(given, Intrinsics):
        return [given] * len(sizes)
    if isinstance(given, int | float):
        return [Intrinsics.from_fov(float(given), size) for size in sizes]
    matrices = np.asarray(given, np.float64)
    if matrices.ndim == 2:
        return [Intrinsics.from_matrix(matrices)] * len(sizes)
    if len(matrices) != len(sizes):
        raise InputError(f"intrinsics: {len(matrices)} matrices for {len(sizes)} hands; one, or one a hand, is needed")
    return [Intrinsics.from_matrix(K) for K in matrices]


def project_mm(points_mm: Float[np.ndarray, "n p 3"], K: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n p 2"]:
    """Pixels of points, each hand's with its own K; nan where a point is not in front of the camera."""
    homogeneous = points_mm @ K.swapaxes(-1, -2)
    depth = np.where(homogeneous[..., 2:] >= NEAREST_MM, homogeneous[..., 2:], np.nan)
    return np.asarray(homogeneous[..., :2] / depth)


def _np(value: Tensor) -> Any:
    return value.detach().cpu().numpy()
