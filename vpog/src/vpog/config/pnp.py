"""How poses are solved from weighed correspondences, and how the loss of their distribution is estimated."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from posecore.config import Config

if TYPE_CHECKING:
    from vpog.pnp.settings import PnpSettings


class LmConfig(Config):
    """Levenberg-Marquardt; points are in units of an object's diameter, residuals in weighed pixels."""

    num_iterations: PositiveInt = 10
    gauss_newton: bool = False
    """Plain Gauss-Newton steps, without a trust region."""
    z_min: PositiveFloat = 0.1
    """Depths below it (in diameters) project as if they were there."""
    relative_delta: PositiveFloat = 0.5
    """Where Huber's function turns linear, relative to the weighed spread of the pixels."""
    min_points: Annotated[int, Field(ge=3)] = 6
    """Fewer pairs than this are no pose."""


class MonteCarloConfig(Config):
    """Draws of poses that estimate the integral over all poses."""

    num_samples: PositiveInt = 512
    """For each object, of all rounds together."""
    num_rounds: PositiveInt = 4
    """The proposal distribution is fitted anew after each."""
    acg_iterations: PositiveInt = 3
    """Of the fixed point that fits the distribution of rotations."""
    acg_dispersion: PositiveFloat = 1e-3
    """Widens the distribution of rotations a little, so that it never collapses."""

    @model_validator(mode="after")
    def _rounds_are_equal(self) -> "MonteCarloConfig":
        if self.num_samples % self.num_rounds:
            raise ValueError(f"num_samples {self.num_samples} is no multiple of num_rounds {self.num_rounds}")
        if self.num_samples // self.num_rounds < 8:
            raise ValueError(
                f"num_samples {self.num_samples} in num_rounds {self.num_rounds} are fewer than 8 a round: "
                "no covariance can be fitted to them"
            )
        return self


class WiringConfig(Config):
    """Which pixels of matched patches become pairs."""

    max_points: PositiveInt = 512
    """For each object; patches with the most probable match come first."""
    stride: PositiveInt = 4
    """Every so many pixels of a template patch, in rows and columns."""


class PnpConfig(Config):
    """The pose solver within the loss."""

    lm: LmConfig = LmConfig()
    monte_carlo: MonteCarloConfig = MonteCarloConfig()
    wiring: WiringConfig = WiringConfig()
    derivative_weight: NonNegativeFloat = 0.1
    """Of the translation's and the rotation's error after one more step, relative to the Monte Carlo loss."""
    translation_beta: PositiveFloat = 1.0
    """Where the translation's error turns linear, in diameters."""
    norm_momentum: Annotated[float, Field(gt=0.0, le=1.0)] = 0.01
    """Of the running mean of the weights' scale, which the Monte Carlo loss is divided by."""

    def settings(self) -> "PnpSettings":
        """As plain values."""
        from vpog.pnp.settings import LmSettings, MonteCarloSettings, PnpSettings, WiringSettings

        return PnpSettings(
            lm=LmSettings(**self.lm.model_dump()),
            monte_carlo=MonteCarloSettings(**self.monte_carlo.model_dump()),
            wiring=WiringSettings(**self.wiring.model_dump()),
            derivative_weight=self.derivative_weight,
            translation_beta=self.translation_beta,
        )
