"""Numbers of the streams of random draws (posecore.data.counter_random): one for each thing that is drawn for a sample.

Draws of one sample in one step share its seed, so that two streams with one number would give the same noise twice.
"""

COND_NOISE = 1
"""Noise of the condition latents, training."""
GRID_NOISE = 2
"""Noise of the grid's latents, training."""
TIMESTEP = 3
COND_POSTERIOR = 4
"""Of the autoencoder, for the condition."""
TARGET_POSTERIOR = 5
DROP = 6
"""Whether a sample is trained without condition."""
WARP = 7
KEYPOINT_NOISE = 8
CONDITION_SIZE = 9
"""To which size the input view is first resized."""
AUTOENCODER_POSTERIOR = 10
AUTOENCODER_VIEWS = 11
"""Which target views of a sample the autoencoder is trained on."""

_SAMPLED_COND, _SAMPLED_NEGATIVE, _SAMPLED_GRID = 1 << 20, 2 << 20, 3 << 20


def sampled_condition_noise(step: int) -> int:
    """Stream of the condition's noise in a step of sampling; -1: of its posterior."""
    return _SAMPLED_COND + step + 1


def sampled_negative_noise(step: int) -> int:
    """As `sampled_condition_noise`, of the negative condition."""
    return _SAMPLED_NEGATIVE + step + 1


def sampled_grid_noise(step: int) -> int:
    """Stream of the noise that a step of sampling adds; -1: of the latents that sampling begins with."""
    return _SAMPLED_GRID + step + 1
