"""Signals that ask a run to save and make room, and SLURM's requeue.

Call `install` before importing torch: a signal that comes during the import (it takes seconds)
would kill the job. This module imports the standard library only.

Which signal means what (seen on a real cluster): SIGUSR1 comes ahead of the time limit
(`--signal=USR1@lead`), so save and requeue. SIGTERM comes with preemption, but also with
`scancel`, and a requeue call would bring a cancelled job back to life: requeue only if the
scheduler says that the job is running and was preempted. A preempted job that exits within its
grace time counts as completed and is not requeued by SLURM itself.
"""

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from posecore.errors import RunError

logger = logging.getLogger(__name__)

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
"""Windows has no SIGUSR1."""
SCONTROL_TIMEOUT_S = 60

_previous: dict[int, Any] = {}
_received: list[int] = []


def install() -> bool:
    """Remember SIGTERM and SIGUSR1 instead of dying from them; False if that was done already.

    Raises:
        ValueError: Called outside the main thread (Python's own rule for signal handlers).
    """
    if _previous:
        return False
    _received.clear()
    for number in SIGNALS:
        _previous[number] = signal.signal(number, _remember)
    return True


def uninstall() -> None:
    """Give the signals back to whoever had them before."""
    for number, handler in _previous.items():
        signal.signal(number, handler)
    _previous.clear()
    _received.clear()


@contextmanager
def handled() -> Iterator[None]:
    """Handlers inside; whoever had the signals before gets them back, unless `install` was called before."""
    ours = install()
    try:
        yield
    finally:
        if ours:
            uninstall()


def received() -> signal.Signals | None:
    """The first of the signals that has come, if any."""
    return signal.Signals(_received[0]) if _received else None


def requeue_if_preempted(signal_received: signal.Signals | None = None) -> bool:
    """Put this SLURM job back into the queue if the signal calls for it; True if that was done.

    Args:
        signal_received: None: the one that this process got.

    Raises:
        RunError: The job should go back, but `scontrol` failed.
    """
    received_now = signal_received or received()
    job_id = os.environ.get("SLURM_JOB_ID")
    if received_now is None or job_id is None:
        return False
    job = _describe_job(job_id)
    if job.get("Requeue") == "0":
        logger.info("job %s was submitted with --no-requeue; it ends here", job_id)
        return False
    was_preempted = job.get("JobState") == "RUNNING" and job.get("PreemptTime", "None") != "None"
    if received_now == signal.SIGTERM and not was_preempted:
        logger.info("job %s was cancelled, not preempted; it ends here", job_id)
        return False
    _scontrol("requeue", job_id)
    logger.info("job %s goes back into the queue", job_id)
    return True


def _remember(number: int, frame: FrameType | None) -> None:
    _received.append(number)


def _describe_job(job_id: str) -> dict[str, str]:
    """The `Key=Value` words of `scontrol show job`."""
    words = _scontrol("show", "job", job_id).split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def _scontrol(*arguments: str) -> str:
    command = ("scontrol", *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SCONTROL_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or "").strip()
        raise RunError(f"the run was saved, but `{' '.join(command)}` failed: {said or error}") from error
    return done.stdout
