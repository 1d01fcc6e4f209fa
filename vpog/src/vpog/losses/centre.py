"""Where the query patch's centre lies within the template patch."""

from jaxtyping import Bool, Float
from torch import Tensor

from posecore.losses import Term, masked_difference, weighed
from vpog.labels.records import FlowLabels
from vpog.losses.robust import RobustKind, robust


def centre_term(
    prediction: Float[Tensor, "m 2"],
    target: Float[Tensor, "m 2"],
    weight: Float[Tensor, " m"],
    kind: RobustKind = "l1",
    delta: float = 0.5,
) -> Term:
    """Summed over x and y, in patches; weight 0 leaves out."""
    return weighed(robust(masked_difference(prediction, target, weight), kind, delta).sum(-1), weight)


def centre_targets(labels: FlowLabels) -> tuple[Float[Tensor, "m 2"], Float[Tensor, " m"]]:
    """Flow of each matched pair, and 1 where enough of its pixels stay within the patch."""
    where = labels.pairs[:, 0], labels.pairs[:, 1], labels.pairs[:, 2]
    flows: Float[Tensor, "m 2"] = labels.flows.flatten(2, 3)[where]
    is_visible: Bool[Tensor, " m"] = labels.patch_visibility.flatten(2, 3)[where]
    return flows, is_visible.to(flows)


def centre_count(labels: FlowLabels) -> Float[Tensor, ""]:
    return centre_targets(labels)[1].sum()
