"""What the silhouettes need to know of a mesh besides its faces: computed once per `faces` tensor and kept."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

MAX_CACHED = 32


@dataclass(frozen=True)
class Gather:
    """For each vertex the places of a (b, places, 2) gradient buffer that belong to it.

    Summing them in this fixed order, instead of adding floats atomically, gives the same bits on every run.
    """

    starts: Int64[Tensor, " vertices_and_one"]
    places: Int64[Tensor, " places"]


@dataclass(frozen=True)
class Topology:
    """A mesh's connectivity; the parts that only one silhouette needs are computed when first asked for."""

    faces: Int64[Tensor, "f 3"]
    num_vertices: int

    @cached_property
    def corners_of_vertex(self) -> Gather:
        """Places in a buffer of face corners."""
        return gather_of(self.faces.reshape(-1), self.num_vertices)

    @cached_property
    def edges(self) -> Int64[Tensor, "e 4"]:
        """Each undirected edge once: its ends, and the third corners of its two faces.

        A missing second face is -1; so are both where more than two faces share the edge, which
        then always counts as an outline (the mask decides).
        """
        return unique_edges(self.faces, self.num_vertices)

    @cached_property
    def ends_of_vertex(self) -> Gather:
        """Places in a buffer of edge ends."""
        return gather_of(self.edges[:, :2].reshape(-1), self.num_vertices)


def gather_of(vertex_of_place: Int64[Tensor, " places"], num_vertices: int) -> Gather:
    places = torch.argsort(vertex_of_place, stable=True)
    counts = torch.bincount(vertex_of_place, minlength=num_vertices)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Gather(starts, places)


def unique_edges(faces: Int64[Tensor, "f 3"], num_vertices: int) -> Int64[Tensor, "e 4"]:
    start, end, opposite = faces.reshape(-1), faces.roll(-1, 1).reshape(-1), faces.roll(-2, 1).reshape(-1)
    keys = torch.minimum(start, end) * num_vertices + torch.maximum(start, end)
    unique, edge_of_half, counts = torch.unique(keys, return_inverse=True, return_counts=True)
    order = torch.argsort(edge_of_half, stable=True)  # the half-edges of one edge lie side by side
    first = counts.cumsum(0) - counts
    second = (first + 1).clamp(max=max(len(order) - 1, 0))
    third_corner = opposite[order]
    missing = torch.full_like(unique, -1)
    opposite_1 = torch.where(counts <= 2, third_corner[first], missing)
    opposite_2 = torch.where(counts == 2, third_corner[second], missing)
    ends = [unique // max(num_vertices, 1), unique % max(num_vertices, 1)]
    return torch.stack([*ends, opposite_1, opposite_2], dim=1)


_cache: OrderedDict[tuple[object, ...], tuple[StorageWeakRef, Topology]] = OrderedDict()
_lock = threading.Lock()


def topology_of(faces: Int64[Tensor, "f 3"], num_vertices: int) -> Topology:
    """The topology of these faces, from the cache where the same tensor came before.

    Raises ValueError where a face names a vertex that does not exist: kernels do not check. The key is the storage and
    its version counter; a weak reference keeps the storage's address from being given to another while it is the key.
    """
    storage = StorageWeakRef(faces.untyped_storage())  # type: ignore[no-untyped-call]
    version = 0 if faces.is_inference() else faces._version
    key = (storage.cdata, faces.storage_offset(), faces.shape, faces.stride(), version, num_vertices)
    with _lock:
        if key in _cache:
            _cache.move_to_end(key)
            return _cache[key][1]
    check_indices(faces, num_vertices)
    # A copy: a view would keep the storage alive for as long as the cache lives.
    topology = Topology(faces.detach().clone(memory_format=torch.contiguous_format), num_vertices)
    with _lock:
        stale = [other for other, (reference, _) in _cache.items() if reference.expired()]  # type: ignore[no-untyped-call]
        for other in stale:
            del _cache[other]
        _cache[key] = (storage, topology)
        while len(_cache) > MAX_CACHED:
            _cache.popitem(last=False)
    return topology


def check_indices(faces: Int64[Tensor, "f 3"], num_vertices: int) -> None:
    if faces.numel() == 0:
        return
    low, high = (int(value) for value in torch.aminmax(faces))
    if low < 0 or high >= num_vertices:
        raise ValueError(f"faces name vertices {low} to {high}, but there are {num_vertices} (0 to {num_vertices - 1})")
