"""Poses of 64 objects with 512 noisy pairs each: one batched call beside a loop over OpenCV's solvers.

    PYTHONPATH=core/bench python vpog/bench/bench_vpog_pnp.py --json build/bench/bench_vpog_pnp.json

`refine`: from a start 10 degrees and 3 % off. `from nothing`: no start. The pairs have 1 px of noise, equal weights and
no outliers, so that all solvers have the same optimum; before timing, each must come within 5 % of the best median
error. On a machine with a GPU ours runs there too (float32), and OpenCV on the CPU.
"""

import statistics
from collections.abc import Callable, Sequence
from functools import partial

import cv2
import numpy as np
import torch
from _measure import Result, Target, compare, json_argument, report
from torch import Tensor

from posecore.rotations import axis_angle_to_matrix, geodesic_distance, matrix_to_quaternion_wxyz
from vpog.pnp.lm import solve_lm
from vpog.pnp.poses import pose_to_matrix
from vpog.pnp.records import Correspondences
from vpog.pnp.settings import LmSettings, StartSettings
from vpog.pnp.start import random_sample_start

OBJECTS, POINTS, NOISE_PX = 64, 512, 1.0
EQUALLY_GOOD = 1.05
REFINEMENT = LmSettings(num_iterations=5, relative_delta=100.0)
FULL = LmSettings(num_iterations=10, relative_delta=100.0)

Solver = Callable[[], Tensor]


def problem() -> tuple[Correspondences, Tensor, Tensor]:
    """Correspondences, true poses and starts near them."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    turns = normal(OBJECTS, 3)
    trans = torch.tensor([0.0, 0.0, 6.0]) + normal(OBJECTS, 3) * torch.tensor([0.3, 0.3, 0.5])
    points = torch.rand(OBJECTS, POINTS, 3, generator=generator, dtype=torch.float64) - 0.5
    K = torch.tensor([[1000.0, 0, 112], [0, 1000, 112], [0, 0, 1]], dtype=torch.float64).expand(OBJECTS, 3, 3)
    seen = (points @ axis_angle_to_matrix(turns).mT + trans[:, None]) @ K.mT
    pixels = seen[..., :2] / seen[..., 2:] + NOISE_PX * normal(OBJECTS, POINTS, 2)
    direction = torch.nn.functional.normalize(normal(OBJECTS, 3), dim=-1)
    near = axis_angle_to_matrix(np.deg2rad(10) * direction) @ axis_angle_to_matrix(turns)
    pairs = Correspondences(points, pixels, torch.ones_like(pixels), K)
    return pairs, _seven(axis_angle_to_matrix(turns), trans), _seven(near, trans * 1.03)


def _seven(rotation: Tensor, trans: Tensor) -> Tensor:
    return torch.cat([trans, matrix_to_quaternion_wxyz(rotation)], -1)


def refined(pairs: Correspondences, start: Tensor) -> Tensor:
    return _arrived(solve_lm(pairs, start, REFINEMENT).pose)


def from_nothing(pairs: Correspondences, seeds: Tensor) -> Tensor:
    return _arrived(solve_lm(pairs, random_sample_start(pairs, seeds, StartSettings(), FULL), FULL).pose)


def _arrived(pose: Tensor) -> Tensor:
    if pose.is_cuda:
        torch.cuda.synchronize()
    return pose


def opencv_refined(pairs: Correspondences, start: Tensor) -> Tensor:
    matrices = pose_to_matrix(start, torch.ones(OBJECTS, dtype=torch.float64)).numpy()
    found = []
    for points, pixels, K, matrix in zip(*_arrays(pairs), matrices, strict=True):
        rvec, tvec = cv2.Rodrigues(matrix[:3, :3])[0], matrix[:3, 3:].copy()
        found.append(cv2.solvePnPRefineLM(points, pixels, K, None, rvec, tvec))
    return _poses(found)


def opencv_iterative(pairs: Correspondences) -> Tensor:
    return _poses(
        [cv2.solvePnP(*arrays, None, flags=cv2.SOLVEPNP_ITERATIVE)[1:] for arrays in zip(*_arrays(pairs), strict=True)]
    )


def opencv_sqpnp(pairs: Correspondences) -> Tensor:
    found = []
    for points, pixels, K in zip(*_arrays(pairs), strict=True):
        _, rvec, tvec = cv2.solvePnP(points, pixels, K, None, flags=cv2.SOLVEPNP_SQPNP)
        found.append(cv2.solvePnPRefineLM(points, pixels, K, None, rvec, tvec))
    return _poses(found)


def _arrays(pairs: Correspondences) -> list[np.ndarray]:
    return [values.numpy() for values in (pairs.points_obj, pairs.pixels, pairs.K)]


def _poses(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
    rvecs, tvecs = (torch.from_numpy(np.stack([pose[i].ravel() for pose in found])) for i in (0, 1))
    return _seven(axis_angle_to_matrix(rvecs), tvecs)


def check(solvers: dict[str, Solver], truth: Tensor) -> None:
    """Print the median errors; a solver that is worse than the best is no rival."""
    errors = {}
    matrices = pose_to_matrix(truth, torch.ones(OBJECTS, dtype=torch.float64))
    for name, solve in solvers.items():
        found = pose_to_matrix(solve().cpu().double(), torch.ones(OBJECTS, dtype=torch.float64))
        degrees = torch.rad2deg(geodesic_distance(found[:, :3, :3], matrices[:, :3, :3]))
        trans = (found[:, :3, 3] - matrices[:, :3, 3]).norm(dim=-1)
        errors[name] = (statistics.median(degrees.tolist()), statistics.median(trans.tolist()))
        print(f"{name}: median error {errors[name][0]:.4f} deg, {errors[name][1]:.5f} diameters")
    for column in (0, 1):
        best = min(error[column] for error in errors.values())
        worse = [name for name, error in errors.items() if error[column] > EQUALLY_GOOD * best]
        if worse:
            raise SystemExit(f"not equally accurate: {', '.join(worse)}")


def compared(name: str, ours: Solver, others: dict[str, Solver], truth: Tensor, target: Target) -> Result:
    print(name)
    check({"ours": ours, **others}, truth)
    return compare(name, ours, others, target=target)


def main() -> None:
    json_path = json_argument(__doc__)
    pairs, truth, start = problem()
    seeds = torch.arange(OBJECTS)
    near: dict[str, Solver] = {"solvePnPRefineLM": partial(opencv_refined, pairs, start)}
    far: dict[str, Solver] = {
        "SQPNP + refine": partial(opencv_sqpnp, pairs),
        "ITERATIVE": partial(opencv_iterative, pairs),
    }
    results = [
        compared("refine, CPU", partial(refined, pairs, start), near, truth, Target()),
        compared("from nothing, CPU", partial(from_nothing, pairs, seeds), far, truth, Target()),
    ]
    if torch.cuda.is_available():
        on_gpu = Correspondences(*(values.float().cuda() for values in vars(pairs).values()))
        gpu_start, gpu_seeds = start.float().cuda(), seeds.cuda()
        results += [
            compared("refine, GPU", partial(refined, on_gpu, gpu_start), near, truth, Target()),
            compared("from nothing, GPU", partial(from_nothing, on_gpu, gpu_seeds), far, truth, Target()),
        ]
    report(results, json_path)


if __name__ == "__main__":
    main()
