"""Loss terms of parts of a validation, to be added up and divided at its end."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from handvit.data.sample import Batch
from handvit.hand import HandModel
from handvit.losses.scene import LossSettings
from handvit.losses.table import loss_terms
from handvit.model.prediction import HandPrediction


def loss_sums(
    prediction: HandPrediction,
    batch: Batch,
    hand: HandModel,
    names: Iterable[str],
    settings: LossSettings,
    datasets: Sequence[str] = (),
) -> dict[str, tuple[Tensor, Tensor]]:
    """Sum and count of the named terms by their names; those of a data set as `DATASET/NAME`."""
    parts = {"": batch} | {f"{name}/": only(batch, name) for name in datasets if name in batch.data_source}
    return {
        part + name: (term.total.sum(), term.count.sum())
        for part, labels in parts.items()
        for name, term in loss_terms(prediction, labels, hand, names, settings).items()
    }


def only(batch: Batch, dataset: str) -> Batch:
    """The batch with the labels of one data set alone: everything else is masked."""
    mine = torch.tensor([name == dataset for name in batch.data_source], device=batch.has_mano.device)
    return replace(
        batch,
        joint_2d_valid=batch.joint_2d_valid * mine[:, None, None],
        joint_3d_valid=batch.joint_3d_valid * mine[:, None, None],
        has_mano=batch.has_mano * mine[:, None],
        has_intr=batch.has_intr * mine[:, None],
    )
