"""A training step of the preset dinov2-large beside its bare image encoder.

    PYTHONPATH=core/bench python handvit/bench/bench_handvit_model.py --json build/bench/bench_handvit_model.json

The step: patches from their regions, the network's forward, all losses, backward, for a batch of 4, float32. The bare
encoder: transformers' own forward and backward of the same patches. Neither includes the optimiser. Random weights.
"""

from typing import Any

import numpy as np
from _measure import Target, compare, json_argument, report

from handvit.assembly import Facts
from handvit.config import HandvitConfig
from handvit.data.preparation import Preparation
from handvit.data.preprocess import PatchSettings
from handvit.data.sample import collate
from handvit.data.synthetic import SyntheticSet, synthetic_records
from handvit.hand import read_hand
from handvit.model.build import build_network
from handvit.task import HandTask, RunData
from posecore.config import load_config
from posecore.training.task import Progress

PRESET, BATCH, RUNS = "dinov2-large.json", 4, 5
NEEDED = round(1 / 1.15, 2)


def main() -> None:
    json_path = json_argument(__doc__)
    step, encoder = _training_step(PRESET)
    name = f"{PRESET.removesuffix('.json')}, batch {BATCH}: a step, forward + backward"
    result = compare(name, step, {"bare encoder": encoder}, runs=RUNS, target=Target(ratio=NEEDED))
    report([result], json_path)


def _training_step(preset: str) -> tuple[Any, Any]:
    config = load_config(HandvitConfig, preset, [])
    hand = read_hand(None)
    network = build_network(config.model, mean_rotations=hand.mean_rotations(), load_weights=False).train()
    task = HandTask(config, hand, RunData([], None), Facts(None, True))  # type: ignore[arg-type]
    records = synthetic_records(SyntheticSet(BATCH, 1, (256, 256), 0, "bench"), hand)
    prepare = Preparation(PatchSettings(config.model.img_size, config.train.expansion_ratio))
    rng = np.random.default_rng(0)
    batch = collate([prepare(record, rng) for record in records])
    trunk = network.backbone.backbone
    patches = task.prepare(batch).network_input().patches.flatten(0, 1)

    def whole() -> None:
        network.zero_grad(set_to_none=True)
        ready = task.prepare(batch)
        task.loss(network, ready, task.denominators(ready), Progress(0, 0, 0.0))["total"].backward()

    def bare() -> None:
        network.zero_grad(set_to_none=True)
        trunk(patches).last_hidden_state.sum().backward()

    return whole, bare


if __name__ == "__main__":
    main()
