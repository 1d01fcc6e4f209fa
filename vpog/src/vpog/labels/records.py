"""Which template patch each query patch sees, and where in it."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class FlowLabels:
    """Of b queries with s templates each, on grids of hp x wp patches; 1.0 of flow is the side of a patch, order (x, y).

    Query patches and template patches are numbered row by row, p = hp * wp of them.
    """

    patch_cls: Int64[Tensor, "b s hp wp"]
    """-1: the query patch shows no object; 0..p-1: the template patch that sees its centre; p: the object is there, but
    this template does not see it."""
    flows: Float[Tensor, "b s hp wp 2"]
    """Of the query patch's centre, within the template patch from its centre; 0 where it is not visible."""
    visibility: Bool[Tensor, "b s hp wp"]
    patch_visibility: Bool[Tensor, "b s hp wp"]
    """Visible, and enough pixels of the template patch land in the query patch."""
    coarse_flows: Float[Tensor, "b s hp wp 2"]
    """From the query patch to the template patch, whole patches."""
    pairs: Int64[Tensor, "m 4"]
    """Matched pairs: sample, template, query patch, template patch."""
    dense_flow: Float[Tensor, "m ps ps 2"]
    """Of each pixel of the template patch: where it lies in the query, from the query patch's centre, in patches."""
    dense_visibility: Bool[Tensor, "m ps ps"]
