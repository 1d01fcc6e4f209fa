"""What the training loop asks of keypoint_nvs: networks, data, loss, metrics and pictures of one configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from keypoint_nvs import __version__
from keypoint_nvs.assembly import SYSTEM, Beginning, build_network
from keypoint_nvs.config.run import KeypointNvsConfig
from keypoint_nvs.config.stages import AutoencoderConfig
from keypoint_nvs.data.batch import StoredBatch, ViewBatch, ViewSample
from keypoint_nvs.data.clips import Clip, collate_clips
from keypoint_nvs.data.compositing import view_batch
from keypoint_nvs.losses.autoencoder import autoencoder_terms, reconstruction_errors
from keypoint_nvs.losses.denoising import denoising_term
from keypoint_nvs.losses.settings import KeypointLossSettings
from keypoint_nvs.losses.table import keypoint_terms, ramped
from keypoint_nvs.model.records import AutoencoderOutput, NvsOutput
from keypoint_nvs.model.streams import AUTOENCODER_VIEWS
from keypoint_nvs.model.system import KeypointNvsNetwork, StepOutput
from keypoint_nvs.sheets import batch_figures
from keypoint_nvs.stages import loss_weights
from keypoint_nvs.step_views import keypoint_alpha, keypoint_cameras, keypoint_pictures
from posecore.data.counter_random import uniforms
from posecore.losses import Term, total_loss
from posecore.training import FitConfig, ParameterGroup, Progress, SampleSource, Task, Terms
from posecore.training.config import Constant, Cosine, Every
from posecore.training.launch import process_count
from posecore.weights import load_weights

PRECISIONS = {"no": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
MONITORS = {"autoencoder": "reconstruction", "nvs": "nvs", "keypoints": "keypoints", "joint": "keypoints"}
"""Which validation metric chooses the best checkpoint."""


@dataclass(frozen=True)
class RunData:
    """Where a run's samples come from."""

    train: SampleSource
    validation: SampleSource | None
    train_weights: Sequence[float] | None = None
    """How often each training sample is drawn, relative to the others; None: each once an epoch."""


