"""What a check of a rig found, in figures and in words."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PairReport:
    """How two cameras agree when they triangulate together."""

    names: tuple[str, str]
    num_points: int
    residuals_px: tuple[float, float]
    """Median reprojection error in each of the two; NaN where nothing could be triangulated."""
    ray_angle_deg: float

    @property
    def residual_px(self) -> float:
        """The larger of the two medians."""
        return max(self.residuals_px)


@dataclass(frozen=True)
class CameraReport:
    """What is known of one camera; errors are medians in pixels, NaN where they could not be measured."""

    name: str
    num_points: int
    reprojection_px: float
    """Of the given 3D points."""
    leave_one_out_px: float
    """Of points triangulated from the other trusted cameras."""
    reasons: tuple[str, ...]
    """Why the camera is not to be trusted; empty where it is."""


@dataclass(frozen=True)
class RigReport:
    """The verdict on a rig."""

    cameras: tuple[CameraReport, ...]
    pairs: tuple[PairReport, ...]
    duplicates: tuple[tuple[str, str], ...]

    @property
    def bad_cameras(self) -> tuple[str, ...]:
        """Names of the cameras that contradict the others."""
        return tuple(camera.name for camera in self.cameras if camera.reasons)

    def lines(self) -> list[str]:
        """One line for each bad camera, with the reasons."""
        return [f"{camera.name}: {'; '.join(camera.reasons)}" for camera in self.cameras if camera.reasons]

    def table(self) -> str:
        """All figures as text, for a terminal."""
        rows = [f"{'camera':<16}{'points':>8}{'reproj px':>11}{'others px':>11}  verdict"]
        for camera in self.cameras:
            verdict = "wrong" if camera.reasons else "ok"
            figures = f"{_figure(camera.reprojection_px):>11}{_figure(camera.leave_one_out_px):>11}"
            rows.append(f"{camera.name:<16}{camera.num_points:>8}{figures}  {verdict}")
        rows.append(f"{'pair':<24}{'points':>8}{'residuals px':>16}{'ray angle':>11}")
        for pair in self.pairs:
            residuals = " / ".join(map(_figure, pair.residuals_px))
            rows.append(f"{' + '.join(pair.names):<24}{pair.num_points:>8}{residuals:>16}{pair.ray_angle_deg:>11.1f}")
        return "\n".join(rows)


def _figure(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.1f}"
