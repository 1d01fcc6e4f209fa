# mypy: ignore-errors
# (Warp reads these annotations as its own types; no_type_check keeps runtime type checkers away from them.)
"""Warp kernels: outline edges that move the hard mask's border to where it is between two pixel centres.

`winners[image, 0, y, x]` is the pair of pixels (x, y), (x + 1, y); `winners[image, 1, y, x]` is (x, y), (x, y + 1).
"""

from typing import no_type_check

import warp as wp

from posecore.rendering._warp_common import cross2, first_pixel, last_pixel

wp.set_module_options({"enable_backward": False})

QUANTISED = wp.constant(1073741824.0)  # 2^30
EDGE_BITS = wp.constant(wp.int64(0xFFFFFFFF))


@wp.struct
@no_type_check
class Edge:
    """An outline edge that is crossed by pixel rows (axis 0) or columns (axis 1); `major` runs across these lines."""

    counts: bool
    axis: int
    minor_0: float
    minor_1: float
    major_0: float
    major_1: float


@wp.struct
@no_type_check
class Crossing:
    """Where an edge crosses a line of pixels, and which part of the edge lies before."""

    along: float
    place: float
    lower: int
    """The pixel at or before the crossing."""
    num_pairs: int
    """1, or 2 where the crossing is on the pixel's centre, which then may be the upper one of the border's pair."""


@wp.func
@no_type_check
def is_outline(
    image: int,
    edge: int,
    z_near: float,
    pixels: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    edges: wp.array2d(dtype=wp.int64),
):
    """One face, or both faces on the same side on the screen."""
    v0 = int(edges[edge, 0])
    v1 = int(edges[edge, 1])
    if not (depth[image, v0] >= z_near and depth[image, v1] >= z_near):
        return False
    o0 = int(edges[edge, 2])
    o1 = int(edges[edge, 3])
    if o0 < 0 or o1 < 0:
        return True
    if not (depth[image, o0] >= z_near and depth[image, o1] >= z_near):
        return True
    origin = pixels[image, v0]
    direction = pixels[image, v1] - origin
    side_0 = cross2(direction, pixels[image, o0] - origin)
    side_1 = cross2(direction, pixels[image, o1] - origin)
    return not ((side_0 > 0.0 and side_1 < 0.0) or (side_0 < 0.0 and side_1 > 0.0))


@wp.func
@no_type_check
def place_edge(start: wp.vec2, end: wp.vec2):
    out = Edge()
    direction = end - start
    out.counts = direction[0] != 0.0 or direction[1] != 0.0
    if wp.abs(direction[1]) >= wp.abs(direction[0]):
        out.axis = 0
        out.minor_0 = start[0]
        out.minor_1 = end[0]
        out.major_0 = start[1]
        out.major_1 = end[1]
    else:
        out.axis = 1
        out.minor_0 = start[1]
        out.minor_1 = end[1]
        out.major_0 = start[0]
        out.major_1 = end[0]
    return out


@wp.func
@no_type_check
def cross_line(edge: Edge, line: int):
    out = Crossing()
    out.along = (float(line) - edge.major_0) / (edge.major_1 - edge.major_0)
    place = edge.minor_0 + out.along * (edge.minor_1 - edge.minor_0)
    out.place = wp.clamp(place, -2.0, 1.0e9)
    out.lower = int(wp.floor(out.place))
    out.num_pairs = wp.where(out.place == wp.floor(out.place), 2, 1)
    return out


@wp.func
@no_type_check
def reach_of(place: float, lower: int, lower_is_covered: bool):
    """How far the foreground reaches from the covered pixel (0) to the uncovered one (1)."""
    fraction = place - float(lower)
    return wp.where(lower_is_covered, fraction, 1.0 - fraction)


@wp.kernel
@no_type_check
def choose_edges(
    first_image: int,
    first_row: int,
    end_row: int,
    z_near: float,
    pixels: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    edges: wp.array2d(dtype=wp.int64),
    covered: wp.array3d(dtype=wp.bool),
    winners: wp.array4d(dtype=wp.int64),
):
    """For each pair of a covered and an uncovered pixel the edge that reaches farthest towards the uncovered one."""
    i, index = wp.tid()
    image = first_image + i
    if not is_outline(image, index, z_near, pixels, depth, edges):
        return
    edge = place_edge(pixels[image, int(edges[index, 0])], pixels[image, int(edges[index, 1])])
    if not edge.counts:
        return
    height = covered.shape[1]
    width = covered.shape[2]
    low = wp.min(edge.major_0, edge.major_1)
    high = wp.max(edge.major_0, edge.major_1)
    line_begin = first_pixel(low, first_row, end_row)
    line_last = last_pixel(high, first_row, end_row)
    if edge.axis == 1:
        line_begin = first_pixel(low, 0, width)
        line_last = last_pixel(high, 0, width)
    for line in range(line_begin, line_last + 1):
        crossing = cross_line(edge, line)
        for pair in range(crossing.num_pairs):
            lower = crossing.lower - pair
            x = wp.where(edge.axis == 0, lower, line)
            y = wp.where(edge.axis == 0, line, lower)
            x_next = x + 1 - edge.axis
            y_next = y + edge.axis
            if x >= 0 and x_next < width and y >= first_row and y < end_row and y_next < height:
                lower_is_covered = covered[image, y, x]
                if lower_is_covered != covered[image, y_next, x_next]:
                    reach = reach_of(crossing.place, lower, lower_is_covered)
                    key = (wp.int64(reach * QUANTISED) + wp.int64(1)) << wp.int64(32)
                    wp.atomic_max(winners, image, edge.axis, y, x, key | wp.int64(index))