class KeypointNvsTask(Task[Any]):
    """One training run of any stage."""

    name = SYSTEM
    version = __version__

    def __init__(
        self,
        config: KeypointNvsConfig,
        data: RunData,
        beginning: Beginning,
        starting_weights: Mapping[str, Tensor] | None = None,
        starting_source: str = "",
    ) -> None:
        self.config, self.data, self.beginning = config, data, beginning
        self.starting_weights, self.starting_source = starting_weights, starting_source
        self.monitor = MONITORS[config.stage]
        self.weights = loss_weights(config)
        self.settings = None
        if config.keypoints is not None:
            settings = KeypointLossSettings.of(config.keypoints)
            self.settings = replace(settings, temporal_kind=config.loss.temporal_kind)

    def resolved_config(self) -> dict[str, Any]:
        return {"config": self.config.to_json_dict(), "parts": self.beginning.description()}

    def build_model(self) -> nn.Module:
        network = build_network(self.config, self.beginning)
        if self.starting_weights is not None:
            load_weights(network, self.starting_weights, self.starting_source)
        return network

    def train_source(self) -> SampleSource:
        return self.data.train

    def validation_source(self) -> SampleSource | None:
        return self.data.validation

    def sample_weights(self) -> Sequence[float] | None:
        return self.data.train_weights

    def collate(self, samples: list[ViewSample | Clip]) -> StoredBatch:
        return collate_clips(samples)

    def prepare(self, batch: StoredBatch) -> ViewBatch:
        """Composited where the batch lies."""
        return view_batch(batch, self.config.data.background, self.config.data.vary_condition_px)

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """Tokens and the ramp learn at their own rates; they, biases and norms do not decay."""
        train = self.config.train
        rates = {"tokens": train.token_lr, "ramp": train.ramp_lr or train.lr, "network": train.lr}
        members: dict[tuple[str, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                part = {"keypoints.tokens": "tokens", "zero123.ramp": "ramp"}.get(name, "network")
                members.setdefault((part, part == "network" and parameter.ndim > 1), []).append(parameter)
        return [
            ParameterGroup(
                part if decays or part != "network" else f"{part}, no decay",
                parameters,
                lr_multiplier=rates[part] / train.lr,
                weight_decay=None if decays else 0.0,
            )
            for (part, decays), parameters in members.items()
        ]

    def begin_epoch(self, model: nn.Module, progress: Progress) -> None:
        """Nothing in these networks behaves otherwise in training."""
        model.eval()

    def learning_rate(self, progress: Progress) -> float | None:
        """Of schedule restarts: cosines one after the other, each from the peak to the floor."""
        train = self.config.train
        if train.schedule != "restarts":
            return None
        if progress.step < train.warmup_steps:
            return train.lr * (progress.step + 1) / train.warmup_steps
        place = (progress.step - train.warmup_steps) % train.cycle_steps / train.cycle_steps
        return train.lr * Cosine(floor=train.floor).factor(place)

    def denominators(self, batch: ViewBatch) -> Mapping[str, Tensor]:
        """Every term counts samples; those of the autoencoder count pictures."""
        count = torch.tensor(float(len(batch)), device=batch.target_imgs.device)
        if self.config.autoencoder is not None:
            count = count * self._encoded_views(batch, self.config.autoencoder)
        return {name: count for name in self.weights}

    def loss(self, model: nn.Module, batch: ViewBatch, denominators: Mapping[str, Tensor], progress: Progress) -> Terms:
        output = self._forward(model, batch, progress.step)
        if output.autoencoder is not None:
            return total_loss(autoencoder_terms(output.autoencoder), self.weights, denominators)
        network = network_of(model)
        assert network.balance is not None
        ramp = 1.0 if self.settings is None else self.settings.ramp_at(progress.step)
        terms, measures = self._terms(network, output, batch, ramp, self.config.data.frames)
        weights = {name: weight for name, weight in ramped(self.weights, ramp).items() if name in terms}
        values = network.balance.weigh(terms, weights, denominators, progress.step)
        samples = next(iter(denominators.values()))
        return values | {name: term.total / samples for name, term in measures.items()}

    def validate(self, model: nn.Module, batch: StoredBatch) -> Mapping[str, tuple[Tensor, Tensor]]:
        """All terms as at the end of their ramps, with consistency and shape of the maps."""
        network, views = network_of(model), self.prepare(batch)
        output = self._forward(network, views, None)
        if output.autoencoder is not None:
            return _sums(autoencoder_terms(output.autoencoder)) | {"psnr_db": _psnr_sum(output.autoencoder)}
        terms, measures = self._terms(network, output, views, 1.0, 1)
        sums = _sums(terms | measures)
        if output.keypoints is not None:
            weighed = [self.weights[name] * term.total for name, term in terms.items() if name != "nvs"]
            sums["keypoints"] = (torch.stack(weighed).sum().double(), _count(len(views), views.target_imgs))
        return sums

    def figures(self, model: nn.Module, batch: StoredBatch) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
        network, views = network_of(model), self.prepare(batch)
        return batch_figures(network, views, self._forward(network, views, None), self.config)

    def _forward(self, model: nn.Module, batch: ViewBatch, step: int | None) -> StepOutput:
        """Through the (wrapped) model's own forward."""
        config = self.config
        pictures: dict[str, Any] = {}
        if config.autoencoder is not None:
            pictures["autoencoder_imgs"] = drawn_views(batch, self._encoded_views(batch, config.autoencoder))
        if config.nvs is not None:
            pictures |= {"cond_imgs": batch.cond_imgs, "target_imgs": batch.target_imgs}
            pictures["drop_condition"] = 0.0 if step is None else config.nvs.drop_condition
        if config.keypoints is not None:
            pictures["keypoint_imgs"] = keypoint_pictures(batch, config.keypoints)
        output: StepOutput = model(batch.stored.seed, step=step, **pictures)
        return output

    def _terms(
        self, network: KeypointNvsNetwork, output: StepOutput, batch: ViewBatch, ramp: float, frames: int
    ) -> tuple[dict[str, Term], dict[str, Term]]:
        """Loss terms, and what is logged beside them."""
        terms: dict[str, Term] = {}
        measures: dict[str, Term] = {}
        if output.nvs is not None and self.config.nvs is not None:
            terms["nvs"] = self._nvs_term(network, output.nvs, self.config.nvs.min_snr)
        if output.keypoints is not None and self.config.keypoints is not None and self.settings is not None:
            keypoints = self.config.keypoints
            found, measures = keypoint_terms(
                output.keypoints,
                None if self.settings.multiview is None else keypoint_cameras(batch, keypoints),
                keypoint_alpha(batch, keypoints),
                self.settings,
                ramp,
                tuple(self.weights),
                sample_ids=batch.stored.sample_ids,
                frames=frames,
            )
            terms |= found
        return terms, measures

    def _nvs_term(self, network: KeypointNvsNetwork, output: NvsOutput, min_snr: float | None) -> Term:
        assert network.zero123 is not None
        weights = None if min_snr is None else network.zero123.schedule.min_snr_weights(output.t, min_snr)
        return denoising_term(output.v_pred, output.v, weights)

    def _encoded_views(self, batch: ViewBatch, config: AutoencoderConfig) -> int:
        return min(config.views, batch.target_imgs.shape[1])


def drawn_views(batch: ViewBatch, count: int) -> Tensor:
    """Some target views of each sample (b count 3 h w), drawn by its seed; all of them in their order."""
    views = batch.target_imgs
    if count == views.shape[1]:
        return views
    chosen = uniforms(batch.stored.seed, AUTOENCODER_VIEWS, views.shape[1]).argsort(1)[:, :count]
    return views.gather(1, chosen[:, :, None, None, None].expand(-1, -1, *views.shape[2:]))


def network_of(model: nn.Module) -> KeypointNvsNetwork:
    """The network inside of whatever wraps it."""
    return next(module for module in model.modules() if isinstance(module, KeypointNvsNetwork))


def fit_config(config: KeypointNvsConfig) -> FitConfig:
    """The loop's own part of a configuration."""
    train, figures = config.train, config.figures
    settings = FitConfig(
        max_steps=train.steps,
        batch_size=train.batch_size * train.accumulation,
        accumulation=train.accumulation,
        fraction=config.data.fraction,
        lr=train.lr,
        warmup_steps=train.warmup_steps,
        warmup_start=0.01,
        schedule=Cosine(floor=train.floor) if train.schedule == "cosine" else Constant(),
        betas=train.betas,
        weight_decay=train.weight_decay,
        clip_norm=train.clip_norm,
        ema_decay=train.ema_decay,
        precision=PRECISIONS[train.precision],  # type: ignore[arg-type]
        devices=train.devices,
        nodes=train.nodes,
        compile=train.compile,
        deterministic=train.deterministic,
        seed=train.seed,
        workers=train.workers,
        prefetch=train.prefetch,
        log_every=train.log_steps,
        validate_every=Every(steps=train.validation_steps),
        figures_every=Every(steps=figures.steps) if figures.enabled else None,
        figure_samples=figures.samples,
        save_every=Every(steps=train.checkpoint_steps),
        trackers=train.trackers,
    )
    return settings.model_copy(update={"batch_size": settings.batch_size * process_count(settings)})


def _sums(terms: Mapping[str, Term]) -> dict[str, tuple[Tensor, Tensor]]:
    return {name: (term.total.double(), term.count.double()) for name, term in terms.items()}


def _count(number: int, like: Tensor) -> Tensor:
    return torch.tensor(float(number), dtype=torch.float64, device=like.device)


def _psnr_sum(output: AutoencoderOutput) -> tuple[Tensor, Tensor]:
    """Of pictures in the scaled range, where 0..1 spans 1.25."""
    errors = reconstruction_errors(output.reconstruction, output.target).double()
    return (10 * torch.log10(1.25**2 / errors)).sum(), _count(len(errors), errors)
