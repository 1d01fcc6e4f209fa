"""The Warp kernels as torch operators: torch.compile treats each as one opaque step, autograd knows their gradients.

They take vertices on the screen, `pixels` (b v 2) and `depth` (b v) in float32, and `faces` (f 3).
"""

from typing import Any

import torch
from torch import Tensor

from posecore.rendering._screen import MIN_AREA_NDC, pixels_per_ndc
from posecore.rendering._soft import OPAQUE, REACH_SIGMAS
from posecore.rendering._topology import Gather, topology_of
from posecore.rendering._warp_runtime import array, bands, launch, load

NO_FACE = 0x7FFFFFFFFFFFFFFF


class Scene:
    """One call's arguments as Warp arrays."""

    def __init__(self, pixels: Tensor, depth: Tensor, faces: Tensor, size: tuple[int, int]) -> None:
        import warp as wp

        self.topology = topology_of(faces, pixels.shape[1])
        self.device, self.batch, self.size = pixels.device, pixels.shape[0], size
        self.min_area = MIN_AREA_NDC * pixels_per_ndc(size) ** 2
        self.pixels, self.depth = array(pixels, wp.vec2), array(depth)
        self.faces = array(self.topology.faces)

    def run_by_rows(self, kernel: Any, items: int | None, *inputs: Any) -> None:
        """Threads (image, item); each piece draws into its own rows. Without `items`: threads (image, row, column)."""
        height, width = self.size
        pieces = bands(self.batch, height, self.device)
        if items is None:
            dims: list[tuple[int, ...]] = [(b - a, last - first, width) for a, b, first, last in pieces]
            launch(kernel, self.device, dims, [(a, first, *inputs) for a, _, first, _ in pieces])
            return
        dims = [(b - a, items) for a, b, _, _ in pieces]
        launch(kernel, self.device, dims, [(a, first, last, *inputs) for a, _, first, last in pieces])

    def run_by_items(self, kernel: Any, items: int, *inputs: Any) -> None:
        """Threads (image, item); each piece has its own items."""
        pieces = bands(self.batch, items, self.device)
        dims = [(b - a, last - first) for a, b, first, last in pieces]
        launch(kernel, self.device, dims, [(a, first, *inputs) for a, _, first, _ in pieces])

    def gather(self, place_gradients: Tensor, places: Gather) -> Tensor:
        """Sum (b, places, 2) per vertex."""
        import warp as wp

        from posecore.rendering import _warp_common

        gradients = place_gradients.new_empty(self.batch, self.topology.num_vertices, 2)
        load(_warp_common, self.device)
        self.run_by_items(
            _warp_common.gather_vertex_gradients,
            self.topology.num_vertices,
            array(place_gradients, wp.vec2),
            array(places.starts),
            array(places.places),
            array(gradients, wp.vec2),
        )
        return gradients

    def draw(self, z_near: float) -> Tensor:
        """Key of the nearest face for each pixel, NO_FACE in the background."""
        from posecore.rendering import _warp_hard

        load(_warp_hard, self.device)
        keys = torch.full((self.batch, *self.size), NO_FACE, dtype=torch.int64, device=self.device)
        scene = (z_near, self.min_area, self.pixels, self.depth, self.faces, array(keys))
        self.run_by_rows(_warp_hard.draw_faces, len(self.topology.faces), *scene)
        return keys


@torch.library.custom_op("posecore::rasterize", mutates_args=())
def rasterize(
    pixels: Tensor, depth: Tensor, faces: Tensor, height: int, width: int, z_near: float
) -> tuple[Tensor, Tensor, Tensor]:
    import warp as wp

    from posecore.rendering import _warp_hard

    scene = Scene(pixels, depth, faces, (height, width))
    keys = scene.draw(z_near)
    face_ids, barycentrics, pixel_depth = _empty_raster(pixels, height, width)
    outputs = (array(face_ids), array(barycentrics, wp.vec3), array(pixel_depth))
    scene.run_by_rows(_warp_hard.resolve_faces, None, scene.pixels, scene.depth, scene.faces, array(keys), *outputs)
    return face_ids, barycentrics, pixel_depth


