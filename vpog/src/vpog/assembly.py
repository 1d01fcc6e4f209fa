"""From a configuration to a network with the state that its losses keep."""

from vpog.config.run import VpogConfig
from vpog.losses.running_scale import RunningScale
from vpog.model.build import build_network
from vpog.model.network import VpogNetwork


def build_trainable(config: VpogConfig, *, load_weights: bool = True) -> VpogNetwork:
    """The network of a run; the running scale of the pose loss lies in it, so that checkpoints keep it."""
    network = build_network(config.model, load_weights=load_weights)
    network.add_module("running_scale", RunningScale(config.loss.solver.norm_momentum))
    return network