@wp.func
@no_type_check
def correction(
    image: int,
    axis: int,
    y: int,
    x: int,
    is_lower: bool,
    pixels: wp.array2d(dtype=wp.vec2),
    edges: wp.array2d(dtype=wp.int64),
    covered: wp.array3d(dtype=wp.bool),
    winners: wp.array4d(dtype=wp.int64),
):
    """What the pair whose lower pixel is (x, y) adds to its lower or upper pixel."""
    key = winners[image, axis, y, x]
    if key == wp.int64(0):
        return 0.0
    index = int(key & EDGE_BITS)
    edge = place_edge(pixels[image, int(edges[index, 0])], pixels[image, int(edges[index, 1])])
    lower_is_covered = covered[image, y, x]
    place = cross_line(edge, wp.where(axis == 0, y, x)).place
    reach = reach_of(place, wp.where(axis == 0, x, y), lower_is_covered)
    pixel_is_covered = lower_is_covered == is_lower
    if pixel_is_covered == (reach > 0.5):
        return 0.0  # the pair's other pixel is the one that is partly covered
    return reach - 0.5


@wp.kernel
@no_type_check
def blend(
    first_image: int,
    first_row: int,
    pixels: wp.array2d(dtype=wp.vec2),
    edges: wp.array2d(dtype=wp.int64),
    covered: wp.array3d(dtype=wp.bool),
    winners: wp.array4d(dtype=wp.int64),
    alpha: wp.array3d(dtype=float),
):
    """The mask, moved by the corrections of a pixel's four pairs."""
    i, j, x = wp.tid()
    image = first_image + i
    y = first_row + j
    value = wp.where(covered[image, y, x], 1.0, 0.0)
    value += correction(image, 0, y, x, True, pixels, edges, covered, winners)
    value += correction(image, 1, y, x, True, pixels, edges, covered, winners)
    if x > 0:
        value += correction(image, 0, y, x - 1, False, pixels, edges, covered, winners)
    if y > 0:
        value += correction(image, 1, y - 1, x, False, pixels, edges, covered, winners)
    alpha[image, y, x] = value


@wp.kernel
@no_type_check
def blend_gradient(
    first_image: int,
    first_edge: int,
    pixels: wp.array2d(dtype=wp.vec2),
    edges: wp.array2d(dtype=wp.int64),
    covered: wp.array3d(dtype=wp.bool),
    winners: wp.array4d(dtype=wp.int64),
    gradient: wp.array3d(dtype=float),
    end_gradients: wp.array2d(dtype=wp.vec2),
):
    """With tau the place along the edge and m its slope:

    dx/dx0 = 1 - tau, dx/dx1 = tau, dx/dy0 = -(1 - tau) m, dx/dy1 = -tau m; columns with x and y exchanged.
    """
    i, j = wp.tid()
    image = first_image + i
    index = first_edge + j
    edge = place_edge(pixels[image, int(edges[index, 0])], pixels[image, int(edges[index, 1])])
    if not edge.counts:
        return
    lines = covered.shape[1]
    across = covered.shape[2]
    if edge.axis == 1:
        lines = covered.shape[2]
        across = covered.shape[1]
    slope = (edge.minor_1 - edge.minor_0) / (edge.major_1 - edge.major_0)
    sum_0 = wp.float32(0.0)
    sum_1 = wp.float32(0.0)
    line_begin = first_pixel(wp.min(edge.major_0, edge.major_1), 0, lines)
    line_last = last_pixel(wp.max(edge.major_0, edge.major_1), 0, lines)
    for line in range(line_begin, line_last + 1):
        crossing = cross_line(edge, line)
        for pair in range(crossing.num_pairs):
            lower = crossing.lower - pair
            if lower >= 0 and lower + 1 < across:
                x = wp.where(edge.axis == 0, lower, line)
                y = wp.where(edge.axis == 0, line, lower)
                key = winners[image, edge.axis, y, x]
                if key != wp.int64(0) and int(key & EDGE_BITS) == index:
                    lower_is_covered = covered[image, y, x]
                    reach = reach_of(crossing.place, lower, lower_is_covered)
                    upstream = gradient[image, y, x]
                    if lower_is_covered != (reach <= 0.5):  # the upper pixel is the one that is moved
                        upstream = gradient[image, y + edge.axis, x + 1 - edge.axis]
                    towards = wp.where(lower_is_covered, upstream, -upstream)
                    sum_0 += (1.0 - crossing.along) * towards
                    sum_1 += crossing.along * towards
    start = wp.vec2(sum_0, -slope * sum_0)
    end = wp.vec2(sum_1, -slope * sum_1)
    if edge.axis == 1:
        start = wp.vec2(-slope * sum_0, sum_0)
        end = wp.vec2(-slope * sum_1, sum_1)
    end_gradients[image, 2 * index] = start
    end_gradients[image, 2 * index + 1] = end
