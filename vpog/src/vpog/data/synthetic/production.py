"""Pictures in order, drawn by this process or by several."""

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

from vpog.data.records import ImageRecord
from vpog.data.synthetic.objects import SyntheticObject, make_occluders
from vpog.data.synthetic.options import SyntheticOptions
from vpog.data.synthetic.pictures import PicturePlan, Props, draw_pictures
from vpog.data.synthetic.placement import random_layout

PICTURES_AT_ONCE = 32
"""Drawn in one go, whatever the number of workers, so that it has no part in the result."""
WAITING = 2
"""Finished or unfinished batches for each worker: what bounds the memory when writing is slower than drawing."""


class Workshop:
    """What a process keeps from one batch to the next."""

    def __init__(self, options: SyntheticOptions, objects: list[SyntheticObject]) -> None:
        self.options = options
        self.props = Props.of(objects, make_occluders(options))
        # equal seeds of several splits must not give equal pictures
        self.stream = int.from_bytes(f"{options.dataset}/{options.split}".encode())

    def batch(self, number: int) -> list[ImageRecord]:
        """Pictures number * PICTURES_AT_ONCE and on."""
        options = self.options
        first = number * PICTURES_AT_ONCE
        plans = [self._plan(index) for index in range(first, min(first + PICTURES_AT_ONCE, options.images))]
        return draw_pictures(
            plans, self.props, options.dataset, options.scene, options.size_hw, backend=options.backend
        )

    def _plan(self, index: int) -> PicturePlan:
        options, props = self.options, self.props
        rng = np.random.default_rng([self.stream, options.seed, index])
        layout = random_layout(
            rng, options.scene, options.size_hw, props.object_diameters_mm, props.occluder_diameters_mm
        )
        scene, image = divmod(index, options.images_per_scene)
        return PicturePlan(scene, image, layout, rng)


def pictures(options: SyntheticOptions, objects: list[SyntheticObject], workers: int) -> Iterator[ImageRecord]:
    """All pictures of the options, one by one."""
    batches = -(-options.images // PICTURES_AT_ONCE)
    if workers == 0:
        workshop = Workshop(options, objects)
        for number in range(batches):
            with one_thread():
                drawn = workshop.batch(number)
            yield from drawn
        return
    # a fork would copy the locks of torch's and Warp's threads
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _open_workshop, (options, objects))
    try:
        waiting: deque[Future[list[ImageRecord]]] = deque()
        for number in range(batches):
            waiting.append(pool.submit(_batch_here, number))
            if len(waiting) >= WAITING * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_here: Workshop | None = None


def _open_workshop(options: SyntheticOptions, objects: list[SyntheticObject]) -> None:
    global _here
    torch.set_num_threads(1)
    _here = Workshop(options, objects)


def _batch_here(number: int) -> list[ImageRecord]:
    assert _here is not None
    return _here.batch(number)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in the order that worker processes have."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
