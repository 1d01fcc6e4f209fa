# mypy: ignore-errors
# (Warp reads these annotations as its own types; no_type_check keeps runtime type checkers away from them.)
"""Warp kernels: the soft silhouette's log transparency and its gradient."""

from typing import no_type_check

import warp as wp

from posecore.rendering import _soft
from posecore.rendering._warp_common import Line, first_pixel, is_in_front, last_pixel, line_through, side

wp.set_module_options({"enable_backward": False})

OPAQUE = wp.constant(_soft.OPAQUE)
FIXED_POINT = wp.constant(68719476736.0)  # 2^36


@wp.struct
@no_type_check
class Face:
    """A face on the screen; the lines give outward distances in pixels."""

    is_drawn: bool
    a: wp.vec2
    b: wp.vec2
    c: wp.vec2
    ab: Line
    bc: Line
    ca: Line
    low: wp.vec2
    high: wp.vec2


@wp.struct
@no_type_check
class Nearest:
    """The edge nearest to a pixel; `exponent` is -delta / sigma, `end_0` and `end_1` are corner numbers."""

    counts: bool
    exponent: float
    sign: float
    offset: wp.vec2
    along: float
    end_0: int
    end_1: int


@wp.func
@no_type_check
def outward(line: Line, orientation: float):
    line.scale *= -orientation / wp.length(line.direction)
    return line


@wp.func
@no_type_check
def read_face(
    image: int,
    face: int,
    z_near: float,
    min_area: float,
    pixels: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    faces: wp.array2d(dtype=wp.int64),
):
    out = Face()
    ia = int(faces[face, 0])
    ib = int(faces[face, 1])
    ic = int(faces[face, 2])
    out.a = pixels[image, ia]
    out.b = pixels[image, ib]
    out.c = pixels[image, ic]
    area = side(line_through(out.a, out.b), out.c[0], out.c[1])
    out.is_drawn = is_in_front(depth[image, ia], depth[image, ib], depth[image, ic], z_near) and wp.abs(area) > min_area
    if out.is_drawn:
        orientation = wp.sign(area)
        out.ab = outward(line_through(out.a, out.b), orientation)
        out.bc = outward(line_through(out.b, out.c), orientation)
        out.ca = outward(line_through(out.c, out.a), orientation)
        out.low = wp.min(out.a, wp.min(out.b, out.c))
        out.high = wp.max(out.a, wp.max(out.b, out.c))
    return out


@wp.func
@no_type_check
def along_segment(start: wp.vec2, end: wp.vec2, p: wp.vec2):
    direction = end - start
    return wp.clamp(wp.dot(p - start, direction) / wp.dot(direction, direction), 0.0, 1.0)


@wp.func
@no_type_check
def nearest_edge(face: Face, p: wp.vec2, reach: float, inverse_sigma: float):
    """The nearest edge of a pixel within `reach` (pixels); the edge numbers are those of its two corners."""
    out = Nearest()
    dab = side(face.ab, p[0], p[1])
    dbc = side(face.bc, p[0], p[1])
    dca = side(face.ca, p[0], p[1])
    farthest = wp.max(dab, wp.max(dbc, dca))
    out.counts = farthest < reach
    if not out.counts:
        return out
    tab = along_segment(face.a, face.b, p)
    tbc = along_segment(face.b, face.c, p)
    tca = along_segment(face.c, face.a, p)
    oab = p - face.a - tab * (face.b - face.a)
    obc = p - face.b - tbc * (face.c - face.b)
    oca = p - face.c - tca * (face.a - face.c)
    squared = wp.dot(oab, oab)
    out.offset = oab
    out.along = tab
    out.end_0 = 0
    out.end_1 = 1
    if wp.dot(obc, obc) < squared:
        squared = wp.dot(obc, obc)
        out.offset = obc
        out.along = tbc
        out.end_0 = 1
        out.end_1 = 2
    if wp.dot(oca, oca) < squared:
        squared = wp.dot(oca, oca)
        out.offset = oca
        out.along = tca
        out.end_0 = 2
        out.end_1 = 0
    out.sign = wp.where(farthest < 0.0, 1.0, -1.0)
    out.counts = farthest < 0.0 or squared < reach * reach
    out.exponent = out.sign * squared * inverse_sigma
    return out


