"""Ellipsoids, and where rays meet them: closed forms, all rays and ellipsoids at once."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

FARTHEST_ROUNDS = 50
"""Of the search for the farthest point; the distance then stands still to 1e-9."""


@dataclass(frozen=True)
class Ellipsoids:
    """Some solids in one frame."""

    centre: Float[np.ndarray, "p 3"]
    axes: Float[np.ndarray, "p 3 3"]
    """Rotations; column i is the direction of radius i."""
    radii: Float[np.ndarray, "p 3"]

    def quadrics(self) -> Float[np.ndarray, "p 3 3"]:
        """A with (x - c)' A (x - c) = 1 on the surface."""
        scaled = self.axes / self.radii[:, None, :]
        return np.asarray(scaled @ scaled.transpose(0, 2, 1))

    def moved(self, offset: Float[np.ndarray, " 3"], scale: float) -> "Ellipsoids":
        """Each point x becomes scale (x + offset)."""
        return Ellipsoids(scale * (self.centre + offset), self.axes, scale * self.radii)

    def turned_about_z(self, angle_deg: float) -> "Ellipsoids":
        """By the right-hand rule."""
        c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
        turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        return Ellipsoids(self.centre @ turn.T, turn @ self.axes, self.radii)


@dataclass(frozen=True)
class Hits:
    """What each ray meets first."""

    part: Int[np.ndarray, "v n"]
    """Ellipsoid; -1: none."""
    depth: Float[np.ndarray, "v n"]
    """Along the optical axis; infinite where nothing is met."""
    normal_cam: Float[np.ndarray, "v n 3"]
    """Outward unit normal; zero where nothing is met."""


def cast(solids: Ellipsoids, cam_from_world: Float[np.ndarray, "v 4 4"], rays_cam: Float[np.ndarray, "v n 2"]) -> Hits:
    """First surface along rays from cameras outside all solids.

    Point s (x, y, 1) of a ray lies on an ellipsoid where a s^2 - 2 b s + c = 0, with a = d'Ad, b = d'Ac, c = c'Ac - 1 in
    the camera's frame; the ray meets it where b^2 - ac, itself a quadratic form in d, is positive.

    Args:
        rays_cam: x and y of the directions (x, y, 1).
    """
    rotation, translation = cam_from_world[:, :3, :3], cam_from_world[:, :3, 3]
    centre = np.einsum("vij,pj->vpi", rotation, solids.centre) + translation[:, None]
    quadric = rotation[:, None] @ solids.quadrics() @ rotation[:, None].transpose(0, 1, 3, 2)
    pull = np.einsum("vpij,vpj->vpi", quadric, centre)
    constant = np.einsum("vpi,vpi->vp", pull, centre) - 1
    discriminant = pull[..., :, None] * pull[..., None, :] - constant[..., None, None] * quadric

    x, y = rays_cam[..., 0], rays_cam[..., 1]
    one = np.ones_like(x)
    directions, products = np.stack([x, y, one], -1), np.stack([x * x, y * y, one, x * y, x, y], -1)
    under_root = products @ _form_coefficients(discriminant)
    # most rays meet nothing: the roots are taken of the others only
    view, ray, solid = np.nonzero(under_root > 0)
    met = directions[view, ray]
    half = np.einsum("ni,ni->n", met, pull[view, solid])
    square = np.einsum("ni,ni->n", products[view, ray], _form_coefficients(quadric)[view, :, solid])
    depth = np.full(under_root.shape, np.inf)
    depth[view, ray, solid] = (half - np.sqrt(under_root[view, ray, solid])) / square
    part = depth.argmin(-1)
    nearest = np.take_along_axis(depth, part[..., None], -1)[..., 0]
    hit = np.isfinite(nearest)

    view, ray = np.nonzero(hit)
    solid = part[hit]
    surface = directions[hit] * nearest[hit][:, None]
    outward = np.einsum("nij,nj->ni", quadric[view, solid], surface - centre[view, solid])
    normal = np.zeros((*nearest.shape, 3))
    normal[view, ray] = outward / np.linalg.norm(outward, axis=1, keepdims=True)
    return Hits(part=np.where(hit, part, -1), depth=nearest, normal_cam=normal)


def farthest_distance(solids: Ellipsoids, point: Float[np.ndarray, " 3"]) -> float:
    """From the point to the farthest point of any solid.

    The farthest point c + Mu, M = axes diag(radii), satisfies u ~ M'(c + Mu); each round of that raises the distance.
    """
    shape = solids.axes * solids.radii[:, None, :]
    offset = solids.centre - point
    # a start in the plane of symmetry, which would stay there, is left by the second term
    u = np.einsum("pij,pi->pj", shape, offset) + 1e-3 * solids.radii
    for _ in range(FARTHEST_ROUNDS):
        u /= np.linalg.norm(u, axis=1, keepdims=True)
        u = np.einsum("pij,pi->pj", shape, offset + np.einsum("pij,pj->pi", shape, u))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    return float(np.linalg.norm(offset + np.einsum("pij,pj->pi", shape, u), axis=1).max())


def _form_coefficients(matrix: Float[np.ndarray, "v p 3 3"]) -> Float[np.ndarray, "v 6 p"]:
    """Of d'Md on x^2, y^2, 1, xy, x, y."""
    diagonal = [matrix[..., i, i] for i in range(3)]
    mixed = [2 * matrix[..., i, j] for i, j in ((0, 1), (0, 2), (1, 2))]
    return np.stack(diagonal + mixed, axis=-2)
