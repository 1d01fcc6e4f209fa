"""The optimizer from a task's parameter groups."""

from collections.abc import Sequence

import torch
from torch import nn

from posecore.training.config import FitConfig
from posecore.training.task import ParameterGroup


def build_optimizer(model: nn.Module, groups: Sequence[ParameterGroup], config: FitConfig) -> torch.optim.AdamW:
    """AdamW with one group each; parameters that are frozen (no gradient) are left alone, also by weight decay.

    Raises:
        ValueError: A trained parameter of the model is in no group, or in two.
    """
    _check_that_groups_cover(model, groups)
    return torch.optim.AdamW(
        [
            {
                "params": list(group.parameters),
                "weight_decay": config.weight_decay if group.weight_decay is None else group.weight_decay,
            }
            for group in groups
        ],
        lr=config.lr,
        betas=config.betas,
        fused=True,
    )


def set_learning_rates(optimizer: torch.optim.Optimizer, groups: Sequence[ParameterGroup], rate: float) -> None:
    """Each group's rate is the scheduled rate times its multiplier."""
    for options, group in zip(optimizer.param_groups, groups, strict=True):
        options["lr"] = rate * group.lr_multiplier


def _check_that_groups_cover(model: nn.Module, groups: Sequence[ParameterGroup]) -> None:
    members = [id(parameter) for group in groups for parameter in group.parameters]
    twice = len(members) - len(set(members))
    if twice:
        raise ValueError(f"parameter_groups: {twice} parameters stand in more than one group")
    grouped = set(members)
    left_out = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in grouped]
    if left_out:
        raise ValueError(f"parameter_groups: trained parameters in no group: {', '.join(left_out[:5])}")
