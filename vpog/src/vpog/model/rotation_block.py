"""An alternative to S2RoPE, for ablations: three channels at a time are turned as vectors, by the template's rotation."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class RotationBlock:
    """Of the tokens of s templates one after the other, the last of each a special one that stays as it is."""

    cam_from_obj_rot: Float[Tensor, "b s 3 3"]
    num_channels: int
    """How many channels of a head, from the first, turn; a multiple of 3."""

    def __call__(self, x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n d"]:
        groups = torch.unflatten(x.float(), 2, (self.cam_from_obj_rot.shape[1], -1))
        patches, special = groups[:, :, :, :-1], groups[:, :, :, -1:]
        vectors = torch.unflatten(patches[..., : self.num_channels], -1, (-1, 3))
        with torch.autocast(x.device.type, enabled=False):
            turned = torch.einsum("bsji,bhspmj->bhspmi", self.cam_from_obj_rot.float(), vectors).flatten(-2)
        turned = torch.cat((turned, patches[..., self.num_channels :]), -1)
        return torch.cat((turned, special), 3).flatten(2, 3).to(x.dtype)