@wp.func
@no_type_check
def squared_distance(face: Face, p: wp.vec2):
    ab = p - face.a - along_segment(face.a, face.b, p) * (face.b - face.a)
    bc = p - face.b - along_segment(face.b, face.c, p) * (face.c - face.b)
    ca = p - face.c - along_segment(face.c, face.a, p) * (face.a - face.c)
    return wp.min(wp.dot(ab, ab), wp.min(wp.dot(bc, bc), wp.dot(ca, ca)))


@wp.func
@no_type_check
def softplus(x: float):
    return wp.max(x, 0.0) + wp.log(1.0 + wp.exp(-wp.abs(x)))


@wp.kernel
@no_type_check
def accumulate(
    first_image: int,
    first_row: int,
    end_row: int,
    z_near: float,
    min_area: float,
    reach: float,
    inverse_sigma: float,
    pixels: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    faces: wp.array2d(dtype=wp.int64),
    sums: wp.array3d(dtype=wp.int64),
):
    """Add softplus(-delta / sigma) of each face, in fixed point: the sum does not depend on the order.

    A pixel past `OPAQUE` is left alone; the sum is clamped there afterwards, so that this changes no result.
    """
    i, index = wp.tid()
    image = first_image + i
    face = read_face(image, index, z_near, min_area, pixels, depth, faces)
    if not face.is_drawn:
        return
    y_begin = first_pixel(face.low[1] - reach, first_row, end_row)
    y_last = last_pixel(face.high[1] + reach, first_row, end_row)
    x_begin = first_pixel(face.low[0] - reach, 0, sums.shape[2])
    x_last = last_pixel(face.high[0] + reach, 0, sums.shape[2])
    for y in range(y_begin, y_last + 1):
        for x in range(x_begin, x_last + 1):
            p = wp.vec2(float(x), float(y))
            farthest = wp.max(side(face.ab, p[0], p[1]), wp.max(side(face.bc, p[0], p[1]), side(face.ca, p[0], p[1])))
            if farthest < reach and sums[image, y, x] < wp.int64(OPAQUE * FIXED_POINT):
                exponent = farthest * farthest * inverse_sigma
                if farthest >= 0.0:
                    squared = squared_distance(face, p)
                    exponent = -squared * inverse_sigma
                    if squared >= reach * reach:
                        continue
                term = wp.min(softplus(exponent), OPAQUE)
                wp.atomic_add(sums, image, y, x, wp.int64(wp.rint(term * FIXED_POINT)))


@wp.kernel
@no_type_check
def accumulate_gradient(
    first_image: int,
    first_face: int,
    z_near: float,
    min_area: float,
    reach: float,
    inverse_sigma: float,
    pixels: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    faces: wp.array2d(dtype=wp.int64),
    log_transparency: wp.array3d(dtype=float),
    gradient: wp.array3d(dtype=float),
    corner_gradients: wp.array2d(dtype=wp.vec2),
):
    """With D the squared distance to the nearest edge (e0, e1), d the offset and t the place along it:

    dD/de0 = -2 (1 - t) d, dD/de1 = -2 t d; dL/dD = -sigmoid(-delta / sigma) / sigma inside, + outside.
    """
    i, j = wp.tid()
    image = first_image + i
    index = first_face + j
    face = read_face(image, index, z_near, min_area, pixels, depth, faces)
    if not face.is_drawn:
        return
    height = gradient.shape[1]
    width = gradient.shape[2]
    total = wp.matrix(shape=(3, 2), dtype=float)
    for y in range(first_pixel(face.low[1] - reach, 0, height), last_pixel(face.high[1] + reach, 0, height) + 1):
        for x in range(first_pixel(face.low[0] - reach, 0, width), last_pixel(face.high[0] + reach, 0, width) + 1):
            upstream = gradient[image, y, x]
            if upstream == 0.0 or log_transparency[image, y, x] <= -OPAQUE:
                continue
            near = nearest_edge(face, wp.vec2(float(x), float(y)), reach, inverse_sigma)
            if near.counts:
                probability = 1.0 / (1.0 + wp.exp(-near.exponent))
                scaled = 2.0 * upstream * near.sign * probability * inverse_sigma * near.offset
                total[near.end_0] = total[near.end_0] + (1.0 - near.along) * scaled
                total[near.end_1] = total[near.end_1] + near.along * scaled
    corner_gradients[image, 3 * index] = total[0]
    corner_gradients[image, 3 * index + 1] = total[1]
    corner_gradients[image, 3 * index + 2] = total[2]
