"""The same training as a SLURM job: a readable batch script, submitted with sbatch.

srun starts one task a GPU; the library finds rank and address in SLURM's environment.
--signal=USR1@lead asks the run to save and requeue ahead of the time limit; the run's command
has to say `--resume auto`, so that it goes on where it stopped (posecore.training.preemption).
"""

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from posecore.config import Config
from posecore.errors import InputError, RunError
from posecore.training.preemption import requeue_if_preempted

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._,:+@=/\-]*$")]
"""A value for an #SBATCH line: no spaces, quotes or line breaks, so it can be nothing but a value."""
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]

_TIME = re.compile(r"^(?:(\d+)-)?(\d+):([0-5]?\d)(?::([0-5]?\d))?$")
_EXTRA = re.compile(r"^--[a-z][a-z\-]*(=[A-Za-z0-9._,:+@/\-\[\]%*()]+)?$")
_ARRAY = re.compile(r"^\d+(-\d+(:\d+)?)?(,\d+(-\d+(:\d+)?)?)*(%\d+)?$")
SBATCH_TIMEOUT_S = 120


class SlurmConfig(Config):
    """What a job asks of the cluster."""

    nodes: PositiveInt = 1
    gpus_per_node: NonNegativeInt = 1
    """One task each; 0: one task a node on CPUs."""
    gpu_type: Word | None = None
    """As the cluster names it, for example a100."""
    cpus_per_task: PositiveInt = 8
    time: str = "24:00:00"
    """Limit as [days-]hours:minutes[:seconds], for example 1-12:00:00."""
    mem: Word | None = None
    """Memory of a node, for example 120G; null: the cluster's default."""
    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    signal_lead_s: NonNegativeInt = 300
    """Seconds before the limit at which the run is told to save and requeue; SLURM may be a minute off. 0: never."""
    requeue: bool = True
    """Back into the queue after preemption or the time limit, as often as it takes."""
    array: str | None = None
    """Indices of a job array, for example 0-7 or 0-63%8."""
    environment: dict[EnvironmentName, str] = {}
    """Variables for the job, for example {"WANDB_MODE": "offline"}."""
    modules: list[Word] = []
    """For `module load`."""
    setup: list[str] = []
    """Shell lines before the command, for example `source .venv/bin/activate`. They run as they stand."""
    extra: list[str] = []
    """Further sbatch options, for example --exclude=node07."""

    @property
    def tasks_per_node(self) -> int:
        return max(self.gpus_per_node, 1)

    @property
    def time_s(self) -> int:
        """The limit in seconds."""
        matched = _TIME.match(self.time)
        assert matched is not None
        days, hours, minutes, seconds = (int(part or 0) for part in matched.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds

    @field_validator("time")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        if not _TIME.match(value):
            raise ValueError(f"{value!r} is not [days-]hours:minutes[:seconds], for example 24:00:00")
        return value

    @field_validator("array")
    @classmethod
    def _is_an_array(cls, value: str | None) -> str | None:
        if value is not None and not _ARRAY.match(value):
            raise ValueError(f"{value!r} is no list of indices, for example 0-7 or 0-63%8")
        return value

    @field_validator("extra")
    @classmethod
    def _are_options(cls, values: list[str]) -> list[str]:
        for value in values:
            if not _EXTRA.match(value):
                raise ValueError(f"{value!r} is no sbatch option of the form --name or --name=value")
        return values

    @field_validator("setup")
    @classmethod
    def _are_single_lines(cls, values: list[str]) -> list[str]:
        for value in values:
            if "\n" in value or value.lstrip().startswith("#SBATCH"):
                raise ValueError(f"{value!r} is not one shell line; options go to extra")
        return values

    @field_validator("environment")
    @classmethod
    def _are_single_line_values(cls, values: dict[str, str]) -> dict[str, str]:
        for name, value in values.items():
            if "\n" in value or "\0" in value:
                raise ValueError(f"{name} has a value of several lines")
        return values

    @model_validator(mode="after")
    def _time_to_save(self) -> "SlurmConfig":
        if self.signal_lead_s >= self.time_s:
            raise ValueError(f"signal_lead_s {self.signal_lead_s} is not below time {self.time} ({self.time_s} s)")
        return self


def render_script(slurm: SlurmConfig, command: Sequence[str], job_name: str, log_dir: Path | str) -> str:
    """The batch script; every word of the command is quoted for the shell.

    Args:
        command: Program and arguments of one task; has to resume by itself (`--resume auto`) to survive a requeue.
        log_dir: Absolute, or relative to the folder submitted from; one log a job, appended to after a requeue.

    Raises:
        InputError: A name that cannot stand in a script.
    """
    options = [f"#SBATCH {option}" for option in _options(slurm, job_name, log_dir)]
    exports = [f"export {name}={shlex.quote(value)}" for name, value in slurm.environment.items()]
    modules = [f"module load {shlex.join(slurm.modules)}"] if slurm.modules else []
    # A task that dies takes the others along: they would wait for it until the timeout.
    run = f"srun --kill-on-bad-exit=1 --cpus-per-task={slurm.cpus_per_task} {shlex.join(command)}"
    # The shell outlives signals that are meant for the tasks. (No `set -u`: conda's activation breaks under it.)
    shell = ["set -eo pipefail", "trap : TERM USR1"]
    parts = ["#!/bin/bash", *options, "", *shell, *exports, *modules, *slurm.setup, run]
    return "\n".join(parts) + "\n"


def submit(script: str, dry_run: bool = False) -> str:
    """Hand a script to sbatch and return the job's id; a dry run returns the script itself, exactly as it would go.

    The folder of the log is made: SLURM would let the job fail without a word.

    Raises:
        RunError: sbatch is missing or refuses; says what it said.
    """
    if dry_run:
        return script
    for log in re.findall(r"^#SBATCH --output=(.*)/[^/]*$", script, re.MULTILINE):
        Path(log).mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ("sbatch", "--parsable"),
            input=script,
            capture_output=True,
            text=True,
            timeout=SBATCH_TIMEOUT_S,
            check=True,
        )
    except FileNotFoundError:
        raise RunError("sbatch: not found; run this on a login node of the cluster, or look with --dry-run") from None
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or "").strip()
        raise RunError(f"sbatch: {said or error}") from error
    return done.stdout.strip().split(";")[0]  # "id" or "id;cluster"


