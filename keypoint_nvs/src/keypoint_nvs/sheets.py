"""Pictures for the training log: novel views beside the true ones, tokens on the views."""

import numpy as np
from jaxtyping import UInt8

from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.data.batch import ViewBatch
from keypoint_nvs.model.system import KeypointNvsNetwork, StepOutput

Picture = UInt8[np.ndarray, "h w 3"]


def batch_figures(
    network: KeypointNvsNetwork, batch: ViewBatch, output: StepOutput, config: KeypointNvsConfig
) -> dict[str, Picture]:
    """What this stage has to show of a batch."""
    return {}
