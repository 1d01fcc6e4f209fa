"""How the keypoint terms are computed, as plain values; each field is told in `keypoint_nvs.config`."""

from dataclasses import dataclass

from keypoint_nvs.config.stages import KeypointsConfig
from keypoint_nvs.losses.temporal import TemporalKind

CONFIG_MAP_PX = 32
"""Side of the map in whose pixels the configuration gives the window of the soft argmax."""


@dataclass(frozen=True)
class MultiviewSettings:
    start_step: int = 0
    ramp_steps: int = 0
    heat_share: float = 0.7
    radius: float = 3.0
    """Pixels of a map of 32."""
    min_confidence: float = 0.1
    robust_width: float = 0.03
    """Widths of a view."""
    rounds: int = 4
    min_views: int = 3
    min_angle: float = 0.02
    least_distance: float = 0.1

    def radius_px(self, map_px: int) -> float:
        return self.radius * map_px / CONFIG_MAP_PX

    def ramp_at(self, step: int) -> float:
        """0 up to the start, then rising to 1 over the ramp."""
        if step < self.start_step:
            return 0.0
        return 1.0 if self.ramp_steps == 0 else min((step - self.start_step) / self.ramp_steps, 1.0)


@dataclass(frozen=True)
class KeypointLossSettings:
    sigma: float = 2.0
    """Pixels of the map."""
    subjects: int = 1
    mask_outside: bool = True
    multiview: MultiviewSettings | None = None
    """None: views are unrelated pictures."""
    temporal_kind: TemporalKind = "l2"

    @classmethod
    def of(cls, config: KeypointsConfig) -> "KeypointLossSettings":
        multiview = config.multiview
        return cls(
            sigma=config.sigma,
            subjects=config.subjects,
            mask_outside=config.mask_outside,
            multiview=None if multiview is None else MultiviewSettings(**multiview.model_dump()),
        )

    def ramp_at(self, step: int) -> float:
        """Of the multi-view terms; 0 without them."""
        return 0.0 if self.multiview is None else self.multiview.ramp_at(step)