def _options(slurm: SlurmConfig, job_name: str, log_dir: Path | str) -> list[str]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+\-]*", job_name):
        raise InputError(f"job name: {job_name!r}: letters, digits and . _ + - are possible")
    if job_name in ("bash", "interactive"):
        raise InputError(f"job name: {job_name!r} means an interactive job, whose tasks would not find each other")
    log = f"{log_dir}/{job_name}-{'%A_%a' if slurm.array else '%j'}.log"
    if not re.fullmatch(r"[A-Za-z0-9._+/~%\-]+", log):
        raise InputError(f"log folder: {str(log_dir)!r}: no spaces or quotes; SLURM reads the line without a shell")
    gpus = f"{slurm.gpu_type}:{slurm.gpus_per_node}" if slurm.gpu_type else str(slurm.gpus_per_node)
    candidates = {
        "job-name": job_name,
        "output": log,
        "open-mode": "append",
        "nodes": slurm.nodes,
        "ntasks-per-node": slurm.tasks_per_node,
        "gpus-per-node": gpus if slurm.gpus_per_node else None,
        "cpus-per-task": slurm.cpus_per_task,
        "mem": slurm.mem,
        "time": slurm.time,
        "partition": slurm.partition,
        "account": slurm.account,
        "qos": slurm.qos,
        "array": slurm.array,
        "signal": f"USR1@{slurm.signal_lead_s}" if slurm.signal_lead_s else None,
    }
    options = [f"--{name}={value}" for name, value in candidates.items() if value is not None]
    return [*options, "--requeue" if slurm.requeue else "--no-requeue", *slurm.extra]


__all__ = ["SlurmConfig", "render_script", "requeue_if_preempted", "submit"]
