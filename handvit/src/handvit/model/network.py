"""The whole network: patches with their cameras in, hands out."""

from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor, nn

from handvit.model.attention import ScaledDropout
from handvit.model.backbone import Backbone
from handvit.model.decoder import HandDecoder
from handvit.model.perspective import PerspInfoEmbedder
from handvit.model.prediction import HandInput, HandPrediction
from handvit.model.temporal import CausalEncoder, LastFrameEncoder

IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class HandNetwork(nn.Module):
    """Stage 1 (no temporal encoder) answers for every frame by itself; stage 2 for the last frame of each clip."""

    img_mean: Tensor
    img_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        persp_info_embedder: PerspInfoEmbedder,
        handec: HandDecoder,
        img_size: int,
        temporal_encoder: LastFrameEncoder | CausalEncoder | None = None,
    ) -> None:
        super().__init__()
        self.img_size = img_size
        self.register_buffer("img_mean", torch.tensor(IMAGE_MEAN))
        self.register_buffer("img_std", torch.tensor(IMAGE_STD))
        self.backbone, self.persp_info_embedder, self.handec = backbone, persp_info_embedder, handec
        self.temporal_encoder = temporal_encoder
        self._frozen: tuple[nn.Module, ...] = ()

    @property
    def stage(self) -> int:
        return 1 if self.temporal_encoder is None else 2

    def forward(
        self, frames: HandInput, all_frames: bool = False, tokens: Float[Tensor, "b t d"] | None = None
    ) -> HandPrediction:
        """Clips of t frames; the answer has t frames in stage 1, and in stage 2 with `all_frames`, else one.

        Args:
            tokens: What `encode` would give, where it is known; the patches are not looked at then.
        """
        return self.answer(self.encode(frames) if tokens is None else tokens, frames, all_frames)

    def encode(self, frames: HandInput) -> Float[Tensor, "b t d"]:
        """One token for each frame, seen by itself: what a token cache keeps."""
        clips, length = frames.patches.shape[:2]
        expected = (clips, length, 3, self.img_size, self.img_size)
        if frames.patches.shape != expected:
            raise ValueError(f"patches should have the shape {expected}, not {tuple(frames.patches.shape)}")
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.handec not in self._frozen):
            images = (frames.patches.flatten(0, 1) - self.img_mean[:, None, None]) / self.img_std[:, None, None]
            camera = (x.flatten(0, 1) for x in (frames.patch_bbox, frames.focal, frames.princpt))
            token: Tensor = self.handec(self.persp_info_embedder(self.backbone(images), *camera))
        return token.reshape(clips, length, -1)

    def answer(self, tokens: Float[Tensor, "b t d"], frames: HandInput, all_frames: bool = False) -> HandPrediction:
        """Hands from the tokens of `encode`. The patches are not looked at: they may be empty, [b, t, 3, 0, 0]."""
        if tokens.shape[:2] != frames.timestamp_ms.shape:
            raise ValueError(
                f"tokens of {tuple(tokens.shape[:2])} clips and frames do not fit the input's "
                f"{tuple(frames.timestamp_ms.shape)}"
            )
        if self.temporal_encoder is None:
            return self._read(tokens, frames)
        refined = self.temporal_encoder(tokens, frames.timestamp_ms, all_frames)
        return self._read(refined, frames if all_frames else last_frame(frames))

    def _read(self, tokens: Tensor, frames: HandInput) -> HandPrediction:
        if tokens.shape[:2] != frames.focal.shape[:2]:  # [b, 7, .] against [b, 1, .] would broadcast silently
            raise ValueError(f"{tuple(tokens.shape[:2])} tokens for cameras of {tuple(frames.focal.shape[:2])}")
        return self.handec.read(tokens, frames)

    def freeze_spatial(self) -> None:
        """Stage 2: all but the temporal encoder stays as it is, also its dropout and batch statistics."""
        if self.temporal_encoder is None:
            raise ValueError("freeze_spatial leaves nothing to train: this network has no temporal encoder")
        self._freeze(self.backbone, self.persp_info_embedder, self.handec)

    def freeze_backbone(self) -> None:
        """The encoder of transformers stays as it is; what fuses its layers, and all behind, goes on learning."""
        self._freeze(self.backbone.backbone)

    def train(self, mode: bool = True) -> "HandNetwork":
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def set_dropout_share(self, share: float) -> None:
        """Scale the dropout of decoder and temporal encoder, 0..1 of its full rate (its warm-up)."""
        for module in self.modules():
            if isinstance(module, ScaledDropout):
                module.set_share(share)

    def _freeze(self, *modules: nn.Module) -> None:
        self._frozen = (*self._frozen, *(module for module in modules if module not in self._frozen))
        for module in modules:
            module.requires_grad_(False)
        self.train(self.training)


def last_frame(frames: HandInput) -> HandInput:
    """The last frame of each clip, as clips of one."""
    return HandInput(**{field.name: getattr(frames, field.name)[:, -1:] for field in fields(frames)})
