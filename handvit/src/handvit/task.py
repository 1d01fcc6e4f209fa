"""What the training loop asks of handvit: model, data, loss, metrics and pictures of one configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor, nn

from handvit import __version__
from handvit.assembly import Facts
from handvit.config import HandvitConfig
from handvit.data.patches import fill_patches
from handvit.data.pixel_augmentation import PixelAugmenter
from handvit.data.sample import Batch, Sample, collate
from handvit.hand import HandModel
from handvit.losses import LossSettings, denominators, loss_sums, loss_terms
from handvit.metrics import validation_sums
from handvit.model.build import build_network, load_stage1
from handvit.model.network import HandNetwork
from handvit.posing import last_frames, last_prediction, pose_hands
from handvit.sheets import batch_sheet
from posecore.losses import total_loss
from posecore.training import FitConfig, ParameterGroup, Progress, SampleSource, Task, Terms
from posecore.training.config import Cosine, Every
from posecore.training.launch import process_count
from posecore.weights import load_weights

SYSTEM = "handvit"
PRECISIONS = {"no": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class RunData:
    """Where a run's samples come from."""

    train: SampleSource
    validation: SampleSource | None
    train_weights: Sequence[float] | None = None
    """How often each training sample is drawn, relative to the others; None: each once an epoch."""
    validation_datasets: Sequence[str] = ()
    """What samples of validation say to be of, where that are several."""


