"""The learning rate as a pure function of where the run is, so that resuming needs no state."""

from posecore.training.config import FitConfig, Steps


def scheduled_rate(config: FitConfig, step: int, epoch: int, total_steps: int) -> float:
    """Learning rate of one step: warm-up times schedule. Step and epoch count from 0."""
    return warmup_factor(config, step) * _rate_without_warmup(config, step, epoch, total_steps)


def warmup_factor(config: FitConfig, step: int) -> float:
    """Grows linearly and reaches 1 at step `warmup_steps - 1`; the first step already moves the weights."""
    if step >= config.warmup_steps:
        return 1.0
    return config.warmup_start + (1.0 - config.warmup_start) * (step + 1) / config.warmup_steps


def _rate_without_warmup(config: FitConfig, step: int, epoch: int, total_steps: int) -> float:
    schedule = config.schedule
    if isinstance(schedule, Steps):
        rate = schedule.rate(epoch if schedule.by == "epoch" else step)
        return config.lr if rate is None else rate
    after_warmup = max(step - config.warmup_steps, 0) / max(total_steps - config.warmup_steps, 1)
    return config.lr * schedule.factor(min(after_warmup, 1.0))
