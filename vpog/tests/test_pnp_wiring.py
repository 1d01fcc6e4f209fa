"""From matched patches to correspondences."""

import pytest
import torch

from posecore.cameras import invert, transform
from posecore.rotations import axis_angle_to_matrix
from vpog.model.prediction import DenseMatches
from vpog.pnp.lm import solve_lm
from vpog.pnp.poses import pose_from_matrix, pose_to_matrix
from vpog.pnp.settings import LmSettings, WiringSettings
from vpog.pnp.wiring import TemplateGeometry, matched_correspondences

SIZE, COLUMNS, PS = 64, 4, 16


def pose_of(axis_angle, trans):
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3, :3] = axis_angle_to_matrix(torch.tensor(axis_angle, dtype=torch.float64))
    matrix[:3, 3] = torch.tensor(trans, dtype=torch.float64)
    return matrix


@pytest.fixture
def scene():
    """Two queries, three templates each, with bumpy depth; the flow of every pair is exact."""
    generator = torch.Generator().manual_seed(0)
    K = torch.tensor([[150.0, 0, 31], [0, 152, 33], [0, 0, 1]], dtype=torch.float64)
    depth = 400 + 40 * torch.rand(2, 3, SIZE, SIZE, generator=generator, dtype=torch.float64)
    depth[0, 0, 20:28, 20:28] = 0
    templates = torch.stack(
        [torch.stack([pose_of([0.3 * i, 0.1 * b, -0.2 * i], [5.0, i, 420 + b]) for i in range(3)]) for b in range(2)]
    )
    query = torch.stack([pose_of([0.2, 0.5, 0.1], [10, -4, 500]), pose_of([-0.4, 0.1, 2.0], [-8, 3, 450])])
    cells = COLUMNS * COLUMNS
    pairs = torch.cartesian_prod(torch.arange(2), torch.arange(3), torch.arange(cells), torch.arange(cells))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)[:70]]
    rows = (pairs[:, 3] // COLUMNS * PS)[:, None, None] + torch.arange(PS)[:, None].expand(PS, PS)
    cols = (pairs[:, 3] % COLUMNS * PS)[:, None, None] + torch.arange(PS).expand(PS, PS)
    at = depth[pairs[:, 0, None, None], pairs[:, 1, None, None], rows, cols]
    pixels = torch.stack([cols, rows, torch.ones_like(cols)], -1).double()
    points_cam = (pixels @ torch.linalg.inv(K).T * at[..., None]).flatten(1, 2)
    points = transform(invert(templates[pairs[:, 0], pairs[:, 1]]), points_cam)
    seen = transform(query[pairs[:, 0]], points) @ K.T
    centre = torch.stack([pairs[:, 2] % COLUMNS, pairs[:, 2] // COLUMNS], -1) * PS + PS // 2
    flow = ((seen[..., :2] / seen[..., 2:] - centre[:, None]) / PS).reshape(-1, PS, PS, 2)
    scale = 0.1 + torch.rand(len(pairs), PS, PS, generator=generator, dtype=torch.float64)
    return {
        "pairs": pairs,
        "dense": DenseMatches(flow, scale, torch.zeros(len(pairs), 2, dtype=torch.float64)),
        "scores": torch.rand(len(pairs), generator=generator, dtype=torch.float64),
        "templates": TemplateGeometry(depth, K.expand(2, 3, 3, 3), templates),
        "K": K.expand(2, 3, 3),
        "query": query,
        "unit_mm": torch.tensor([100.0, 150.0], dtype=torch.float64),
        "pnp_scale": torch.tensor([[2.0, 3.0], [5.0, 7.0]], dtype=torch.float64),
    }


def wired(scene, settings=None, **changes):
    s = scene | changes
    return matched_correspondences(
        s["pairs"],
        s["dense"],
        s["scores"],
        s["templates"],
        s["K"],
        s["unit_mm"],
        s["pnp_scale"],
        settings or WiringSettings(),
    )


def test_exact_flow_gives_the_exact_pose(scene):
    pairs = wired(scene, WiringSettings(512, 4))
    start = scene["query"].clone()
    start[:, :3, 3] += torch.tensor([8.0, -8.0, 30.0])
    found = solve_lm(pairs, pose_from_matrix(start, scene["unit_mm"]), LmSettings(30))
    torch.testing.assert_close(pose_to_matrix(found.pose, scene["unit_mm"]), scene["query"], rtol=0, atol=1e-6)


def test_weights_are_shares_of_the_confidence_times_the_scale(scene):
    weights = wired(scene).weights
    torch.testing.assert_close(weights.sum(1), scene["pnp_scale"])
    assert ((weights > 0).sum((1, 2)) > 0).all()
    surer = DenseMatches(scene["dense"].flow, scene["dense"].scale / 1e3, scene["dense"].centre_flow)
    assert wired(scene, dense=surer).weights.max() < scene["pnp_scale"].max()  # a common factor has no effect


def test_pairs_are_those_of_the_loop_over_objects(scene):
    """Best patches of each object first, each with the pixels 2, 6, 10, 14 in rows and columns; no depth, no weight."""
    settings = WiringSettings(max_points=96, stride=4)
    ours = wired(scene, settings)
    offsets = [2, 6, 10, 14]
    for b in range(2):
        rows = [m for m in range(len(scene["pairs"])) if scene["pairs"][m, 0] == b]
        best = sorted(rows, key=lambda m: -scene["scores"][m])[:6]
        pixels, confidences, depths = [], [], []
        for m in best:
            _, s, q, c = scene["pairs"][m].tolist()
            for i in offsets:
                for j in offsets:
                    centre = torch.tensor([q % COLUMNS * PS + 8, q // COLUMNS * PS + 8])
                    pixels.append(centre + PS * scene["dense"].flow[m, i, j])
                    confidences.append(scene["dense"].weight[m, i, j])
                    depths.append(scene["templates"].depth_mm[b, s, c // COLUMNS * PS + i, c % COLUMNS * PS + j])
        confidence = torch.stack(confidences) * (torch.stack(depths) > 0)
        wanted = (confidence / confidence.sum())[:, None] * scene["pnp_scale"][b]
        torch.testing.assert_close(ours.pixels[b], torch.stack(pixels))
        torch.testing.assert_close(ours.weights[b], wanted)


def test_the_order_of_pairs_does_not_matter(scene):
    order = torch.randperm(len(scene["pairs"]), generator=torch.Generator().manual_seed(5))
    dense = DenseMatches(*(values[order] for values in vars(scene["dense"]).values()))
    turned = wired(scene, pairs=scene["pairs"][order], dense=dense, scores=scene["scores"][order])
    for ours, theirs in zip(vars(wired(scene)).values(), vars(turned).values(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_an_object_without_matches_is_all_padding(scene):
    only = scene["pairs"][:, 0] == 1
    dense = DenseMatches(*(values[only] for values in vars(scene["dense"]).values()))
    pairs = wired(scene, pairs=scene["pairs"][only], dense=dense, scores=scene["scores"][only])
    assert pairs.weights[0].abs().max() == 0
    torch.testing.assert_close(pairs.weights[1], wired(scene).weights[1])
    nothing = torch.zeros(len(only), dtype=torch.bool)
    empty = DenseMatches(*(values[nothing] for values in vars(scene["dense"]).values()))
    none = wired(scene, pairs=scene["pairs"][nothing], dense=empty, scores=scene["scores"][nothing])
    assert none.weights.shape == (2, 512, 2)
    assert none.weights.abs().max() == 0


def test_flow_scale_and_weights_are_taught(scene):
    flow, scale, factor = (
        values.clone().requires_grad_() for values in (scene["dense"].flow, scene["dense"].scale, scene["pnp_scale"])
    )
    pairs = wired(scene, dense=DenseMatches(flow, scale, scene["dense"].centre_flow), pnp_scale=factor)
    (pairs.pixels.square().sum() + pairs.weights.square().sum()).backward()
    for leaf in (flow, scale, factor):
        assert leaf.grad.isfinite().all()
        assert leaf.grad.abs().max() > 0


def test_a_stride_that_leaves_no_point_of_a_patch_is_refused(scene):
    with pytest.raises(ValueError, match=r"pnp\.wiring\.stride 40 gives 0 points of a patch of 16 px"):
        wired(scene, WiringSettings(512, 40))
    with pytest.raises(ValueError, match=r"max_points 8 must hold at least one patch"):
        wired(scene, WiringSettings(8, 4))


def test_weights_can_be_the_confidences_themselves_and_doubtful_pixels_left_out(scene):
    raw = wired(scene, WiringSettings(normalised=False)).weights
    shares = wired(scene).weights
    torch.testing.assert_close(raw / raw.sum(1, keepdim=True) * scene["pnp_scale"][:, None], shares)
    assert raw[0, :, 0].max() <= 2.0 / 0.1
    sure = wired(scene, WiringSettings(normalised=False, min_weight=2.0)).weights
    torch.testing.assert_close(sure, torch.where(raw >= 2.0 * scene["pnp_scale"][:, None], raw, 0))
    assert 0 < (sure > 0).sum() < (raw > 0).sum()
