"""What the training loop asks of vpog: model, data, loss, metrics and pictures of one configuration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from posecore.losses import total_loss
from posecore.rotations import geodesic_distance
from posecore.training import FitConfig, ParameterGroup, Progress, SampleSource, Task, Terms
from posecore.training.config import Cosine, Every
from posecore.training.launch import process_count
from posecore.weights import load_weights
from vpog import __version__
from vpog.assembly import build_trainable
from vpog.config.run import VpogConfig
from vpog.data.sample import PoseBatch, Sample, collate
from vpog.inference.group_pose import solve_batch
from vpog.labels.flow_labels import labels_of_batch
from vpog.loading import SYSTEM
from vpog.losses.running_scale import running_scale_of
from vpog.losses.settings import LossSettings
from vpog.losses.table import Targets, denominators, loss_terms, match_sums, untaught
from vpog.model.network import VpogNetwork
from vpog.model.prediction import GroupGeometry, MatchInput
from vpog.sheets import batch_figures

PRECISIONS = {"no": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class RunData:
    """Where a run's samples come from."""

    train: SampleSource
    validation: SampleSource | None
    train_weights: Sequence[float] | None = None
    """How often each training sample is drawn, relative to the others; None: each once an epoch."""


class PoseTask(Task[PoseBatch]):
    """One training run."""

    name = SYSTEM
    version = __version__
    monitor = "rotation_deg"
    also_best = ("flow_px",)

    def __init__(
        self,
        config: VpogConfig,
        data: RunData,
        starting_weights: Mapping[str, Tensor] | None = None,
        starting_source: str = "",
    ) -> None:
        self.config, self.data = config, data
        self.starting_weights, self.starting_source = starting_weights, starting_source
        self.rules = config.data.labels.rules(config.model.patch_size)
        self.settings = LossSettings.of(config.loss)
        self.terms = config.loss.terms()

    def resolved_config(self) -> dict[str, Any]:
        return {"config": self.config.to_json_dict()}

    def build_model(self) -> nn.Module:
        network = build_trainable(self.config)
        if self.starting_weights is not None:
            load_weights(network, self.starting_weights, self.starting_source)
        if self.config.train.encoder_lr is None:
            network.encoder.requires_grad_(False)
        return network

    def train_source(self) -> SampleSource:
        return self.data.train

    def validation_source(self) -> SampleSource | None:
        return self.data.validation

    def sample_weights(self) -> Sequence[float] | None:
        return self.data.train_weights

    def collate(self, samples: list[Sample]) -> PoseBatch:
        return collate(samples)

    def prepare(self, batch: PoseBatch) -> PoseBatch:
        """With labels, computed where the batch lies."""
        return replace(batch, labels=labels_of_batch(batch, self.rules))

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """The encoder learns at its own rate; biases, norms and single tokens do not decay."""
        train = self.config.train
        encoder_rate = 1.0 if train.encoder_lr is None else train.encoder_lr / train.lr
        groups: list[ParameterGroup] = []
        for is_encoder, name in ((False, "rest"), (True, "encoder")):
            members = [(n, p) for n, p in model.named_parameters() if n.startswith("encoder.") == is_encoder]
            rate = encoder_rate if is_encoder else 1.0
            decayed = [p for n, p in members if _decays(n, p)]
            kept = [p for n, p in members if not _decays(n, p)]
            groups.append(ParameterGroup(name, decayed, lr_multiplier=rate))
            groups.append(ParameterGroup(f"{name}, no decay", kept, lr_multiplier=rate, weight_decay=0.0))
        return [group for group in groups if group.parameters]

    def denominators(self, batch: PoseBatch) -> Mapping[str, Tensor]:
        return denominators(self._targets(batch, training=True), self.terms)

    def loss(self, model: nn.Module, batch: PoseBatch, denominators: Mapping[str, Tensor], progress: Progress) -> Terms:
        targets = self._targets(batch, training=True)
        weights = self.config.loss.weights_at(progress.step)
        prediction = model(network_input(batch), targets.labels.pairs)
        norm = None
        if "pnp" in weights:
            norm = running_scale_of(model).add(prediction.matching.pnp_scale, progress.step)
        terms = loss_terms(prediction, targets, weights, self.settings, norm=norm, model=model).terms
        values = total_loss(terms, weights, {name: denominators[name] for name in weights})
        values["total"] = values["total"] + untaught(prediction)
        return values

    def validate(self, model: nn.Module, batch: PoseBatch) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Losses as in training, accuracies, flow error, and poses from the network's own matches with the true group."""
        batch = self.prepare(batch)
        targets = self._targets(batch, training=False)
        network = network_of(model)
        prediction = network(network_input(batch), targets.labels.pairs)
        names = [name for name in self.terms if name not in ("pnp", "l2")]
        terms = loss_terms(prediction, targets, names, self.settings, model=model).terms
        losses = {name: (term.total.double(), term.count.double()) for name, term in terms.items()}
        return losses | match_sums(prediction, targets.labels) | self._pose_sums(network, prediction, batch)

    def figures(self, model: nn.Module, batch: PoseBatch) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
        batch = self.prepare(batch)
        assert batch.labels is not None
        network = network_of(model)
        prediction = network(network_input(batch), batch.labels.pairs)
        poses = solve_batch(network, prediction.matching, batch, self.config.inference)
        return batch_figures(batch, batch.labels, prediction, poses, self.config.model.patch_size)

    def _targets(self, batch: PoseBatch, *, training: bool) -> Targets:
        assert batch.labels is not None, "prepare comes first"
        return Targets.of(batch, batch.labels, self.settings, training=training)

    def _pose_sums(self, network: VpogNetwork, prediction: Any, batch: PoseBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Unsolved objects count as turned by 180 degrees."""
        poses = solve_batch(network, prediction.matching, batch, self.config.inference)
        is_solved = poses.isfinite().flatten(1).all(1)
        true, found = batch.cam_from_obj_mm[:, 0].double(), poses.double()
        safe = torch.where(is_solved[:, None, None], found, true)
        angles = torch.rad2deg(geodesic_distance(safe[:, :3, :3], true[:, :3, :3]))
        shift = (safe[:, :3, 3] - true[:, :3, 3]).norm(dim=-1)
        angles = torch.where(is_solved, angles, 180.0)
        near = is_solved & (shift < 0.1 * batch.diameter_mm)
        count = angles.new_tensor(float(len(angles)))
        return {
            "rotation_deg": (angles.sum(), count),
            "within_15_deg": ((angles < 15).double().sum(), count),
            "within_tenth_diameter": (near.double().sum(), count),
            "solved": (is_solved.double().sum(), count),
        }


def network_input(batch: PoseBatch) -> MatchInput:
    """Pictures 0..1 and where the templates look from."""
    rotations = batch.cam_from_obj_mm[:, 1:, :3, :3]
    geometry = GroupGeometry(-rotations[..., 2, :], batch.d_ref, cam_from_obj_rot=rotations)
    return MatchInput(batch.images.float() / 255, geometry)


def network_of(model: nn.Module) -> VpogNetwork:
    """The network inside of whatever wraps it."""
    return next(module for module in model.modules() if isinstance(module, VpogNetwork))


def fit_config(config: VpogConfig) -> FitConfig:
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
        schedule=Cosine(floor=train.floor),
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


def _decays(name: str, parameter: nn.Parameter) -> bool:
    return parameter.ndim > 1 and "token" not in name
