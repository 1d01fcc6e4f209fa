"""Devices and processes: started by Fabric, or found as torchrun or SLURM started them, and checked."""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy

from posecore.errors import InputError
from posecore.training.config import FitConfig


@dataclass(frozen=True)
class Processes:
    """How many processes a run has, and who starts them."""

    devices: int | str
    """On each node; "auto" leaves it to Fabric."""
    nodes: int
    launcher: str
    """"torchrun" | "SLURM" | "posecore"."""
    world_size: int | None
    """None: as many as Fabric makes of devices and nodes."""


def launch(config: FitConfig) -> Fabric:
    """Start or join the processes of a run; after this call each of them runs the same lines.

    Raises:
        InputError: The configuration and what torchrun or SLURM started do not fit together.
    """
    processes = plan_processes(config, os.environ)
    _make_deterministic(config.deterministic)
    _prefer_ipv4(os.environ, processes)
    accelerator = _accelerator(config)
    fabric = Fabric(
        accelerator=accelerator,
        devices=_devices(processes, accelerator),
        num_nodes=processes.nodes,
        strategy=_strategy(config, processes, accelerator),
        precision="32-true",  # autocast and scaling are in precision.py
    )
    fabric.launch()
    if processes.world_size is not None and fabric.world_size != processes.world_size:
        raise InputError(
            f"devices: {processes.launcher} started {processes.world_size} processes, but each of them would train "
            f"in a world of {fabric.world_size}; leave devices and nodes at auto"
        )
    return fabric


@contextmanager
def launched(config: FitConfig) -> Iterator[Fabric]:
    """`launch`; if this process fails, those that it started end too instead of waiting for it until the timeout."""
    fabric = launch(config)
    try:
        yield fabric
    except BaseException:
        launcher = getattr(fabric.strategy, "launcher", None)
        for child in getattr(launcher, "procs", []):
            if child.poll() is None:
                child.kill()
        raise


def process_count(config: FitConfig) -> int:
    """How many processes `launch` will make or join: for batches that are given a process.

    Raises:
        InputError: As `launch`.
    """
    processes = plan_processes(config, os.environ)
    return int(_devices(processes, _accelerator(config))) * processes.nodes


def plan_processes(config: FitConfig, environment: Mapping[str, str]) -> Processes:
    """Reconcile `devices` and `nodes` with the environment.

    Raises:
        InputError: They contradict each other, or a SLURM job of several tasks runs without srun.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        world, local = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"])
        return _agreed(config, local, world // local, "torchrun")
    interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if "SLURM_NTASKS" in environment and not interactive:
        return _slurm_processes(config, environment)
    nodes = 1 if config.nodes == "auto" else config.nodes
    return Processes(config.devices, nodes, "posecore", None)


def _slurm_processes(config: FitConfig, environment: Mapping[str, str]) -> Processes:
    tasks, nodes = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", "1"))
    if tasks > 1 and "SLURM_STEP_ID" not in environment:
        raise InputError(
            f"devices: this SLURM job has {tasks} tasks, but the command runs once, without srun; "
            "put srun before the command, or submit with --ntasks=1"
        )
    if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in environment:
        raise InputError(f"devices: this SLURM job was submitted with --ntasks={tasks}; --ntasks-per-node is needed")
    return _agreed(config, tasks // nodes, nodes, "SLURM")


def _agreed(config: FitConfig, devices: int, nodes: int, launcher: str) -> Processes:
    for name, wanted, found in (("devices", config.devices, devices), ("nodes", config.nodes, nodes)):
        if wanted not in ("auto", found):
            raise InputError(
                f"{name}: {wanted} was asked for, but {launcher} started {found}; start as many, or use auto"
            )
    return Processes(devices, nodes, launcher, devices * nodes)


def _accelerator(config: FitConfig) -> str:
    if config.accelerator == "cuda" and not torch.cuda.is_available():
        raise InputError("accelerator: cuda was asked for, but torch sees no GPU here; auto or cpu would run")
    if config.accelerator == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return config.accelerator


def _devices(processes: Processes, accelerator: str) -> Any:
    available = torch.cuda.device_count()
    if processes.devices == "auto":
        return available if accelerator == "cuda" else 1
    if accelerator == "cuda" and int(processes.devices) > available:
        raise InputError(f"devices: {processes.devices} were asked for, but this machine has {available} GPUs")
    return processes.devices


def _strategy(config: FitConfig, processes: Processes, accelerator: str) -> Any:
    count = _devices(processes, accelerator) * processes.nodes
    if config.strategy == "auto" and count == 1:
        return "auto"
    return DDPStrategy(
        timeout=timedelta(minutes=config.timeout_minutes),
        find_unused_parameters=config.find_unused_parameters,
    )


def _make_deterministic(deterministic: bool) -> None:
    if not deterministic:
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, before its first use
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _prefer_ipv4(environment: Any, processes: Processes) -> None:
    """Name the meeting point by an IPv4 address: on clusters whose names also have IPv6 ones, that meeting fails."""
    if processes.world_size in (None, 1):
        return
    host = environment.get("MASTER_ADDR") or _first_host(environment.get("SLURM_NODELIST", "127.0.0.1"))
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        raise InputError(
            f"MASTER_ADDR: {host} has no IPv4 address ({error}); set it to the address of the first node"
        ) from None
    environment["MASTER_ADDR"] = str(found[0][4][0])


def _first_host(nodelist: str) -> str:
    """The first host of SLURM's list: `node[05-08,12],other` -> `node05`."""
    first = re.sub(r"\[([^\]]*?)(?:[-,][^\]]*)?\]", r"\1", nodelist)
    return first.split(",")[0].split(" ")[0]


def gather(value: Any) -> list[Any]:
    """The same small Python value of every process, by rank; in a run of one process just its own."""
    if not torch.distributed.is_initialized():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def sum_over_ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Sum numbers by name; a name that one process lacks counts as 0 there. In rank order, so always the same sum."""
    totals: dict[str, float] = {}
    for part in gather(dict(values)):
        for name, value in part.items():
            totals[name] = totals.get(name, 0.0) + value
    return totals
