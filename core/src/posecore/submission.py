"""The training of a configuration as a SLURM job."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from posecore.cli import result, say
from posecore.slurm import SlurmConfig, render_script, submit


def submit_training(
    module: str, config: str, overrides: Sequence[str], run_dir: Path, job_name: str, dry_run: bool, **slurm: Any
) -> None:
    """Write the job script for a system's `train` command and submit it (or print it).

    Args:
        module: What `python -m` runs: the system's command line.
        config: Path of the configuration file.
        slurm: Fields of `SlurmConfig`; those that are None keep their defaults.

    Raises:
        InputError: A value that SLURM would not take.
        RunError: sbatch is missing or refuses.
    """
    settings = SlurmConfig.from_dict({key: value for key, value in slurm.items() if value is not None}, "submit")
    command = [sys.executable, "-m", module, "train", "--config", str(Path(config).resolve())]
    command += ["--run-dir", str(run_dir), "--resume", "auto"]
    command += [part for override in overrides for part in ("--set", override)]
    script = render_script(settings, command, job_name, run_dir / "slurm")
    answer = submit(script, dry_run)
    if dry_run:
        result(answer)
    else:
        say(f"submitted job {answer}; log in {run_dir / 'slurm'}")
        result(answer)
