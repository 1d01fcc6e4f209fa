"""All loss terms by name, and the denominators of a batch."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from handvit.data.sample import Batch
from handvit.hand import HandModel
from handvit.losses import joints, parameters, translation
from handvit.losses.scene import LossSettings, Scene, supervised
from handvit.model.prediction import HandPrediction
from handvit.posing import last_prediction
from posecore.losses import Term

Weights = Callable[[Batch, LossSettings], Tensor]
Loss = Callable[[Scene, LossSettings], Term]

TERMS: dict[str, tuple[Weights, Loss]] = {
    "theta": (parameters.mano_weights, parameters.theta),
    "shape": (parameters.mano_weights, parameters.shape),
    "trans": (translation.root_weights, translation.trans),
    "rel": (joints.rel_weights, joints.rel),
    "img": (joints.img_weights, joints.img),
    "vertices": (parameters.mano_weights, joints.vertices),
    "cam": (joints.cam_weights, joints.cam),
    "img_2d": (joints.img_2d_weights, joints.img_2d),
    "bins": (translation.depth_weights, translation.bins),
    "residual": (translation.depth_weights, translation.residual),
    "uv": (translation.uv_weights, translation.uv),
    "log_depth": (translation.depth_weights, translation.log_depth),
    "velocity": (joints.velocity_weights, joints.velocity),
    "acceleration": (joints.acceleration_weights, joints.acceleration),
}


def loss_terms(
    prediction: HandPrediction, batch: Batch, hand: HandModel, names: Iterable[str], settings: LossSettings
) -> dict[str, Term]:
    """The named terms (ask only for those with a weight: the others need not be computed), in float32.

    Args:
        prediction: Of all frames of the clips; or of the last one, where that is what is supervised.

    Raises:
        ValueError: The prediction has not the frames that are supervised.
    """
    with torch.autocast(device_type=prediction.betas.device.type, enabled=False):
        given = supervised(batch, settings)
        answer = last_prediction(prediction) if settings.frames == "last" else prediction
        scene = Scene(answer, given, hand, settings)
        return {name: TERMS[name][1](scene, settings) for name in names}


def denominators(batch: Batch, names: Iterable[str], settings: LossSettings) -> dict[str, Tensor]:
    """Counts that the named terms divide by; they depend on the targets alone, so they need no prediction.

    Scalars, to be added over the micro-batches and processes of a global batch and given to `total_loss`.
    """
    given = supervised(batch, settings)
    return {name: TERMS[name][0](given, settings).sum() for name in names}
