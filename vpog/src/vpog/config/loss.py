"""What is learned: the loss terms, how they are computed, how much they count and from when."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, model_validator

from posecore.config import Config
from vpog.config.pnp import PnpConfig


class TermWeight(Config):
    """How much a term counts at a step."""

    weight: NonNegativeFloat = 1.0
    from_step: NonNegativeInt = 0
    """The term is not computed before this step."""
    ramp_steps: NonNegativeInt = 0
    """Steps over which it then grows linearly to its weight; 0: at once."""

    def at(self, step: int) -> float:
        """At a step counted from 0; the first step of a ramp counts already."""
        if step < self.from_step:
            return 0.0
        if self.ramp_steps == 0:
            return self.weight
        return self.weight * min(1.0, (step - self.from_step + 1) / self.ramp_steps)


class LossConfig(Config):
    """Terms whose weight is 0 are not computed."""

    classification: TermWeight = TermWeight()
    """Which template patch each query patch shows: cross entropy."""
    dense: TermWeight = TermWeight()
    """Flow of each visible pixel of matched patches."""
    invisible: TermWeight = TermWeight()
    """A tenth of the confidence where a pixel is not visible."""
    centre: TermWeight = TermWeight()
    """Flow of the query patch's centre within the template patch."""
    pnp: TermWeight = TermWeight(weight=0.02, from_step=2000)
    """Poses: the loss of EPro-PnP's distribution and of the pose after one more step."""
    l2: TermWeight = TermWeight(weight=0.0)
    """Sum of squares of all weights but biases, norms and tokens; AdamW's weight_decay is the usual way instead."""

    tau: PositiveFloat = 1.0
    """Classification: logits are divided by it."""
    unmatched_weight: NonNegativeFloat = 1.0
    """Classification: factor for query patches that a template does not see."""
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """Classification: share of the target that is spread over all classes."""
    bg_as_unmatched: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Classification: probability that a background patch counts as unmatched instead of not at all; 0 where queries are
    masked."""
    dense_kind: Literal["laplace", "l1", "huber"] = "laplace"
    """laplace: negative log likelihood with the predicted scale; the others teach the flow alone."""
    dense_delta: PositiveFloat = 0.5
    """dense_kind huber: where it turns linear, in patches."""
    centre_kind: Literal["l1", "huber", "smooth_l1"] = "l1"
    """smooth_l1: Huber's function that turns linear at 1."""
    centre_delta: PositiveFloat = 0.5
    """centre_kind huber: where it turns linear, in patches."""
    solver: PnpConfig = PnpConfig()
    """How the poses of the term pnp are found."""

    @model_validator(mode="after")
    def _something_is_learned(self) -> "LossConfig":
        if all(weight == 0 for weight in (getattr(self, name).weight for name in TERM_NAMES)):
            raise ValueError(f"one of {', '.join(TERM_NAMES)} needs a weight above 0, or nothing is learned")
        return self

    def terms(self) -> tuple[str, ...]:
        """Names of the terms that count at some step."""
        return tuple(name for name in TERM_NAMES if getattr(self, name).weight > 0)

    def weights_at(self, step: int) -> dict[str, float]:
        """Of the terms that count at this step; none is 0."""
        weights = {name: getattr(self, name).at(step) for name in self.terms()}
        return {name: weight for name, weight in weights.items() if weight > 0}


TERM_NAMES = ("classification", "dense", "invisible", "centre", "pnp", "l2")
