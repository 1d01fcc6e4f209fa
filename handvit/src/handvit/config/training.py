"""How long and how fast to train, and what is written when."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from handvit.config.augmentation import AugmentationConfig
from posecore.config import Config


class GeneralConfig(Config):
    """Steps: an optimiser step counts as one, whatever the number of processes."""

    total_step: PositiveInt = 100_000
    log_step: PositiveInt = 10
    """Steps between two lines of metrics."""
    vis_step: PositiveInt | None = 100
    """Steps between pictures of predictions; null: none."""
    checkpoint_step: PositiveInt = 3000
    """Steps between checkpoints; the newest three and the best are kept."""
    validation_step: PositiveInt = 3000
    """Steps between validations."""
    warmup_step: NonNegativeInt = 5000
    """Steps over which the rate grows linearly."""
    dropout_warmup_step: NonNegativeInt = 10_000
    """Steps over which dropout grows linearly to its value; 0: it is there from the start."""
    cosine_cycle: Annotated[float, Field(gt=0.0, le=0.5)] = 0.4
    """Part of a cosine period that the rate falls through after warm-up: 0.4 ends at 9.5 %."""
    seed: NonNegativeInt = 0
    stage1_path: Path | None = None
    """Run or checkpoint of stage 1 that stage 2 begins with (folder or .safetensors file)."""
    weights_path: Path | None = None
    """Run or checkpoint of the same stage whose weights a new run begins with, for fine-tuning on other data."""
    trackers: list[Literal["tensorboard", "aim", "wandb"]] = ["tensorboard"]
    """Where metrics go besides metrics.jsonl; an empty list: nowhere."""


class TrainConfig(Config):
    """Rates, batches, precision and augmentation."""

    lr: PositiveFloat = 1e-4
    """Peak learning rate of all but the backbone."""
    backbone_lr: PositiveFloat | None = 1e-5
    """Peak learning rate of the backbone; null: frozen."""
    sample_per_device: PositiveInt = 32
    """Clips that one process handles at a time."""
    grad_accum_step: PositiveInt = 1
    """Such batches that are added up for one step."""
    max_grad: PositiveFloat | None = 1.0
    """Largest norm of the gradient of what is trained; null: no clipping."""
    weight_decay: NonNegativeFloat = 1e-4
    """Not on biases, norms and positions."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "bf16"
    """Of backbone and decoder; the hand model, expectations, projection and losses are always float32."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of the moving average of the weights that is validated and saved; null: none."""
    expansion_ratio: PositiveFloat = 2.0
    """Side of the patch over the longer side of the hand's box."""
    turn_camera: bool = False
    """Perspective-correct crop: a virtual camera turned to the box centre."""
    augmentation: AugmentationConfig = AugmentationConfig()
    devices: PositiveInt | Literal["auto"] = "auto"
    """Processes (GPUs) on each node; auto: what torchrun or SLURM started, else all GPUs, else one CPU process."""
    nodes: PositiveInt | Literal["auto"] = "auto"
    compile: bool = False
    """Compile the network with torch.compile."""
    deterministic: bool = False
    """Only algorithms whose result does not vary from run to run, also on GPUs (slower)."""
