"""Pictures of many synthetic hands at once: one raster call, colours only where a hand is seen."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor
from torch.nn.functional import avg_pool2d, embedding_bag, normalize

from handvit.data.synthetic.anatomy import Anatomy, anatomy_of, rest_pose
from handvit.data.synthetic.scene import forearm_faces, forearm_vertices
from handvit.data.synthetic.skin import Looks, SkinMap, albedo, lit, skin_map
from handvit.hand import HandModel, boundary_loop
from posecore.rendering import Backend, Raster, rasterize, vertex_normals

SUPERSAMPLING = 2
"""Samples of a pixel along each axis."""


@dataclass(frozen=True)
class HandMesh:
    """A hand model made ready to be painted: its mesh with a forearm, and where skin features lie on it."""

    anatomy: Anatomy
    loop: Int[np.ndarray, " n"]
    """The wrist's edge."""
    faces: Int64[Tensor, "f 3"]
    skin: SkinMap

    @staticmethod
    def of(hand: HandModel) -> "HandMesh":
        """
        Raises:
            ValueError: The mesh is closed, or has several borders.
        """
        anatomy = anatomy_of(hand)
        faces = hand.faces.cpu().numpy().astype(np.int64)
        loop = boundary_loop(faces)
        if not len(loop):
            raise ValueError("the hand's mesh is closed at the wrist: there is no edge to join a forearm to")
        vertices = rest_pose(hand)[1]
        rings = forearm_vertices(vertices[None, loop], -anatomy.forward[None])[0]
        joined = np.concatenate([faces, forearm_faces(loop, len(vertices))])
        rest = np.concatenate([vertices, rings])
        weights = hand.body.weights.double().cpu().numpy()
        weights = np.concatenate([weights, np.eye(16)[np.zeros(len(rings), int)]])
        normals = vertex_normals(torch.from_numpy(rest)[None], torch.from_numpy(joined))[0].numpy()
        skin = skin_map(anatomy, rest, normals, weights, joined, len(faces))
        return HandMesh(anatomy, loop, torch.from_numpy(joined), skin)

    def with_forearm(
        self, vertices: Float[np.ndarray, "t v 3"], direction: Float[np.ndarray, "t 3"]
    ) -> Float[np.ndarray, "t m 3"]:
        """Posed hands with forearms that leave the wrist in a direction (unit, same frame)."""
        return np.concatenate([vertices, forearm_vertices(vertices[:, self.loop], direction)], 1)


def render_hands(
    mesh: HandMesh,
    vertices_cam: Float[np.ndarray, "t m 3"],
    K: Float[np.ndarray, "t 3 3"],
    looks: Looks,
    size: tuple[int, int],
    backend: Backend = "warp",
) -> tuple[Float32[np.ndarray, "t h w 3"], Float32[np.ndarray, "t h w"]]:
    """Hands by themselves: RGB 0..1 already multiplied by coverage, and coverage 0..1.

    Args:
        vertices_cam: With forearms, metres.
        looks: One a picture.
    """
    fine_K = K.copy()
    fine_K[:, :2] *= SUPERSAMPLING
    fine_K[:, :2, 2] += (SUPERSAMPLING - 1) / 2
    fine = (size[0] * SUPERSAMPLING, size[1] * SUPERSAMPLING)
    vertices = torch.from_numpy(vertices_cam).float()
    raster = rasterize(vertices, mesh.faces, torch.from_numpy(fine_K).float(), fine, backend)
    painted = torch.zeros(len(vertices), *fine, 4)
    image, y, x = (raster.face_ids >= 0).nonzero(as_tuple=True)
    painted[image, y, x, :3] = _colors(mesh, raster, vertices, looks, (image, y, x))
    painted[image, y, x, 3] = 1
    small = avg_pool2d(painted.permute(0, 3, 1, 2), SUPERSAMPLING).permute(0, 2, 3, 1).numpy()
    return np.ascontiguousarray(small[..., :3]), np.ascontiguousarray(small[..., 3])


def _mixed(
    table: Float[Tensor, "m c"], rows: Int64[Tensor, "n 3"], weights: Float[Tensor, "n 3"]
) -> Float[Tensor, "n c"]:
    """Weighted sums of rows; torch's fused gather is three times as fast as an index and a sum."""
    mixed: Tensor = embedding_bag(rows, table, per_sample_weights=weights, mode="sum")
    return mixed


def _colors(
    mesh: HandMesh,
    raster: Raster,
    vertices: Float[Tensor, "t m 3"],
    looks: Looks,
    pixels: tuple[Tensor, Tensor, Tensor],
) -> Float[Tensor, "n 3"]:
    """Lit colours at the covered pixels."""
    image = pixels[0]
    face = raster.face_ids[pixels]
    weights = raster.barycentrics[pixels]
    where = _mixed(mesh.skin.corners.flatten(0, 1), 3 * face[:, None] + torch.arange(3), weights)
    posed = torch.cat([vertices, vertex_normals(vertices, mesh.faces)], 2).flatten(0, 1)
    seen = _mixed(posed, (image * vertices.shape[1])[:, None] + mesh.faces[face], weights)
    points, normals = seen[:, :3], seen[:, 3:]
    color = albedo(mesh.skin, looks, face, where, image)
    return lit(color, normalize(normals, dim=1), -normalize(points, dim=1), looks, image)
