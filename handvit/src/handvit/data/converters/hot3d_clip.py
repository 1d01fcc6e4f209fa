"""The hands of one stream of a HOT3D clip: posed in the world, seen through a pinhole view, with their pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8

from handvit.data.converters.clip_writing import box_problem, tight_boxes
from handvit.data.converters.fisheye_view import (
    FisheyeCamera,
    HandCentred,
    PinholeView,
    look,
    read_camera,
    same_view,
    source_map,
    view_of_box,
)
from handvit.data.converters.hand_frames import HandFrame
from handvit.data.converters.hot3d_files import Hot3dClip, Hot3dHand, picture_name
from handvit.data.converters.mano_labels import posed_joints_mm, rest_root_mm, turn_root
from handvit.data.converters.report import ConversionReport
from handvit.data.geometry import project
from handvit.data.records import Handedness
from handvit.hand import HandModel, pca_to_axis_angle
from handvit.joints import FINGERTIPS, WRIST
from posecore.data.headers import read_header
from posecore.data.images import decode_image
from posecore.errors import InputError

DATASET = "HOT3D"
TIPS = FINGERTIPS["smplx"]
MIN_VISIBILITY = 0.1
BOX_MARGIN = 0.1
"""Of the labelled box's longer side: joints lie inside the mesh, whose box it is."""

NO_LABEL = "the hand has no label"
NO_MANO = "the hand has no MANO label"
HARDLY_VISIBLE = f"the hand's visibility is below {MIN_VISIBILITY:g}"
NO_BOX = "the stream has no box of the hand"
BEHIND = "a joint lies behind the pinhole view"


@dataclass(frozen=True)
class Stored:
    """How pictures are encoded."""

    format: Literal["jpg", "webp", "png"]
    quality: int


@dataclass(frozen=True)
class _WorldHand:
    """A posed hand in the world."""

    label: Hot3dHand
    pose: Float[np.ndarray, "48"]
    joints_mm: Float[np.ndarray, "21 3"]