class HandTask(Task[Batch]):
    """One training run of stage 1 or 2."""

    name = SYSTEM
    version = __version__
    monitor = "mpjpe_mm"
    also_best = ("mpjpe_rel_mm", "rte_mm")

    def __init__(
        self,
        config: HandvitConfig,
        hand: HandModel,
        data: RunData,
        facts: Facts,
        starting_weights: Mapping[str, Tensor] | None = None,
        starting_source: str = "",
    ) -> None:
        self.config, self.hand, self.data, self.facts = config, hand, data, facts
        self.starting_weights, self.starting_source = starting_weights, starting_source
        self.augment = PixelAugmenter(config.train.augmentation)
        self.weights = config.loss.term_weights(config.model.handec.translation.kind, config.model.norm_by_hand)
        self.settings = LossSettings.of(config.loss, config.model.norm_by_hand, config.model.img_size)

    def resolved_config(self) -> dict[str, Any]:
        return {"config": self.config.to_json_dict(), "facts": self.facts.to_dict()}

    def build_model(self) -> nn.Module:
        network = build_network(self.config.model, mean_rotations=self.hand.mean_rotations())
        if self.starting_weights is not None:
            start_from(network, self.starting_weights, self.starting_source)
        if self.config.model.stage == 2:
            network.freeze_spatial()
        elif self.config.train.backbone_lr is None:
            network.freeze_backbone()
        return network

    def train_source(self) -> SampleSource:
        return self.data.train

    def validation_source(self) -> SampleSource | None:
        return self.data.validation

    def sample_weights(self) -> Sequence[float] | None:
        return self.data.train_weights

    def collate(self, samples: list[Sample]) -> Batch:
        return collate(samples)

    def prepare(self, batch: Batch) -> Batch:
        if batch.tokens is not None:
            return batch
        return self.augment(fill_patches(batch, self.config.model.img_size))

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """The backbone learns at its own rate; biases, norms and positions do not decay."""
        train = self.config.train
        multiplier = 1.0 if train.backbone_lr is None else train.backbone_lr / train.lr
        groups: list[ParameterGroup] = []
        for is_backbone, name in ((False, "rest"), (True, "backbone")):
            members = [(n, p) for n, p in model.named_parameters() if n.startswith("backbone.") == is_backbone]
            decayed = [p for n, p in members if _decays(n, p)]
            kept = [p for n, p in members if not _decays(n, p)]
            rate = multiplier if is_backbone else 1.0
            groups.append(ParameterGroup(name, decayed, lr_multiplier=rate))
            groups.append(ParameterGroup(f"{name}, no decay", kept, lr_multiplier=rate, weight_decay=0.0))
        return [group for group in groups if group.parameters]

    def denominators(self, batch: Batch) -> Mapping[str, Tensor]:
        return denominators(batch, list(self.weights), self.settings)

    def loss(self, model: nn.Module, batch: Batch, denominators: Mapping[str, Tensor], progress: Progress) -> Terms:
        self._warm_dropout(model, progress.step)
        prediction = model(batch.network_input(), self.config.loss.frames == "all", batch.tokens)
        terms = loss_terms(prediction, batch, self._hand_on(batch), list(self.weights), self.settings)
        return total_loss(terms, self.weights, denominators)

    def validate(self, model: nn.Module, batch: Batch) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Losses as in training, and errors of the hand sized by the network itself, as at inference."""
        batch = fill_patches(batch, self.config.model.img_size)
        prediction = model(batch.network_input(), self.config.loss.frames == "all")
        hand, datasets = self._hand_on(batch), self.data.validation_datasets
        losses = loss_sums(prediction, batch, hand, list(self.weights), self.settings, datasets)
        answer = prediction if self.config.model.stage == 1 else last_prediction(prediction)
        posed = pose_hands(hand, answer, norm_by_hand=self.config.model.norm_by_hand)
        answered = last_frames(batch, answer.betas.shape[1])
        return losses | validation_sums(posed, answered, hand, datasets)

    def figures(self, model: nn.Module, batch: Batch) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
        batch = fill_patches(batch, self.config.model.img_size)
        prediction, hand = model(batch.network_input()), self._hand_on(batch)
        posed = pose_hands(hand, prediction, norm_by_hand=self.config.model.norm_by_hand, with_vertices=True)
        return {"validation": batch_sheet(last_frames(batch, prediction.betas.shape[1]), posed, hand)}

    def _hand_on(self, batch: Batch) -> HandModel:
        return self.hand.to(batch.timestamp_ms.device)

    def _warm_dropout(self, model: nn.Module, step: int) -> None:
        warmup = self.config.general.dropout_warmup_step
        share = 1.0 if warmup == 0 else min(1.0, (step + 1) / warmup)
        for module in model.modules():
            if isinstance(module, HandNetwork):
                module.set_dropout_share(share)


def start_from(network: HandNetwork, weights: Mapping[str, Tensor], source: str) -> None:
    """Weights of the same stage into a network, or those of stage 1 into one of stage 2.

    Raises:
        InputError: Keys are missing, left over, or of another shape; named.
    """
    is_of_stage_2 = any(name.startswith("temporal_encoder.") for name in weights)
    if network.stage == 2 and not is_of_stage_2:
        load_stage1(network, weights)
    else:
        load_weights(network, weights, source)


def fit_config(config: HandvitConfig) -> FitConfig:
    """The loop's own part of a configuration."""
    general, train = config.general, config.train
    settings = FitConfig(
        max_steps=general.total_step,
        batch_size=train.sample_per_device * train.grad_accum_step,
        accumulation=train.grad_accum_step,
        fraction=config.data.train.fraction,
        lr=train.lr,
        warmup_steps=general.warmup_step,
        schedule=Cosine(cycle=general.cosine_cycle),
        weight_decay=train.weight_decay,
        clip_norm=train.max_grad,
        ema_decay=train.ema_decay,
        precision=PRECISIONS[train.mixed_precision],  # type: ignore[arg-type]
        devices=train.devices,
        nodes=train.nodes,
        compile=train.compile,
        deterministic=train.deterministic,
        seed=general.seed,
        workers=config.data.workers,
        prefetch=config.data.prefetch,
        log_every=general.log_step,
        validate_every=Every(steps=general.validation_step),
        figures_every=None if general.vis_step is None else Every(steps=general.vis_step),
        save_every=Every(steps=general.checkpoint_step),
        trackers=general.trackers,
    )
    return settings.model_copy(update={"batch_size": settings.batch_size * process_count(settings)})


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and not any(word in name for word in ("position", "pos_embedding", "cls_token", "init_"))
