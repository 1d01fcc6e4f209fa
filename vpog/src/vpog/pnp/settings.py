"""How the solvers work, as plain values; each field is told in `vpog.config.pnp`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class LmSettings:
    """Levenberg-Marquardt with a trust region, the same number of steps for all objects."""

    num_iterations: int = 10
    gauss_newton: bool = False
    """Plain steps, each taken whatever it does to the cost."""
    z_min: float = 0.1
    relative_delta: float = 0.5
    min_points: int = 6


@dataclass(frozen=True)
class StartSettings:
    """Random-sample start: many poses from few points each, the best for all points wins."""

    num_proposals: int = 64
    num_points: int = 16
    num_iterations: int = 4


@dataclass(frozen=True)
class MonteCarloSettings:
    """Adaptive multiple importance sampling of the pose distribution."""

    num_samples: int = 512
    """Of all rounds."""
    num_rounds: int = 4
    acg_iterations: int = 3
    acg_dispersion: float = 1e-3


@dataclass(frozen=True)
class RansacSettings:
    threshold_px: float = 4.0
    max_iterations: int = 1000
    confidence: float = 0.999
    minimal_solver: str = "epnp"
    min_inliers: int = 6


@dataclass(frozen=True)
class WiringSettings:
    max_points: int = 512
    stride: int = 4
    min_weight: float = 0.0
    """Pixels of less confidence are padding."""
    normalised: bool = True
    """False: weights are the confidences themselves, not shares of their sum, so that hypotheses can be compared."""


@dataclass(frozen=True)
class PnpSettings:
    """Of the loss; inference chooses among the parts above."""

    lm: LmSettings = field(default_factory=LmSettings)
    monte_carlo: MonteCarloSettings = field(default_factory=MonteCarloSettings)
    wiring: WiringSettings = field(default_factory=WiringSettings)
    derivative_weight: float = 0.1
    translation_beta: float = 1.0
