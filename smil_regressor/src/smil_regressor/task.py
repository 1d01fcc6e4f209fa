"""What the training loop asks of smil: model, data, loss, metrics and pictures of one configuration."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from posecore.bodymodel import BodyModel
from posecore.draw import draw_curves
from posecore.training import FitConfig, ParameterGroup, Progress, Task, Terms
from posecore.training.batches import to_device
from posecore.training.checkpoints import load_checkpoint, load_weights
from posecore.training.config import Constant, Every, Steps
from smil_regressor import __version__, metrics
from smil_regressor.assembly import Facts, build_body, build_network, loss_settings
from smil_regressor.config import SmilConfig
from smil_regressor.data.augmentation import Augmenter
from smil_regressor.data.mixing import RunData
from smil_regressor.data.sample import Batch, Sample, collate
from smil_regressor.data.statistics import sampled_labels
from smil_regressor.draw import prediction_sheet
from smil_regressor.losses import denominators, loss_terms, total_loss
from smil_regressor.model.camera_head import FovCameras
from smil_regressor.model.decoder import DecoderHead
from smil_regressor.model.original import load_original, read_original
from smil_regressor.model.prediction import Prediction
from smil_regressor.model.regressor import MultiViewRegressor, SingleViewRegressor

METRICS = "metrics.jsonl"
SYSTEM = "smil"


class SmilTask(Task[Batch]):
    """One training run."""

    name = SYSTEM
    version = __version__

    def __init__(
        self,
        config: SmilConfig,
        body: BodyModel,
        data: RunData,
        facts: Facts,
        folders: Sequence[Path] = (),
        starting_weights: Path | None = None,
        starting_rig: FovCameras | None = None,
        run_dir: Path | None = None,
    ) -> None:
        self.config, self.data, self.facts = config, data, facts
        self.folders, self.starting_weights, self.starting_rig = folders, starting_weights, starting_rig
        self.run_dir, self._epoch = run_dir, 0
        self.body_model = body
        self.body = build_body(config, body)
        self.settings = loss_settings(config, body.joint_names, facts.body_scale)
        self.augment = Augmenter(config.augmentation)
        self.monitor = "mpjpe" if _has_3d(data) else "px_input"
        self._terms = _terms_ever_weighed(config)

    def resolved_config(self) -> dict[str, Any]:
        return {"config": self.config.to_json_dict(), "facts": self.facts.to_dict()}

    def build_model(self) -> nn.Module:
        network = build_network(self.config, self.body_model, self.facts, self.folders)
        if self.starting_rig is not None and isinstance(network, MultiViewRegressor):
            with torch.no_grad():
                network.camera_heads.start_from(self.starting_rig)
        if self.starting_weights is not None:
            load_starting_weights(network, self.starting_weights)
        if self.config.training.reset_ief_token_embedding and isinstance(network.head, DecoderHead):
            network.head.reset_token_embedding()
        self._freeze(network, 0)
        return network

    def train_source(self) -> Any:
        return self.data.train

    def validation_source(self) -> Any:
        return self.data.validation if len(self.data.validation) else None

    def sample_weights(self) -> Sequence[float] | None:
        return None if self.data.train_weights is None else self.data.train_weights.tolist()

    def collate(self, samples: list[Sample]) -> Batch:
        return collate(samples)

    def prepare(self, batch: Batch) -> Batch:
        return self.augment(batch)

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """The backbone learns at its own rate; both groups exist from the start, frozen or not."""
        backbone = [p for name, p in model.named_parameters() if name.startswith("backbone.trunk.")]
        rest = [p for name, p in model.named_parameters() if not name.startswith("backbone.trunk.")]
        return [
            ParameterGroup("heads", rest),
            ParameterGroup("backbone", backbone, lr_multiplier=self.config.model.backbone_lr_multiplier),
        ]

    def begin_epoch(self, model: nn.Module, progress: Progress) -> None:
        model.train()
        self._epoch = progress.epoch
        self._freeze(model, progress.epoch)

    def denominators(self, batch: Batch) -> Mapping[str, Tensor]:
        return denominators(batch, self._terms, self.settings)

    def loss(self, model: nn.Module, batch: Batch, denominators: Mapping[str, Tensor], progress: Progress) -> Terms:
        weights = self.config.loss_weights(progress.epoch)
        active = [name for name in self._terms if weights.get(name, 0.0) > 0]
        prediction: Prediction = model(batch)
        terms = loss_terms(prediction, batch, self.body.to(batch.images.device), active, self.settings)
        values = total_loss(terms, weights, denominators)
        # Values that were not finite were left as they were; the step then counts as broken, and the run stops there.
        values["total"] = torch.where(prediction.nonfinite > 0, torch.nan, values["total"])
        return values

    def validate(self, model: nn.Module, batch: Batch) -> Mapping[str, tuple[Tensor, Tensor]]:
        prediction: Prediction = model(batch)
        body = self.body.to(batch.images.device)
        parents = body.model.parents.tolist()
        measured = metrics.measure(
            batch, body.joints(prediction), prediction.rotations, prediction.K, prediction.cam_from_world, None, parents
        )
        names = ("mpjpe", "root_aligned", "pa_mpjpe", "px_input", "px_native", "angle_deg", "triangulation")
        return {name: _sum_and_count(getattr(measured, name)) for name in names}

    def figures(self, model: nn.Module, batch: Batch) -> Mapping[str, UInt8[np.ndarray, "h w 3"]]:
        """Validation and training samples, single views, and the curves so far, each when its epoch is due."""
        output, ended = self.config.output, self._epoch + 1
        is_last = ended >= self.config.training.num_epochs
        pictures: dict[str, UInt8[np.ndarray, "h w 3"]] = {}
        if is_last or ended % output.generate_visualizations_every == 0:
            pictures |= self._sheets(model, batch, output.visualizations_dir)
            pictures |= self._sheets(model, self._training_batch(batch), output.train_visualizations_dir)
            if self.config.mode == "multiview":
                pictures |= self._single_views(model, batch)
        if is_last or ended % output.plot_history_every == 0:
            pictures |= self._curves()
        return pictures

    def _sheets(self, model: nn.Module, batch: Batch, folder: str) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        prediction: Prediction = model(batch)
        body = self.body.to(batch.images.device)
        count = min(len(batch), self.config.output.num_visualization_samples)
        names, renderer = self._camera_names, self.config.losses.renderer
        return {
            f"{folder}/{i:02d}": prediction_sheet(batch, prediction, body, i, names, renderer) for i in range(count)
        }

    def _single_views(self, model: nn.Module, batch: Batch) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        """One picture for each view of the first sample."""
        prediction: Prediction = model(batch)
        body, names = self.body.to(batch.images.device), self._camera_names
        pictures = {}
        for view in torch.nonzero(batch.view_mask[0]).flatten():
            name = names[int(batch.camera_slots[0, view])]
            sheet = prediction_sheet(batch, prediction, body, 0, names, self.config.losses.renderer, view[None])
            pictures[f"{self.config.output.singleview_visualizations_dir}/00_{name}"] = sheet
        return pictures

    def _training_batch(self, like: Batch) -> Batch:
        """The first training samples, as they are before augmentation."""
        count = min(len(self.data.train), self.config.output.num_visualization_samples)
        samples = [self.data.train.load(i, np.random.default_rng((0, 0, i))) for i in range(count)]
        batch: Batch = to_device(collate(samples), like.images.device)
        return batch

    def _curves(self) -> dict[str, UInt8[np.ndarray, "h w 3"]]:
        """Training loss and validation error so far, from the run's metrics.jsonl."""
        if self.run_dir is None or not (self.run_dir / METRICS).is_file():
            return {}
        lines = [json.loads(line) for line in (self.run_dir / METRICS).read_text(encoding="utf-8").splitlines()]
        pictures = {}
        for name, key in (("loss", "train/total"), ("validation", f"validation/{self.monitor}")):
            points = np.array([(row["step"], row[key]) for row in lines if row.get(key) is not None])
            if len(points) > 1:
                curve = {key: (points[:, 0], points[:, 1])}
                pictures[f"{self.config.output.plots_dir}/{name}"] = draw_curves(curve, key, "step", key)
        return pictures

    @property
    def _camera_names(self) -> tuple[str, ...]:
        return self.facts.camera_order if self.config.mode == "multiview" else ()

    def _freeze(self, model: nn.Module, epoch: int) -> None:
        assert isinstance(model, SingleViewRegressor | MultiViewRegressor)
        settings = self.config.model
        thawed = settings.backbone_unfreeze_epoch is not None and epoch >= settings.backbone_unfreeze_epoch
        model.backbone.freeze(settings.freeze_backbone and not thawed)


