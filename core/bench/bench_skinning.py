"""Skinning, forward and backward at batch 64: the mesh and five vertices of it beside smplx, keypoints beside a chain of
4 x 4 products.

    PYTHONPATH=core/bench python core/bench/bench_skinning.py --json build/bench/skinning.json

With all threads, then with one: the chain's many small products wait for each other's threads on a busy machine.
Models are made up, at the sizes of MANO, SMAL and SMIL; at SMIL size there are no pose blend shapes, as in its files.
"""

from collections.abc import Callable

import numpy as np
import torch
from _measure import NO_TARGET, Result, Target, compare, json_argument, report
from smplx.lbs import batch_rigid_transform, blend_shapes, lbs, vertices2joints
from torch import Tensor

from posecore.bodymodel import BodyArrays, BodyModel

BATCH = 64
SIZES = {  # vertices, joints, shape coefficients, pose blend shapes
    "MANO 778 x 16": (778, 16, 10, True),
    "SMAL 3889 x 35": (3889, 35, 41, True),
    "SMIL 4000 x 55": (4000, 55, 5, False),
}
TIPS = torch.tensor([744, 320, 443, 554, 671])

TARGETS = {
    "mesh, MANO 778 x 16": Target(ratio=1.2),
    "five vertices, MANO 778 x 16": Target(ratio=5),
    "mesh, SMAL 3889 x 35": Target(ratio=1.2),
    "mesh, SMIL 4000 x 55": Target(ratio=1.8),
    "keypoints, SMIL 4000 x 55": Target(ratio=10),
}


def random_arrays(v: int, j: int, c: int, posedirs: bool) -> BodyArrays:
    """Two bones a vertex and 28 vertices a regressed joint, as the insects' files have; a tree six levels deep."""
    rng = np.random.default_rng(0)
    weights = np.zeros((v, j))
    owner = np.sort(rng.integers(0, j, v))
    parents = np.array([-1, *(0 if i % 6 == 1 else i - 1 for i in range(1, j))])
    share = rng.uniform(0.5, 1, v)
    weights[np.arange(v), owner] = share
    weights[np.arange(v), np.maximum(parents[owner], 0)] += 1 - share
    regressor = np.zeros((j, v))
    for joint, row in enumerate(regressor):
        near = np.flatnonzero((owner == joint) | (owner == parents[joint]))
        row[rng.choice(near, min(28, len(near)), replace=False)] = 1
    return BodyArrays(
        template=rng.normal(size=(v, 3)),
        faces=rng.integers(0, v, (2 * v, 3)),
        weights=weights,
        parents=parents,
        joint_names=tuple(f"joint_{i}" for i in range(j)),
        shapedirs=0.01 * rng.normal(size=(v, 3, c)),
        joint_regressor=regressor / regressor.sum(1, keepdims=True),
        posedirs=0.01 * rng.normal(size=(v, 3, 9 * (j - 1))) if posedirs else None,
    )


