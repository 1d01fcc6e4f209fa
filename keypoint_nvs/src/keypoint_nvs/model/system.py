"""All networks of a run behind one forward pass, as the training loop and its processes need it."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor, nn

from keypoint_nvs.losses.balance import LossBalance
from keypoint_nvs.model.autoencoder_training import AutoencoderTraining
from keypoint_nvs.model.keypoint_model import KeypointModel
from keypoint_nvs.model.records import AutoencoderOutput, KeypointOutput, NvsOutput
from keypoint_nvs.model.running_votes import RunningVotes
from keypoint_nvs.model.zero123plus import Zero123Plus


@dataclass(frozen=True)
class StepOutput:
    """What the passes of a step gave; None: there was no such pass."""

    autoencoder: AutoencoderOutput | None = None
    nvs: NvsOutput | None = None
    keypoints: KeypointOutput | None = None


class KeypointNvsNetwork(nn.Module):
    """What a run trains, and what it needs to predict: an autoencoder alone, or novel views, keypoints or both."""

    def __init__(
        self,
        *,
        autoencoder: AutoencoderTraining | None = None,
        zero123: Zero123Plus | None = None,
        keypoints: KeypointModel | None = None,
        balance: LossBalance | None = None,
        votes: RunningVotes | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder, self.zero123, self.keypoints = autoencoder, zero123, keypoints
        self.balance, self.votes = balance, votes

    def forward(
        self,
        seeds: Int64[Tensor, " b"],
        *,
        autoencoder_imgs: Float[Tensor, "b v 3 h w"] | None = None,
        cond_imgs: Float[Tensor, "b 3 h w"] | None = None,
        target_imgs: Float[Tensor, "b u 3 h w"] | None = None,
        keypoint_imgs: Float[Tensor, "b w 3 hk wk"] | None = None,
        drop_condition: float = 0.0,
        step: int | None = None,
    ) -> StepOutput:
        """The passes of one step: those whose pictures (0..1) are given. The grid of novel views never sees tokens, and
        tokens see single pictures, never the grid.

        Args:
            seeds: What all draws start from.
            cond_imgs, target_imgs: Of novel views.
            drop_condition: Probability, per sample, to train novel views without condition.
            step: Of the optimiser, to note running sizes and votes; None: validation.
        """
        encoded = denoised = found = None
        if autoencoder_imgs is not None and self.autoencoder is not None:
            encoded = self.autoencoder(autoencoder_imgs, seeds, step)
        if cond_imgs is not None and target_imgs is not None and self.zero123 is not None:
            denoised = self.zero123.training_pass(cond_imgs, target_imgs, seeds, drop_condition)
        if keypoint_imgs is not None and self.keypoints is not None:
            found = self.keypoints.keypoint_pass(keypoint_imgs, seeds)
            if step is not None and self.votes is not None:
                self.votes.add(found.selected, step)
        return StepOutput(encoded, denoised, found)