def load_starting_weights(network: SingleViewRegressor | MultiViewRegressor, path: Path) -> None:
    """Weights of one of our runs or checkpoints, or of a .pth of the original, into a new network.

    Raises:
        InputError: They do not fit.
    """
    if path.suffix in (".pth", ".pt"):
        load_original(network, read_original(path))
    else:
        load_weights(network, load_checkpoint(path, SYSTEM).weights, str(path))


def fit_config(config: SmilConfig) -> FitConfig:
    """The loop's own part of a configuration. Rates and loss weights follow the task's schedules."""
    training, output = config.training, config.output
    return FitConfig(
        epochs=training.num_epochs,
        max_steps=training.max_steps,
        batch_size=training.batch_size,
        accumulation=training.gradient_accumulation_steps,
        fraction=config.dataset.dataset_fraction,
        lr=config.optimizer.learning_rate,
        warmup_steps=training.warmup_steps,
        schedule=Steps(by="epoch", rates=config.optimizer.lr_schedule) if config.optimizer.lr_schedule else Constant(),
        weight_decay=config.optimizer.weight_decay,
        clip_norm=config.optimizer.gradient_clip_norm,
        ema_decay=training.ema_decay,
        precision="bf16-mixed" if training.use_mixed_precision else "32-true",
        devices=training.devices,
        nodes=training.nodes,
        seed=training.seed,
        workers=training.num_workers,
        prefetch=training.prefetch_factor,
        pin_memory=training.pin_memory,
        log_every=training.log_every,
        validate_every=Every(epochs=training.validate_every),
        figures_every=Every(epochs=math.gcd(output.generate_visualizations_every, output.plot_history_every)),
        figure_samples=output.num_visualization_samples,
        save_every=Every(epochs=output.save_checkpoint_every),
        trackers=training.trackers,
    )


def _terms_ever_weighed(config: SmilConfig) -> list[str]:
    """Names with a weight in some epoch, in a fixed order: the denominators of every step have these names."""
    from smil_regressor._defaults import LOSS_TERMS

    epochs = [epoch for epoch in config.weight_epochs() if epoch < config.training.num_epochs]
    weighed = {name for epoch in epochs for name, weight in config.loss_weights(epoch).items() if weight > 0}
    return [name for name in LOSS_TERMS if name in weighed]


def _has_3d(data: RunData) -> bool:
    """Some validation sample has 3D keypoints, so that the best checkpoint can be chosen by their error."""
    return (
        any(sample.has_keypoints_world.any() for sample in sampled_labels(data.validation))
        if len(data.validation)
        else False
    )


def _sum_and_count(values: np.ndarray) -> tuple[Tensor, Tensor]:
    known = values[np.isfinite(values)]
    return torch.tensor(known.sum()), torch.tensor(float(known.size))
