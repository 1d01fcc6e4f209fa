"""Flow labels of a training batch: ours beside the NumPy that one writes first, template by template.

    PYTHONPATH=core/bench python vpog/bench/bench_vpog_labels.py --json build/bench/bench_vpog_labels.json

Milliseconds for 8 queries of 224 px with 6 templates each, 4 from near and 2 from anywhere, patches of 16 px. Both give
the same labels (checked before timing). One rival follows the pixels of each matched patch; the other, harder to beat,
follows all pixels of a template at once and cuts patches out of the result. A GPU, where there is one, is timed too.
"""

from collections.abc import Callable

import numpy as np
import torch
from _measure import Result, Target, compare, json_argument, report

from posecore.rotations import axis_angle_to_matrix
from vpog.labels.flow_labels import flow_labels
from vpog.labels.records import FlowLabels
from vpog.labels.rules import LabelRules

BATCH, TEMPLATES, NEAR, SIZE, PATCH = 8, 6, 4, 224, 16
GRID, TOLERANCE = SIZE // PATCH, 5.0
HALF_AXES = np.array([50.0, 35.0, 25.0])
DISTANCE, FOCAL = 600.0, 1070.0
K = np.array([[FOCAL, 0, (SIZE - 1) / 2], [0, FOCAL, (SIZE - 1) / 2], [0, 0, 1]])

Scene = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Rival = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Template patch of each query patch, flow and visibility of each pixel by query patch."""
Dense = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def make_scene(seed: int = 0) -> Scene:
    """Depth and poses of queries and templates that show an ellipsoid."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.randn(BATCH, 1, 3, generator=generator, dtype=torch.float64)
    small = torch.randn(BATCH, TEMPLATES, 3, generator=generator, dtype=torch.float64) * 0.2
    small[:, NEAR:] *= 10
    query = np.tile(np.eye(4), (BATCH, 1, 1))
    query[:, :3, :3] = axis_angle_to_matrix(turn[:, 0]).numpy()
    templates = np.tile(np.eye(4), (BATCH, TEMPLATES, 1, 1))
    templates[..., :3, :3] = (axis_angle_to_matrix(small) @ axis_angle_to_matrix(turn)).numpy()
    query[:, 2, 3] = templates[..., 2, 3] = DISTANCE
    template_depth = np.stack([[ellipsoid_depth(pose) for pose in group] for group in templates])
    return np.stack([ellipsoid_depth(pose) for pose in query]), query, template_depth, templates


def ellipsoid_depth(pose: np.ndarray) -> np.ndarray:
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    rays = np.stack((x, y, np.ones_like(x)), -1) @ np.linalg.inv(K).T @ pose[:3, :3] / HALF_AXES
    origin = -pose[:3, :3].T @ pose[:3, 3] / HALF_AXES
    a, b, c = (rays**2).sum(-1), rays @ origin, origin @ origin - 1
    inside = b**2 - a * c
    return np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, 0)


def ours(scene: Scene, device: str) -> Callable[[], FlowLabels]:
    depth, query, template_depth, templates = (torch.from_numpy(part).float().to(device) for part in scene)
    intrinsics = torch.from_numpy(K).float().to(device)
    of_query, of_templates = intrinsics.expand(BATCH, 3, 3), intrinsics.expand(BATCH, TEMPLATES, 3, 3)
    mask = depth > 0
    rules = LabelRules(patch_size=PATCH, tol_mm=TOLERANCE, tol_diameter=0.0)

    def label() -> FlowLabels:
        labels = flow_labels(depth, mask, of_query, query, template_depth, of_templates, templates, rules)
        if device != "cpu":
            torch.cuda.synchronize()
        return labels

    return label


def template_by_template(scene: Scene, dense: Dense) -> list[Rival]:
    depth, query, template_depth, templates = scene
    return [
        labels_of_template(depth[b], query[b], template_depth[b, s], templates[b, s], dense)
        for b in range(BATCH)
        for s in range(TEMPLATES)
    ]


