"""3D keypoints over a floor, seen from any side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int

from keypoint_nvs.draw.canvas import AnyPicture, shade, token_colors
from keypoint_nvs.draw.grid import grid, text_width, write
from keypoint_nvs.draw.views import view_captions
from keypoint_nvs.poses import orbit_cameras
from keypoint_nvs.rig import OBJECT_RADIUS
from posecore.draw import PAPER, SUBPIXEL, Color

FLOOR_LINE: Color = (214, 214, 210)
ARROW: Color = (135, 135, 132)
FLOOR_CELLS, FLOOR_SIZE = 4, 0.65
"""Squares along a side, and half that side in radii."""
DISTANCE = 7.0
"""Of the camera, in radii: near enough for depth to show, far enough not to distort."""
ROOM = 1.08
"""Half the picture's width at the origin, in radii: the sphere and the floor's corners are in it."""
RIM: Color = (20, 20, 20)


@dataclass(frozen=True)
class SpacePoints:
    """Keypoints in the rig's world: z up, the input camera on the x axis."""

    world: Float[np.ndarray, "k 3"]
    """Not finite: left out."""
    counted: Bool[np.ndarray, " k"] | None = None
    """False: too few views agree; drawn as a ring. None: all are."""
    truth_world: Float[np.ndarray, "j 3"] | None = None
    """Grey crosses; they need not be as many as the keypoints."""

    def radius(self) -> float:
        """Of a sphere about the origin that holds the counted points, at least that of the rig's objects."""
        return max(OBJECT_RADIUS, float(np.linalg.norm(self._shown(), axis=1).max(initial=0)))

    def floor_z(self) -> float:
        """Just below the lowest counted point."""
        return float(self._shown()[:, 2].min(initial=0)) - 0.1 * self.radius()

    def _shown(self) -> Float[np.ndarray, "n 3"]:
        kept = self.world if self.counted is None else self.world[self.counted]
        points = kept if self.truth_world is None else np.concatenate([kept, self.truth_world])
        return np.asarray(points[np.isfinite(points).all(1)])


def draw_space(
    points: SpacePoints,
    azimuth_deg: float,
    elevation_deg: float,
    *,
    side: int = 256,
    colors: Sequence[Color] | None = None,
    radius: float | None = None,
) -> AnyPicture:
    """One picture: dots with stems down to the floor, far ones first and smaller.

    Args:
        azimuth_deg: Of the viewer; 0: that of the input view.
        radius: Of the sphere that the picture holds; None: the points'. Give one to compare pictures.
    """
    reach = points.radius() if radius is None else radius
    view = _Viewer.at(azimuth_deg, elevation_deg, reach, side)
    canvas = np.full((side, side, 3), PAPER, np.uint8)
    _draw_floor(canvas, view, FLOOR_SIZE * reach, points.floor_z())
    inks = token_colors(len(points.world)) if colors is None else colors
    if points.truth_world is not None:
        _draw_crosses(canvas, view, points.truth_world)
    counted = np.ones(len(points.world), bool) if points.counted is None else points.counted
    depth = view.depth(points.world)
    # a point that does not count may lie anywhere, also behind the viewer
    drawable = np.isfinite(depth) & (depth > 0.2 * DISTANCE * reach)
    for index in sorted(np.flatnonzero(drawable).tolist(), key=lambda i: -float(depth[i])):
        _draw_point(canvas, view, points.world[index], inks[index], bool(counted[index]), points.floor_z())
    return canvas


def space_sheet(
    points: SpacePoints,
    *,
    azimuths_deg: Sequence[float] = (20.0, 110.0, 200.0, 290.0),
    elevations_deg: Sequence[float] = (20.0, 20.0, 20.0, 20.0),
    side: int = 224,
    colors: Sequence[Color] | None = None,
) -> AnyPicture:
    """The same points from a few directions, such as a rig's."""
    radius = points.radius()
    cells = [
        draw_space(points, azimuth, elevation, side=side, colors=colors, radius=radius)
        for azimuth, elevation in zip(azimuths_deg, elevations_deg, strict=True)
    ]
    return grid([cells], column_labels=view_captions(azimuths_deg, elevations_deg))


