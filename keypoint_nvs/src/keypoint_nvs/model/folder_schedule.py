"""The noise schedule that a folder's scheduler_config.json names."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.model.schedule import BetaSchedule, alphas_cumprod
from posecore.errors import InputError

BETA_SCHEDULES: Final = ("linear", "scaled_linear")
PREDICTIONS: Final = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class ScheduleSettings:
    """What a model was trained with; the sampler is ours to choose."""

    beta_schedule: BetaSchedule
    """linear, or scaled_linear: the square of a ramp of square roots."""
    prediction_type: str
    """epsilon or v_prediction."""
    beta_start: float
    beta_end: float
    num_train_timesteps: int

    def alphas_cumprod(self) -> Float[Tensor, " steps"]:
        """Share of the signal's variance that is left at each timestep."""
        return alphas_cumprod(self.beta_schedule, self.num_train_timesteps, self.beta_start, self.beta_end)


def parse_schedule(settings: Mapping[str, Any], subject: str) -> ScheduleSettings:
    """Read and check the settings.

    Args:
        settings: As scheduler_config.json has them. Without prediction_type it is epsilon, as in files of before 2022-12.
        subject: The file, for messages.

    Raises:
        InputError: A value is missing, or is one that no supported model has.
    """
    problems = []
    for key, allowed in (("beta_schedule", BETA_SCHEDULES), ("prediction_type", PREDICTIONS)):
        value = settings.get(key, "epsilon" if key == "prediction_type" else None)
        if value not in allowed:
            problems.append(f"{subject}: {key}: is {value!r}, must be one of {', '.join(allowed)}")
    if settings.get("trained_betas") is not None:
        problems.append(f"{subject}: trained_betas: explicit noise levels are not supported; must be null")
    steps = settings.get("num_train_timesteps", 1000)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        problems.append(f"{subject}: num_train_timesteps: is {steps!r}, must be a positive integer")
    start, end = settings.get("beta_start"), settings.get("beta_end")
    for key, value in (("beta_start", start), ("beta_end", end)):
        if not isinstance(value, float) or not math.isfinite(value) or not 0 < value < 1:
            problems.append(f"{subject}: {key}: is {value!r}, must be a number between 0 and 1")
    if problems:
        raise InputError(problems)
    assert isinstance(start, float)
    assert isinstance(end, float)
    prediction = settings.get("prediction_type", "epsilon")
    return ScheduleSettings(settings["beta_schedule"], prediction, start, end, steps)


def check_schedule(schedule: ScheduleSettings, subject: str, *, beta_schedule: str, prediction_type: str) -> None:
    """Refuse another schedule than a use needs.

    Raises:
        InputError: It is another.
    """
    wanted = {"beta_schedule": beta_schedule, "prediction_type": prediction_type}
    problems = [
        f"{subject}: {key}: is {getattr(schedule, key)!r}, must be {value!r}; weights trained with one make nonsense with the other"
        for key, value in wanted.items()
        if getattr(schedule, key) != value
    ]
    if problems:
        raise InputError(problems)
