# mypy: ignore-errors
# (Warp reads these annotations as its own types; no_type_check keeps runtime type checkers away from them.)
"""Warp kernels: the nearest face of each pixel."""

from typing import no_type_check

import warp as wp

from posecore.rendering._warp_common import NO_FACE, first_pixel, is_in_front, last_pixel, line_through, side

wp.set_module_options({"enable_backward": False})


@wp.kernel
@no_type_check
def draw_faces(
    first_image: int,
    first_row: int,
    end_row: int,
    z_near: float,
    min_area: float,
    pixels: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    faces: wp.array2d(dtype=wp.int64),
    keys: wp.array3d(dtype=wp.int64),
):
    """Key of a pixel: the bits of the float depth (ordered as it is positive), then the face; the least one wins.

    Its order does not depend on which thread comes first, and equal depths go to the lower face.
    """
    i, face = wp.tid()
    image = first_image + i
    ia = int(faces[face, 0])
    ib = int(faces[face, 1])
    ic = int(faces[face, 2])
    za = depth[image, ia]
    zb = depth[image, ib]
    zc = depth[image, ic]
    if not is_in_front(za, zb, zc, z_near):
        return
    a = pixels[image, ia]
    b = pixels[image, ib]
    c = pixels[image, ic]
    area = side(line_through(a, b), c[0], c[1])
    if not wp.abs(area) > min_area:
        return
    orientation = wp.sign(area)
    bc = line_through(b, c)
    ca = line_through(c, a)
    ab = line_through(a, b)
    bc.scale *= orientation
    ca.scale *= orientation
    ab.scale *= orientation
    y_begin = first_pixel(wp.min(a[1], wp.min(b[1], c[1])), first_row, end_row)
    y_last = last_pixel(wp.max(a[1], wp.max(b[1], c[1])), first_row, end_row)
    x_begin = first_pixel(wp.min(a[0], wp.min(b[0], c[0])), 0, keys.shape[2])
    x_last = last_pixel(wp.max(a[0], wp.max(b[0], c[0])), 0, keys.shape[2])
    for y in range(y_begin, y_last + 1):
        for x in range(x_begin, x_last + 1):
            wa = side(bc, float(x), float(y))
            wb = side(ca, float(x), float(y))
            wc = side(ab, float(x), float(y))
            if wa >= 0.0 and wb >= 0.0 and wc >= 0.0:
                z = (wa + wb + wc) / (wa / za + wb / zb + wc / zc)
                key = (wp.int64(wp.cast(z, wp.int32)) << wp.int64(32)) | wp.int64(face)
                wp.atomic_min(keys, image, y, x, key)


@wp.kernel
@no_type_check
def resolve_faces(
    first_image: int,
    first_row: int,
    pixels: wp.array2d(dtype=wp.vec2),
    depth: wp.array2d(dtype=float),
    faces: wp.array2d(dtype=wp.int64),
    keys: wp.array3d(dtype=wp.int64),
    face_ids: wp.array3d(dtype=wp.int64),
    barycentrics: wp.array3d(dtype=wp.vec3),
    pixel_depth: wp.array3d(dtype=float),
):
    """Face, perspective-correct barycentrics and depth from the winning key; -1 in the background."""
    i, j, x = wp.tid()
    image = first_image + i
    y = first_row + j
    key = keys[image, y, x]
    if key == NO_FACE:
        face_ids[image, y, x] = wp.int64(-1)
        barycentrics[image, y, x] = wp.vec3(-1.0, -1.0, -1.0)
        pixel_depth[image, y, x] = -1.0
        return
    face = int(key & wp.int64(0xFFFFFFFF))
    ia = int(faces[face, 0])
    ib = int(faces[face, 1])
    ic = int(faces[face, 2])
    a = pixels[image, ia]
    b = pixels[image, ib]
    c = pixels[image, ic]
    wa = side(line_through(b, c), float(x), float(y)) / depth[image, ia]
    wb = side(line_through(c, a), float(x), float(y)) / depth[image, ib]
    wc = side(line_through(a, b), float(x), float(y)) / depth[image, ic]
    total = wa + wb + wc
    weights = wp.vec3(wa / total, wb / total, wc / total)
    face_ids[image, y, x] = wp.int64(face)
    barycentrics[image, y, x] = weights
    pixel_depth[image, y, x] = (
        weights[0] * depth[image, ia] + weights[1] * depth[image, ib] + weights[2] * depth[image, ic]
    )
