"""How the loss terms are computed, as plain values; each field is told in `vpog.config.loss`."""

from dataclasses import dataclass, field

from vpog.config.loss import LossConfig
from vpog.losses.dense import DenseKind
from vpog.losses.robust import RobustKind
from vpog.pnp.settings import PnpSettings


@dataclass(frozen=True)
class LossSettings:
    tau: float = 1.0
    unmatched_weight: float = 1.0
    label_smoothing: float = 0.0
    bg_as_unmatched: float = 0.5
    dense_kind: DenseKind = "laplace"
    dense_delta: float = 0.5
    centre_kind: RobustKind = "l1"
    centre_delta: float = 0.5
    solver: PnpSettings = field(default_factory=PnpSettings)

    @classmethod
    def of(cls, config: LossConfig) -> "LossSettings":
        return cls(
            tau=config.tau,
            unmatched_weight=config.unmatched_weight,
            label_smoothing=config.label_smoothing,
            bg_as_unmatched=config.bg_as_unmatched,
            dense_kind=config.dense_kind,
            dense_delta=config.dense_delta,
            centre_kind=config.centre_kind,
            centre_delta=config.centre_delta,
            solver=config.solver.settings(),
        )
