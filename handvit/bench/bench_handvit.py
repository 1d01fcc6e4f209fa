"""The parts of training and prediction that cost time, at the published sizes, beside what one would use instead.

    PYTHONPATH=core/bench python handvit/bench/bench_handvit.py --json build/bench/bench_handvit.json

The training step is the preset dinov2-large with random weights, fp32: uint8 patches with labels to gradients of all 404
million parameters, through pixel augmentation, network and losses. Its rival is the bare encoder of transformers, the
same weights, forward and backward on the same patches; the optimiser's step is in neither. A ratio of 0.87 says that all
that handvit adds costs 15 %. `+backward` is forward and backward; smplx has no way to joints without the mesh.
"""

TASK_RATIO = round(1 / 1.15, 3)
"""A step may take 1.15 times the bare encoder's."""
SMALL_ENCODER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 14}
