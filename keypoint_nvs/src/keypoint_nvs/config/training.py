"""How long and how fast to train, and what is written when."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from posecore.config import Config


class TrainConfig(Config):
    """An optimiser step counts as one, whatever the number of processes."""

    steps: PositiveInt = 50_000
    batch_size: PositiveInt = 4
    """Samples (objects, or single pictures) that one process handles at a time."""
    accumulation: PositiveInt = 1
    """Such batches that are added up for one step."""
    lr: PositiveFloat = 1e-5
    """Peak learning rate of UNet and autoencoder."""
    token_lr: PositiveFloat = 1e-4
    """Peak learning rate of the tokens: 5e-3 alone, 1e-4 jointly."""
    ramp_lr: PositiveFloat | None = None
    """Of the ramp of the image prompt; null: lr."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    weight_decay: NonNegativeFloat = 0.01
    """Not on biases, norms, tokens and the ramp."""
    warmup_steps: NonNegativeInt = 1000
    """Steps over which the rate grows from 1 % to its peak."""
    schedule: Literal["constant", "cosine", "restarts"] = "cosine"
    """restarts: cosines of `cycle_steps` one after the other."""
    cycle_steps: PositiveInt = 3000
    """Of schedule restarts."""
    floor: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Lowest rate of the cosine, relative to the peak: 0.25 for InstantMesh's restarts."""
    clip_norm: PositiveFloat | None = 1.0
    """Largest norm of the gradient of what is trained; null: no clipping."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Of the networks; attention scores of keypoints and losses are always float32. fp16 is known not to converge for tokens."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of the moving average of the weights that is validated and saved; null: none."""
    seed: NonNegativeInt = 0
    log_steps: PositiveInt = 20
    """Steps between two lines of metrics."""
    validation_steps: PositiveInt = 1000
    """Steps between validations."""
    checkpoint_steps: PositiveInt = 1000
    """Steps between checkpoints; the newest three and the best are kept."""
    weights: Path | None = None
    """Run or checkpoint of the same configuration whose weights a new run begins with, for fine-tuning."""
    trackers: list[Literal["tensorboard", "aim", "wandb"]] = ["tensorboard"]
    """Where metrics go besides metrics.jsonl; an empty list: nowhere."""
    workers: NonNegativeInt = 2
    """Processes that load data for each training process; 0: it loads them itself."""
    prefetch: PositiveInt = 2
    """Batches that each of them loads ahead."""
    devices: PositiveInt | Literal["auto"] = "auto"
    """Processes (GPUs) on each node; auto: what torchrun or SLURM started, else all GPUs, else one CPU process."""
    nodes: PositiveInt | Literal["auto"] = "auto"
    compile: bool = False
    """Compile the network with torch.compile."""
    deterministic: bool = False
    """Only algorithms whose result does not vary from run to run, also on GPUs (slower)."""


class FiguresConfig(Config):
    """Pictures of views and keypoints while training."""

    enabled: bool = True
    steps: PositiveInt = 1000
    """Steps between them."""
    samples: PositiveInt = 2
    """Validation samples that are shown."""