def labels_of_template(
    depth: np.ndarray, query: np.ndarray, template_depth: np.ndarray, template: np.ndarray, dense: Dense
) -> Rival:
    steps = np.arange(PATCH // 2, SIZE, PATCH)
    centres = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    centre_depth = depth[centres[:, 1], centres[:, 0]]
    px, visible = follow(centres, centre_depth, query, template, template_depth)
    cell = np.clip(np.floor(px / PATCH), 0, GRID - 1).astype(int)
    patch_cls = np.where(visible, cell[:, 1] * GRID + cell[:, 0], np.where(centre_depth > 0, GRID * GRID, -1))
    flow, seen = dense(patch_cls, depth, query, template_depth, template)
    return patch_cls, flow, seen


def follow(
    px: np.ndarray, depth: np.ndarray, source: np.ndarray, target: np.ndarray, target_depth: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels (n, 2) of one picture lie in another, and whether it shows them."""
    points = np.concatenate((px, np.ones((len(px), 1))), 1) @ np.linalg.inv(K).T * depth[:, None]
    points = (points - source[:3, 3]) @ source[:3, :3] @ target[:3, :3].T + target[:3, 3]
    z = np.where(points[:, 2] > 1e-6, points[:, 2], 1)
    landed = (points @ K.T)[:, :2] / z[:, None]
    column, row = np.floor(landed + 0.5).astype(int).T
    inside = (landed >= 0).all(1) & (column < SIZE) & (row < SIZE) & (points[:, 2] > 1e-6)
    surface = np.where(inside, target_depth[np.where(inside, row, 0), np.where(inside, column, 0)], 0)
    return landed, (depth > 0) & inside & (surface > 0) & (points[:, 2] <= surface + TOLERANCE)


def patch_by_patch(
    patch_cls: np.ndarray, depth: np.ndarray, query: np.ndarray, template_depth: np.ndarray, template: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    flow, seen = np.zeros((GRID * GRID, PATCH, PATCH, 2)), np.zeros((GRID * GRID, PATCH, PATCH), bool)
    for patch, cell in enumerate(patch_cls):
        if not 0 <= cell < GRID * GRID:
            continue
        columns, rows = np.meshgrid(np.arange(PATCH) + cell % GRID * PATCH, np.arange(PATCH) + cell // GRID * PATCH)
        px = np.stack((columns, rows), -1).reshape(-1, 2)
        landed, visible = follow(px, template_depth[px[:, 1], px[:, 0]], template, query, depth)
        centre = np.array([patch % GRID, patch // GRID]) * PATCH + PATCH // 2
        flow[patch] = np.where(visible[:, None], (landed - centre) / PATCH, 0).reshape(PATCH, PATCH, 2)
        seen[patch] = visible.reshape(PATCH, PATCH)
    return flow, seen


def picture_at_once(
    patch_cls: np.ndarray, depth: np.ndarray, query: np.ndarray, template_depth: np.ndarray, template: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    flow, seen = np.zeros((GRID * GRID, PATCH, PATCH, 2)), np.zeros((GRID * GRID, PATCH, PATCH), bool)
    px = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).reshape(-1, 2)
    landed, visible = follow(px, template_depth.reshape(-1), template, query, depth)
    landed = landed.reshape(GRID, PATCH, GRID, PATCH, 2).transpose(0, 2, 1, 3, 4)
    visible = visible.reshape(GRID, PATCH, GRID, PATCH).transpose(0, 2, 1, 3)
    patches = np.flatnonzero((patch_cls >= 0) & (patch_cls < GRID * GRID))
    row, column = np.divmod(patch_cls[patches], GRID)
    centres = np.stack((patches % GRID, patches // GRID), -1)[:, None, None] * PATCH + PATCH // 2
    seen[patches] = visible[row, column]
    flow[patches] = np.where(seen[patches][..., None], (landed[row, column] - centres) / PATCH, 0)
    return flow, seen


def check_same(labels: FlowLabels, rival: list[Rival]) -> None:
    """They differ where rounding decides on which side of an edge a point falls, and nowhere else."""
    patch_cls = np.stack([each[0] for each in rival]).reshape(BATCH, TEMPLATES, GRID, GRID)
    same = labels.patch_cls.numpy() == patch_cls
    assert same.mean() > 0.998, same.mean()
    sample, template, patch, cell = labels.pairs.numpy().T
    agreed = patch_cls.reshape(BATCH, TEMPLATES, -1)[sample, template, patch] == cell
    flow, seen = (np.stack([each[part] for each in rival])[sample * TEMPLATES + template, patch] for part in (1, 2))
    assert (seen == labels.dense_visibility.numpy())[agreed].mean() > 0.998
    both = agreed[:, None, None] & seen & labels.dense_visibility.numpy()
    assert np.abs(flow - labels.dense_flow.numpy())[both].max() < 2e-4


def main() -> None:
    path = json_argument(__doc__)
    scene = make_scene()
    rivals: dict[str, Callable[[], object]] = {
        "NumPy, pictures": lambda: template_by_template(scene, picture_at_once),
        "NumPy, patches": lambda: template_by_template(scene, patch_by_patch),
    }
    labels = ours(scene, "cpu")()
    for dense in (picture_at_once, patch_by_patch):
        check_same(labels, template_by_template(scene, dense))
    results: list[Result] = []
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        name = f"flow labels, {BATCH} x {TEMPLATES} templates, {len(labels.pairs)} pairs, {device}"
        results.append(compare(name, ours(scene, device), rivals, target=Target(ratio=10)))
    report(results, path)


if __name__ == "__main__":
    main()