@dataclass(frozen=True)
class _Viewer:
    cam_from_world: Float[np.ndarray, "4 4"]
    focal_px: float
    side: int
    distance: float

    @staticmethod
    def at(azimuth_deg: float, elevation_deg: float, radius: float, side: int) -> "_Viewer":
        distance = DISTANCE * radius
        camera = orbit_cameras(np.array([azimuth_deg]), np.array([elevation_deg]), distance)[0]
        return _Viewer(camera, side / 2 * distance / (ROOM * radius), side, distance)

    def depth(self, world: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " n"]:
        return np.asarray(world @ self.cam_from_world[2, :3] + self.cam_from_world[2, 3])

    def fixed(self, world: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, "n 2"]:
        """Pixels in OpenCV's fixed-point numbers."""
        cam = world @ self.cam_from_world[:3, :3].T + self.cam_from_world[:3, 3]
        px = self.focal_px * cam[:, :2] / cam[:, 2:] + (self.side - 1) / 2
        return np.asarray((px * 2**SUBPIXEL).round().astype(np.int32))


def _draw_floor(canvas: AnyPicture, view: _Viewer, half: float, floor_z: float) -> None:
    for tick in np.linspace(-half, half, FLOOR_CELLS + 1):
        for ends in ([(-half, tick), (half, tick)], [(tick, -half), (tick, half)]):
            start, end = view.fixed(np.array([(*end, floor_z) for end in ends]))
            cv2.line(canvas, start.tolist(), end.tolist(), FLOOR_LINE, 1, cv2.LINE_AA, SUBPIXEL)
    to_input = view.fixed(np.array([[share * half, 0, floor_z] for share in (0.4, 0.9, 1.2)])) // 2**SUBPIXEL
    cv2.arrowedLine(canvas, to_input[0].tolist(), to_input[1].tolist(), ARROW, 1, cv2.LINE_AA, 0, 0.3)
    x, y = to_input[2].tolist()
    width = text_width("input")
    write(canvas, "input", (min(max(x - width // 2, 2), view.side - width - 2), min(y + 4, view.side - 4)), ARROW)


def _draw_point(
    canvas: AnyPicture, view: _Viewer, point: Float[np.ndarray, " 3"], color: Color, counted: bool, floor_z: float
) -> None:
    foot = np.array([point[0], point[1], floor_z])
    top, bottom = view.fixed(np.stack([point, foot]))
    cv2.line(canvas, top.tolist(), bottom.tolist(), shade(color, 0.45, PAPER), 1, cv2.LINE_AA, SUBPIXEL)
    nearness = view.distance / float(view.depth(point[None])[0])
    radius = round(view.side / 40 * nearness * 2**SUBPIXEL)
    if not counted:
        cv2.circle(canvas, top.tolist(), radius, color, 1, cv2.LINE_AA, SUBPIXEL)
        return
    cv2.circle(canvas, top.tolist(), radius + 2**SUBPIXEL, RIM, -1, cv2.LINE_AA, SUBPIXEL)
    cv2.circle(canvas, top.tolist(), radius, color, -1, cv2.LINE_AA, SUBPIXEL)


def _draw_crosses(canvas: AnyPicture, view: _Viewer, world: Float[np.ndarray, "n 3"]) -> None:
    arm = math.ceil(view.side / 60) * 2**SUBPIXEL
    for x, y in view.fixed(world[np.isfinite(world).all(1)]).tolist():
        for dx, dy in ((arm, arm), (arm, -arm)):
            cv2.line(canvas, (x - dx, y - dy), (x + dx, y + dy), (110, 110, 110), 1, cv2.LINE_AA, SUBPIXEL)
