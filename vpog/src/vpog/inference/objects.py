"""Objects as the network knows them: templates, encoded once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vpog.data.template_set import TemplateSet
from vpog.model.network import VpogNetwork
from vpog.objects.models_info import ModelInfo

ENCODED_AT_ONCE = 64


@dataclass(frozen=True)
class KnownObject:
    """An object that poses can be asked for."""

    obj_id: int
    templates: TemplateSet
    tokens: Float[Tensor, "v p d"]
    """On the network's device."""
    directions: Float[np.ndarray, "v 3"]
    info: ModelInfo

    def __len__(self) -> int:
        return len(self.templates)


def encode_templates(network: VpogNetwork, templates: TemplateSet, device: torch.device) -> Float[Tensor, "v p d"]:
    """What the encoder makes of each template; the same whatever query it is matched with later."""
    pictures = torch.from_numpy(np.ascontiguousarray(templates.rgb.transpose(0, 3, 1, 2)))
    parts = [network.encode(part.to(device) / 255) for part in torch.split(pictures, ENCODED_AT_ONCE)]
    return torch.cat(parts)


class TemplateBank:
    """The views of several objects in one table, so that detections of different objects share a batch."""

    def __init__(self, objects: Mapping[int, KnownObject], device: torch.device) -> None:
        known = list(objects.values())
        starts = np.cumsum([0, *(len(item) for item in known)])
        self.start = {item.obj_id: int(start) for item, start in zip(known, starts[:-1], strict=True)}
        self.tokens = torch.cat([item.tokens for item in known])
        self.directions = _tensor(np.concatenate([item.directions for item in known]), device)
        self.depth_mm = _tensor(np.concatenate([item.templates.depth_mm for item in known]), device)
        self.K = _tensor(np.concatenate([item.templates.K for item in known]), device)
        self.cam_from_obj_mm = _tensor(np.concatenate([item.templates.cam_from_obj_mm for item in known]), device)

    def rows(self, obj_id: int, views: Int64[np.ndarray, " k"]) -> Int64[np.ndarray, " k"]:
        """Of the table."""
        return views + self.start[obj_id]


def view_groups(directions: Float[np.ndarray, "v 3"], size: int) -> Int64[np.ndarray, "g size"]:
    """The views in groups of neighbours; the last group takes views of others to be full.

    Each group begins with the first view that is left, and takes those nearest to it.
    """
    size = min(size, len(directions))
    nearest = np.argsort(-(directions @ directions.T), axis=1, kind="stable")
    left = np.ones(len(directions), bool)
    groups: list[np.ndarray] = []
    while left.any():
        order = nearest[int(np.flatnonzero(left)[0])]
        own = order[left[order]][:size]
        group = np.concatenate([own, order[~left[order]][: size - len(own)]])
        left[own] = False
        groups.append(group)
    return np.stack(groups)


def neighbours(directions: Float[np.ndarray, "v 3"], wanted: Float[np.ndarray, "3"], count: int) -> Sequence[int]:
    """The views nearest to a direction, nearest first."""
    order = np.argsort(-(directions @ wanted), kind="stable")
    return [int(view) for view in order[:count]]


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).float().to(device)
