"""Terms that train the autoencoder, in the range (p - 0.5) / 0.8 of the pictures that it will be used with.

One trained on 2 p - 1 instead lost about 2 dB. Both terms are means within each picture, so their ratio does not depend
on its size.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from keypoint_nvs.model.records import AutoencoderOutput
from posecore.losses import Term


def autoencoder_terms(output: AutoencoderOutput) -> dict[str, Term]:
    """`reconstruction` and `kl`, sums over pictures. Weights: 1 and the configuration's kl_weight."""
    errors = {
        "reconstruction": reconstruction_errors(output.reconstruction, output.target),
        "kl": normal_divergence(output.mean, output.logvar),
    }
    return {name: Term(error.sum(), error.new_tensor(float(len(error)))) for name, error in errors.items()}


def reconstruction_errors(
    reconstruction: Float[Tensor, "n 3 h w"], target: Float[Tensor, "n 3 h w"]
) -> Float[Tensor, " n"]:
    """Mean squared error of each picture. In this range pictures of 0..1 have a peak of 1.25: PSNR adds 1.94 dB."""
    return (reconstruction.float() - target.float()).square().flatten(1).mean(1)


def normal_divergence(mean: Float[Tensor, "n c h w"], logvar: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """KL divergence of N(mean, exp(logvar)) from N(0, 1), mean over the latent's numbers."""
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + torch.expm1(logvar) - logvar).flatten(1).mean(1)
