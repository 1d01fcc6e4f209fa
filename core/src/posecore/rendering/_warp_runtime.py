"""Starting Warp, and launching its kernels on the device of torch tensors.

Warp runs a CPU kernel on one thread but releases the interpreter lock, so a batch is split over a small pool of
threads, as many as torch may use: one in a DataLoader worker, which then runs everything inline.
"""

import hashlib
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

LOG_WARNING = 30

_loaded: set[tuple[str, str]] = set()
_load_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


@cache
def start_warp() -> Any:
    """Import and initialise Warp without its greeting; returns the module.

    Compiled kernels contain instructions of this very processor (-march=native). Each kind of machine gets a folder
    of its own, so that a shared home does not hand them to another; WARP_CACHE_PATH or wp.config.kernel_cache_dir
    override it.
    """
    import warp as wp

    wp.config.log_level = max(getattr(wp.config, "log_level", 0), LOG_WARNING)
    wp.config.quiet = True  # what versions before log_level read
    if wp.config.kernel_cache_dir is None and "WARP_CACHE_PATH" not in os.environ:
        wp.config.kernel_cache_dir = str(cache_folder())
    with nullcontext() if torch.cuda.is_available() else _without_driver_warning():
        wp.init()
    return wp


@contextmanager
def _without_driver_warning() -> Iterator[None]:
    """Without a GPU Warp's library writes a warning of it straight to file descriptor 2; the rest is passed on."""
    with tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        stderr = os.dup(2)
        try:
            os.dup2(caught.fileno(), 2)
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            os.write(2, b"".join(line for line in caught if b"find or load the NVIDIA CUDA driver" not in line))


def cache_folder() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return home / "posecore" / "warp" / machine_type()


def machine_type() -> str:
    """Architecture and a hash of the processor's model and instruction sets."""
    cpuinfo = Path("/proc/cpuinfo")
    described = platform.processor()
    if cpuinfo.is_file():
        wanted = ("model name", "flags", "Features", "CPU part")
        described = "\n".join(sorted({line for line in cpuinfo.read_text().splitlines() if line.startswith(wanted)}))
    return f"{platform.machine()}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"


def load(kernels: ModuleType, device: torch.device) -> None:
    """Compile or read a module of kernels before threads use it, or each of them would compile it."""
    key = (kernels.__name__, str(device))
    with _load_lock:
        if key not in _loaded:
            wp = start_warp()
            wp.load_module(kernels, device=wp.device_from_torch(device))
            _loaded.add(key)


def array(tensor: Tensor, dtype: Any = None) -> Any:
    """A Warp view of a torch tensor; `dtype` takes the last axis into a vector type."""
    wp = start_warp()
    return wp.from_torch(tensor.detach().contiguous(), dtype=dtype)


def launch(kernel: Any, device: torch.device, dims: Sequence[tuple[int, ...]], inputs: Sequence[Sequence[Any]]) -> None:
    """Run a kernel once for each (dim, inputs), which must be independent of each other.

    On CUDA they queue on torch's current stream; on the CPU they share the threads, and are done on return.
    """
    work = [pair for pair in zip(dims, inputs, strict=True) if min(pair[0]) > 0]
    wp = start_warp()
    if device.type == "cuda":
        stream = wp.stream_from_torch(torch.cuda.current_stream(device))
        for dim, values in work:
            wp.launch(kernel, dim=dim, inputs=values, stream=stream, record_tape=False)
        return
    if len(work) < 2 or torch.get_num_threads() < 2:
        for dim, values in work:
            wp.launch(kernel, dim=dim, inputs=values, device="cpu", record_tape=False)
        return
    pool = _thread_pool(torch.get_num_threads())
    list(pool.map(lambda job: wp.launch(kernel, dim=job[0], inputs=job[1], device="cpu", record_tape=False), work))


def bands(batch: int, items: int, device: torch.device) -> list[tuple[int, int, int, int]]:
    """(first image, past the last, first item, past the last) of pieces, one a thread; items: rows, faces or edges."""
    pieces = torch.get_num_threads() if device.type == "cpu" else 1
    if batch >= pieces:
        return [(a, b, 0, items) for a, b in _split(batch, pieces)]
    ranges = _split(items, -(-pieces // max(batch, 1)))
    return [(image, image + 1, a, b) for image in range(batch) for a, b in ranges]


def _split(count: int, pieces: int) -> list[tuple[int, int]]:
    bounds = [count * i // pieces for i in range(pieces + 1)]
    return [(a, b) for a, b in pairwise(bounds) if b > a]


def _thread_pool(size: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    if _pool is None or _pool_size != size:
        if _pool is not None:
            _pool.shutdown(wait=False)
        _pool, _pool_size = ThreadPoolExecutor(size, thread_name_prefix="rasteriser"), size
    return _pool


def _forget_pool() -> None:
    """A forked child has the pool's object but none of its threads: it would wait for ever."""
    global _pool, _load_lock
    _pool = None
    _load_lock = threading.Lock()  # the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