class Rival:
    """The model's arrays as smplx and the original of SMIL hold them, and what those do with them."""

    def __init__(self, model: BodyModel) -> None:
        self.template, self.shapedirs = model.template.contiguous(), model.shapedirs.contiguous()
        self.regressor, self.weights = model.joint_regressor, model.weights.contiguous()
        self.parents, self.parent_list = model.parents, model.parents.tolist()
        self.posedirs = None if model.posedirs is None else model.posedirs.flatten(0, 1).T.contiguous()

    def smplx_gathered(self, betas: Tensor, rotations: Tensor) -> Tensor:
        """Fingertips as smplx users have them: the whole mesh, then a few vertices."""
        return self.smplx(betas, rotations)[:, TIPS]

    def smplx(self, betas: Tensor, rotations: Tensor) -> Tensor:
        """Vertices; without pose blend shapes lbs less that step, which it cannot skip."""
        if self.posedirs is not None:
            arrays = (self.template[None], self.shapedirs, self.posedirs, self.regressor, self.parents, self.weights)
            return lbs(betas, rotations, *arrays, pose2rot=False)[0]
        shaped = self.template + blend_shapes(betas, self.shapedirs)
        transforms = batch_rigid_transform(rotations, vertices2joints(self.regressor, shaped), self.parents)[1]
        return self._skin(shaped, transforms)

    def sequential_chain(self, betas: Tensor, rotations: Tensor) -> Tensor:
        """Regressed joints the way SMAL and SMIL code has them: a 4 x 4 product a joint, the whole mesh, regression."""
        shaped = self.template + (betas @ self.shapedirs.flatten(0, 1).T).unflatten(1, (-1, 3))
        rest = self._regress(shaped)
        last_row = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(len(betas), 1, 4)

        def transform(joint: int, bone: Tensor) -> Tensor:
            return torch.cat([torch.cat([rotations[:, joint], bone[..., None]], dim=2), last_row], dim=1)

        chain = [transform(0, rest[:, 0])]
        for joint, parent in enumerate(self.parent_list[1:], start=1):
            chain.append(chain[parent] @ transform(joint, rest[:, joint] - rest[:, parent]))
        transforms = torch.stack(chain, dim=1)
        at_rest = torch.cat([rest, torch.zeros_like(rest[..., :1])], dim=2)
        moved = torch.nn.functional.pad(transforms @ at_rest[..., None], (3, 0))
        return self._regress(self._skin(shaped, transforms - moved))

    def _regress(self, points: Tensor) -> Tensor:
        return torch.stack([points[..., axis] @ self.regressor.T for axis in range(3)], dim=2)

    def _skin(self, points: Tensor, transforms: Tensor) -> Tensor:
        blended = (self.weights.expand(len(points), -1, -1) @ transforms.flatten(2)).unflatten(2, (4, 4))
        homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=2)
        return (blended @ homogeneous[..., None])[:, :, :3, 0]


def measure(name: str, model: BodyModel, targets: dict[str, Target]) -> list[Result]:
    """The mesh, and where there are no pose blend shapes the keypoints."""
    rotations = torch.linalg.qr(torch.randn(BATCH, model.num_joints, 3, 3))[0].contiguous().requires_grad_()
    betas = torch.randn(BATCH, model.num_betas, requires_grad=True)
    origin = torch.zeros(BATCH, 3)
    rival = Rival(model)

    def both_ways(points: Callable[[Tensor, Tensor], Tensor], weights: Tensor) -> Callable[[], object]:
        return lambda: torch.autograd.grad((points(betas, rotations) * weights).sum(), (betas, rotations))

    def race(label: str, ours: Callable[[Tensor, Tensor], Tensor], other: Callable[[Tensor, Tensor], Tensor]) -> Result:
        expected = other(betas, rotations).detach()
        torch.testing.assert_close(ours(betas, rotations).detach(), expected, rtol=1e-4, atol=1e-4)
        weights = torch.randn_like(expected)
        others = {other.__name__: both_ways(other, weights)}
        target = targets.get(f"{label}, {name}", NO_TARGET)
        return compare(f"{label}, {name}", both_ways(ours, weights), others, target=target)

    results = [race("mesh", lambda betas, rotations: model(rotations, betas, origin).vertices, rival.smplx)]
    if name.startswith("MANO"):
        patch = model.patch_of(TIPS)
        ours = race(
            "five vertices",
            lambda betas, rotations: model.landmarks(rotations, betas, origin, patch).vertices,
            rival.smplx_gathered,
        )
        results.append(ours)
    if rival.posedirs is None:
        ours = race(
            "keypoints", lambda betas, rotations: model.keypoints(rotations, betas, origin), rival.sequential_chain
        )
        results.append(ours)
    return results


def main() -> None:
    json_path = json_argument(__doc__)
    torch.manual_seed(0)
    models = {name: BodyModel(random_arrays(*size)) for name, size in SIZES.items()}
    results = [result for name, model in models.items() for result in measure(name, model, TARGETS)]
    all_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results += [result for name, model in models.items() for result in measure(f"{name}, 1 thread", model, {})]
    torch.set_num_threads(all_threads)
    report(results, json_path)


if __name__ == "__main__":
    main()