class Hot3dReader:
    """Reads streams of clips; keeps the last lens map, for a clip's calibration stays."""

    def __init__(
        self,
        hands: Mapping[Handedness, HandModel],
        streams: tuple[str, ...] | None,
        view: HandCentred | None,
        stored: Stored,
        report: ConversionReport,
    ) -> None:
        self._hands, self._streams, self._view, self._stored, self._report = hands, streams, view, stored, report
        self._map_key: tuple[object, ...] = ()
        self._map = np.zeros((0, 0, 2), np.float32)
        self._posed: tuple[Hot3dClip | None, dict[tuple[str, Handedness], _WorldHand | Hot3dHand]] = (None, {})
        self._fits = 0
        self._misfits: list[str] = []

    def streams(self, clip: Hot3dClip) -> list[str]:
        """Of the clip, those that were asked for."""
        there = sorted(clip.cameras(clip.frames[0]))
        if self._streams is None:
            return there
        return [stream for stream in self._streams if stream in there]

    def read(self, clip: Hot3dClip, stream: str) -> dict[Handedness, list[HandFrame]]:
        """Frames of both hands in which they can be used; the others are counted."""
        posed = self._pose_hands(clip)
        found: dict[Handedness, list[HandFrame]] = {side: [] for side in self._hands}
        start_ns = clip.time_ns(clip.frames[0], stream)
        for frame in clip.frames:
            cameras = clip.cameras(frame)
            if stream not in cameras:
                raise InputError(
                    f"{clip.where(f'{frame}.cameras.json')}: has no stream {stream}, unlike the first frame"
                )
            camera = read_camera(cameras[stream], f"{clip.where(f'{frame}.cameras.json')}: {stream}")
            time_ms = (clip.time_ns(frame, stream) - start_ns) / 1e6
            shared: list[bytes] = []  # the whole picture is the same for both hands
            for side in self._hands:
                made = self._frame(clip, frame, stream, side, camera, posed.get((frame, side)), time_ms, shared)
                if made is not None:
                    found[side].append(made)
        return found

    def tell_misfits(self) -> None:
        """Warn where joints did not fall on the labelled boxes: hand files or lens are not those of the labels."""
        if self._misfits:
            self._report.warn(
                f"joints of {len(self._misfits)} of {self._fits} hands lie outside of their boxes_amodal (first: "
                f"{self._misfits[0]}); are the hand models the right ones?"
            )
        self._fits, self._misfits = 0, []

    def _pose_hands(self, clip: Hot3dClip) -> dict[tuple[str, Handedness], _WorldHand | Hot3dHand]:
        """By frame and side, once a clip; a label without MANO stays a label."""
        if self._posed[0] is clip:
            return self._posed[1]
        posed: dict[tuple[str, Handedness], _WorldHand | Hot3dHand] = {}
        labels = {frame: clip.hands(frame) for frame in clip.frames}
        for side, hand in self._hands.items():
            mine = {frame: label for frame, hands in labels.items() if (label := hands.get(side)) is not None}
            posed |= {(frame, side): label for frame, label in mine.items()}
            fitted = {frame: label for frame, label in mine.items() if label.pose is not None}
            if not fitted:
                continue
            poses, joints = _pose_in_world(list(fitted.values()), clip.betas, hand)
            for (frame, label), pose, points in zip(fitted.items(), poses, joints, strict=True):
                posed[frame, side] = _WorldHand(label, pose, points)
        self._posed = (clip, posed)
        return posed

    def _frame(
        self,
        clip: Hot3dClip,
        frame: str,
        stream: str,
        side: Handedness,
        camera: FisheyeCamera,
        hand: _WorldHand | Hot3dHand | None,
        time_ms: float,
        shared: list[bytes],
    ) -> HandFrame | None:
        where = f"{clip.path}: {frame}, {stream}, {side}"
        if not isinstance(hand, _WorldHand):
            self._report.skip(NO_LABEL if hand is None else NO_MANO, where)
            return None
        visibility = hand.label.visibility.get(stream, 0.0)
        if visibility < MIN_VISIBILITY:
            self._report.skip(HARDLY_VISIBLE, where)
            return None
        joints_cam = camera.to_cam_mm(hand.joints_mm)
        self._check_fit(joints_cam, camera, hand.label.boxes.get(stream), where)
        view = same_view(camera) if self._view is None else self._hand_view(camera, hand.label, stream)
        if view is None:
            self._report.skip(NO_BOX, where)
            return None
        joints = joints_cam @ view.view_from_cam_rot.T
        if (joints[:, 2] <= 0).any():
            self._report.skip(BEHIND, where)
            return None
        pixels = project(joints, view.focal, view.princpt)
        if (problem := box_problem(tight_boxes(pixels, np.ones(21)), view.size_wh)) is not None:
            self._report.skip(problem, where)
            return None
        if self._view is not None or not shared:
            shared[:] = [self._picture(clip, frame, stream, camera, view)]
        view_from_world = view.view_from_cam_rot @ camera.world_from_cam_rot.T
        return HandFrame(
            number=int(frame),
            picture=shared[0],
            picture_format=self._stored.format,
            path=f"{clip.path.parent.name}/{clip.path.name}/{picture_name(frame, stream)}",
            focal=view.focal,
            princpt=view.princpt,
            joint_img=pixels,
            joint_cam_mm=joints,
            joint_2d_valid=np.ones(21),
            joint_3d_valid=np.ones(21),
            timestamp_ms=time_ms,
            mano_pose=turn_root(hand.pose[None], view_from_world)[0],
            mano_shape=clip.betas,
            source_index={"clip": f"{clip.path.parent.name}/{clip.path.stem}", "stream": stream, "frame": frame},
            additional_desc={"visibility": visibility, "view_from_cam_rot": view.view_from_cam_rot.tolist()},
        )

    def _hand_view(self, camera: FisheyeCamera, label: Hot3dHand, stream: str) -> PinholeView | None:
        assert self._view is not None
        box = label.boxes.get(stream)
        return None if box is None else view_of_box(camera, box, self._view)

    def _check_fit(
        self,
        joints_cam: Float[np.ndarray, "21 3"],
        camera: FisheyeCamera,
        box: Float[np.ndarray, "4"] | None,
        where: str,
    ) -> None:
        """Do the joints fall on the labelled box, in the picture as it is?"""
        if box is None:
            return
        seen = camera.see(joints_cam)
        margin = BOX_MARGIN * max(box[2] - box[0], box[3] - box[1])
        is_inside = (seen >= box[:2] - margin).all(1) & (seen <= box[2:] + margin).all(1)
        self._fits += 1
        if not is_inside[np.isfinite(seen).all(1)].all():
            self._misfits.append(where)

    def _picture(self, clip: Hot3dClip, frame: str, stream: str, camera: FisheyeCamera, view: PinholeView) -> bytes:
        name = clip.where(picture_name(frame, stream))
        data = clip.picture(frame, stream)
        picture = decode_image(data, name, apply_orientation=False)
        if picture.shape[1::-1] != camera.size_wh:
            width, height = camera.size_wh
            raise InputError(
                f"{name}: is {picture.shape[1]} x {picture.shape[0]}; its calibration says {width} x {height}"
            )
        header = read_header(data)
        assert header is not None  # decode_image
        is_grey = header.channels == 1
        shown = look(
            picture[..., 0] if is_grey else picture,
            self._source_map(camera, view),
            float((camera.focal / view.focal).max()),
        )
        return _encoded(shown, self._stored)

    def _source_map(self, camera: FisheyeCamera, view: PinholeView) -> Float[np.ndarray, "h w 2"]:
        arrays = (camera.focal, camera.princpt, camera.lens, view.focal, view.princpt, view.view_from_cam_rot)
        key = (camera.size_wh, view.size_wh, *(values.tobytes() for values in arrays))
        if key != self._map_key:
            self._map_key, self._map = key, source_map(camera, view)
        return self._map