@rasterize.register_fake
def _(
    pixels: Tensor, depth: Tensor, faces: Tensor, height: int, width: int, z_near: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_raster(pixels, height, width)


def _empty_raster(pixels: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    shape = (pixels.shape[0], height, width)
    return pixels.new_empty(shape, dtype=torch.int64), pixels.new_empty(*shape, 3), pixels.new_empty(shape)


@torch.library.custom_op("posecore::soft_log_transparency", mutates_args=())
def soft_log_transparency(
    pixels: Tensor, depth: Tensor, faces: Tensor, height: int, width: int, sigma: float, z_near: float
) -> Tensor:
    from posecore.rendering import _warp_soft

    scene = Scene(pixels, depth, faces, (height, width))
    load(_warp_soft, scene.device)
    sums = torch.zeros(scene.batch, height, width, dtype=torch.int64, device=scene.device)
    limits = (z_near, scene.min_area, *_reach(sigma, scene.size))
    scene.run_by_rows(
        _warp_soft.accumulate,
        len(faces),
        *limits,
        scene.pixels,
        scene.depth,
        scene.faces,
        array(sums),
    )
    return (sums.to(torch.float64) * -(2.0**-36)).clamp_(min=-OPAQUE).to(torch.float32)


@soft_log_transparency.register_fake
def _(pixels: Tensor, depth: Tensor, faces: Tensor, height: int, width: int, sigma: float, z_near: float) -> Tensor:
    return pixels.new_empty(pixels.shape[0], height, width)


@torch.library.custom_op("posecore::soft_log_transparency_backward", mutates_args=())
def soft_log_transparency_backward(
    gradient: Tensor,
    log_transparency: Tensor,
    pixels: Tensor,
    depth: Tensor,
    faces: Tensor,
    sigma: float,
    z_near: float,
) -> Tensor:
    import warp as wp

    from posecore.rendering import _warp_soft

    size = (gradient.shape[1], gradient.shape[2])
    scene = Scene(pixels, depth, faces, size)
    load(_warp_soft, scene.device)
    corners = pixels.new_zeros(scene.batch, 3 * len(faces), 2)
    scene.run_by_items(
        _warp_soft.accumulate_gradient,
        len(faces),
        z_near,
        scene.min_area,
        *_reach(sigma, size),
        scene.pixels,
        scene.depth,
        scene.faces,
        array(log_transparency),
        array(gradient),
        array(corners, wp.vec2),
    )
    return scene.gather(corners, scene.topology.corners_of_vertex)


@soft_log_transparency_backward.register_fake
def _(
    gradient: Tensor,
    log_transparency: Tensor,
    pixels: Tensor,
    depth: Tensor,
    faces: Tensor,
    sigma: float,
    z_near: float,
) -> Tensor:
    return torch.empty_like(pixels, memory_format=torch.contiguous_format)


def _reach(sigma: float, size: tuple[int, int]) -> tuple[float, float]:
    """How far (pixels) a face still counts, and 1 / sigma in squared pixels."""
    scale = pixels_per_ndc(size)
    return float((REACH_SIGMAS * sigma) ** 0.5 * scale), 1.0 / (sigma * scale**2)


def _soft_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    pixels, depth, faces, _, _, ctx.sigma, ctx.z_near = inputs
    ctx.save_for_backward(output, pixels, depth, faces)


def _soft_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    gradients = soft_log_transparency_backward(gradient, *ctx.saved_tensors, ctx.sigma, ctx.z_near)
    return gradients, None, None, None, None, None, None


soft_log_transparency.register_autograd(_soft_backward, setup_context=_soft_setup)


@torch.library.custom_op("posecore::edge_alpha", mutates_args=())
def edge_alpha(
    pixels: Tensor, depth: Tensor, faces: Tensor, height: int, width: int, z_near: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Alpha, and for the gradient the winning edge of each pixel pair and the covered pixels."""
    from posecore.rendering import _warp_edge

    scene = Scene(pixels, depth, faces, (height, width))
    covered = scene.draw(z_near) != NO_FACE
    alpha, winners, _ = _empty_edge(pixels, height, width)
    winners.zero_()
    load(_warp_edge, scene.device)
    edges, mask, pairs = array(scene.topology.edges), array(covered), array(winners)
    scene.run_by_rows(
        _warp_edge.choose_edges,
        len(scene.topology.edges),
        z_near,
        scene.pixels,
        scene.depth,
        edges,
        mask,
        pairs,
    )
    scene.run_by_rows(_warp_edge.blend, None, scene.pixels, edges, mask, pairs, array(alpha))
    return alpha, winners, covered


@edge_alpha.register_fake
def _(
    pixels: Tensor, depth: Tensor, faces: Tensor, height: int, width: int, z_near: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _empty_edge(pixels, height, width)


def _empty_edge(pixels: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    batch = pixels.shape[0]
    winners = pixels.new_empty(batch, 2, height, width, dtype=torch.int64)
    return pixels.new_empty(batch, height, width), winners, pixels.new_empty(batch, height, width, dtype=torch.bool)


@torch.library.custom_op("posecore::edge_alpha_backward", mutates_args=())
def edge_alpha_backward(
    gradient: Tensor, winners: Tensor, covered: Tensor, pixels: Tensor, depth: Tensor, faces: Tensor
) -> Tensor:
    import warp as wp

    from posecore.rendering import _warp_edge

    scene = Scene(pixels, depth, faces, (gradient.shape[1], gradient.shape[2]))
    load(_warp_edge, scene.device)
    edges = scene.topology.edges
    ends = pixels.new_zeros(scene.batch, 2 * len(edges), 2)
    scene.run_by_items(
        _warp_edge.blend_gradient,
        len(edges),
        scene.pixels,
        array(edges),
        array(covered),
        array(winners),
        array(gradient),
        array(ends, wp.vec2),
    )
    return scene.gather(ends, scene.topology.ends_of_vertex)


@edge_alpha_backward.register_fake
def _(gradient: Tensor, winners: Tensor, covered: Tensor, pixels: Tensor, depth: Tensor, faces: Tensor) -> Tensor:
    return torch.empty_like(pixels, memory_format=torch.contiguous_format)


def _edge_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    pixels, depth, faces, *_ = inputs
    _, winners, covered = output
    ctx.mark_non_differentiable(winners, covered)
    ctx.save_for_backward(winners, covered, pixels, depth, faces)


def _edge_backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    return edge_alpha_backward(gradient, *ctx.saved_tensors), None, None, None, None, None


edge_alpha.register_autograd(_edge_backward, setup_context=_edge_setup)
