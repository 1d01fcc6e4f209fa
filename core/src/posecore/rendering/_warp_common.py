# mypy: ignore-errors
# (Warp reads these annotations as its own types; no_type_check keeps runtime type checkers away from them.)
"""Warp functions and kernels that all rasterisers share."""

from typing import no_type_check

import warp as wp

wp.set_module_options({"enable_backward": False})

NO_FACE = wp.constant(wp.int64(0x7FFFFFFFFFFFFFFF))


@wp.struct
@no_type_check
class Line:
    """The line through two corners; `scale` times the cross product is a signed side or distance."""

    origin: wp.vec2
    direction: wp.vec2
    scale: float


@wp.func
@no_type_check
def cross2(a: wp.vec2, b: wp.vec2):
    return a[0] * b[1] - a[1] * b[0]


@wp.func
@no_type_check
def line_through(a: wp.vec2, b: wp.vec2):
    """The corners in one fixed order: two faces round their common edge alike, and no pixel falls between them."""
    line = Line()
    if b[0] < a[0] or (b[0] == a[0] and b[1] < a[1]):
        line.origin = b
        line.direction = a - b
        line.scale = -1.0
    else:
        line.origin = a
        line.direction = b - a
        line.scale = 1.0
    return line


@wp.func
@no_type_check
def side(line: Line, x: float, y: float):
    return line.scale * (line.direction[0] * (y - line.origin[1]) - line.direction[1] * (x - line.origin[0]))


@wp.func
@no_type_check
def first_pixel(low: float, begin: int, end: int):
    return int(wp.ceil(wp.clamp(low, float(begin), float(end))))


@wp.func
@no_type_check
def last_pixel(high: float, begin: int, end: int):
    return int(wp.floor(wp.clamp(high, float(begin) - 1.0, float(end) - 1.0)))


@wp.func
@no_type_check
def is_in_front(z0: float, z1: float, z2: float, z_near: float):
    return z0 >= z_near and z1 >= z_near and z2 >= z_near  # false for nan


@wp.kernel
@no_type_check
def gather_vertex_gradients(
    first_image: int,
    first_vertex: int,
    place_gradients: wp.array2d(dtype=wp.vec2),
    starts: wp.array(dtype=wp.int64),
    places: wp.array(dtype=wp.int64),
    vertex_gradients: wp.array2d(dtype=wp.vec2),
):
    i, j = wp.tid()
    image = first_image + i
    vertex = first_vertex + j
    total = wp.vec2(0.0, 0.0)
    for k in range(int(starts[vertex]), int(starts[vertex + 1])):
        total += place_gradients[image, int(places[k])]
    vertex_gradients[image, vertex] = total