def _pose_in_world(
    labels: Sequence[Hot3dHand], betas: Float[np.ndarray, "10"], hand: HandModel
) -> tuple[Float[np.ndarray, "t 48"], Float[np.ndarray, "t 21 3"]]:
    """Absolute poses and joints, mm. The root lies at J_0 + translation; far from the origin float32 would round it."""
    poses = [label.pose for label in labels if label.pose is not None]
    components, mean = (values.double().cpu() for values in (hand.hands_components, hand.hands_mean))
    fingers = pca_to_axis_angle(torch.from_numpy(np.stack([pose.components for pose in poses])), components, mean)
    absolute = np.concatenate([np.stack([pose.root for pose in poses]), fingers.numpy()], 1)
    shapes = np.tile(betas, (len(poses), 1))
    rest = rest_root_mm(hand, shapes)
    about_root = posed_joints_mm(hand, absolute, shapes, np.zeros((len(poses), 3)))
    root_mm = rest + np.stack([pose.translation_m for pose in poses]) * 1000.0
    return absolute, about_root - about_root[:, WRIST : WRIST + 1] + root_mm[:, None]


def _encoded(picture: UInt8[np.ndarray, "h w *c"], stored: Stored) -> bytes:
    options = {
        "jpg": [cv2.IMWRITE_JPEG_QUALITY, stored.quality],
        "webp": [cv2.IMWRITE_WEBP_QUALITY, stored.quality],
        "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
    }[stored.format]
    pixels = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(f".{stored.format}", pixels, options)
    if not done:
        raise ValueError(f"OpenCV cannot write {picture.shape} as {stored.format}")
    return bytes(data.tobytes())
