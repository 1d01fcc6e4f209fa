"""Which loss terms a run learns from, by its configuration."""

from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.losses.table import KEYPOINT_TERMS


def loss_weights(config: KeypointNvsConfig) -> dict[str, float]:
    """Of the terms that this stage learns from; none is 0."""
    if config.autoencoder is not None:
        weights = {"reconstruction": 1.0, "kl": config.autoencoder.kl_weight}
        return {name: weight for name, weight in weights.items() if weight > 0}
    names = ["nvs"] if config.nvs is not None else []
    names += KEYPOINT_TERMS if config.keypoints is not None else []
    return {name: getattr(config.loss, name) for name in names if getattr(config.loss, name) > 0}
