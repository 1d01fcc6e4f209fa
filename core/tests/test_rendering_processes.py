"""The Warp kernels under torch.compile, in threads, and in the workers of a DataLoader."""

import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from posecore.rendering import edge_silhouette, rasterize, shade, soft_silhouette

K = torch.tensor([[[40.0, 0, 15.5], [0, 40.0, 11.5], [0, 0, 1]]])
SIZE = (24, 32)
CORNERS = torch.tensor([[[-0.3, -0.2, 1.0], [0.3, -0.2, 1.5], [0.0, 0.25, 2.0], [0.1, 0.0, 0.8]]])
FACES = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])


@pytest.mark.slow  # torch.compile's own import takes 7 s
@pytest.mark.parametrize("silhouette", [soft_silhouette, edge_silhouette])
def test_silhouettes_compile_into_one_graph_with_the_same_gradients(silhouette):
    def loss(vertices):
        return silhouette(vertices * 1.1, FACES, K, SIZE).square().mean()

    gradients = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        vertices = CORNERS.clone().requires_grad_()
        function(vertices).backward()
        gradients.append(vertices.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=1e-7)
    assert gradients[0].abs().sum() > 0


@pytest.mark.slow
def test_pictures_compile_into_one_graph():
    def picture(colors):
        return shade(CORNERS, FACES, K, SIZE, colors)

    colors = torch.rand(1, 4, 3, generator=torch.Generator().manual_seed(0))
    compiled = torch.compile(picture, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(colors), picture(colors))


@pytest.mark.slow  # imports the same as torch.compile
def test_the_operators_keep_the_rules_of_torch_library():
    from posecore.rendering import _warp_ops

    pixels, depth = torch.rand(2, 4, 2) * 20, torch.rand(2, 4) + 1
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    leaf = pixels.clone().requires_grad_()
    torch.library.opcheck(_warp_ops.rasterize, (pixels, depth, FACES, *SIZE, 1e-3), test_utils=checks)
    torch.library.opcheck(_warp_ops.soft_log_transparency, (leaf, depth, FACES, *SIZE, 1e-3, 1e-3), test_utils=checks)
    torch.library.opcheck(_warp_ops.edge_alpha, (leaf, depth, FACES, *SIZE, 1e-3), test_utils=checks)


class Pictures(Dataset):
    def __init__(self, threads):
        self.threads = threads

    def __len__(self):
        return 4

    def __getitem__(self, index):
        torch.set_num_threads(self.threads)
        vertices = CORNERS.repeat(3, 1, 1) + 0.02 * index
        raster = rasterize(vertices, FACES, K.expand(3, -1, -1), SIZE)
        return raster.depth, edge_silhouette(vertices, FACES, K.expand(3, -1, -1), SIZE)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system has no fork")
def test_forked_workers_draw_what_the_parent_draws_after_it_used_its_threads():
    before = torch.get_num_threads()
    try:
        dataset = Pictures(threads=2)
        expected = [dataset[i] for i in range(4)]  # starts the parent's pool
        loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
        for (depth, alpha), (expected_depth, expected_alpha) in zip(loader, expected, strict=True):
            assert torch.equal(depth, expected_depth)
            assert torch.equal(alpha, expected_alpha)
    finally:
        torch.set_num_threads(before)


SPAWN = """
import torch
from torch.utils.data import DataLoader
from posecore.rendering import rasterize

class Pictures:
    def __len__(self):
        return 2
    def __getitem__(self, index):
        vertices = torch.tensor([[[-0.3, -0.2, 1.0], [0.3, -0.2, 1.5], [0.0, 0.25, 2.0]]])
        K = torch.tensor([[[40.0, 0, 8], [0, 40, 8], [0, 0, 1]]])
        return rasterize(vertices, torch.tensor([[0, 1, 2]]), K, (16, 16)).face_ids

if __name__ == "__main__":
    expected = Pictures()[0]
    loader = DataLoader(Pictures(), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert all(torch.equal(ids, expected) for ids in loader) and (expected == 0).any()
"""


@pytest.mark.slow  # two processes import torch and Warp
def test_spawned_workers_draw_what_the_parent_draws(tmp_path):
    script = tmp_path / "spawn.py"
    script.write_text(SPAWN)
    done = subprocess.run([sys.executable, "-P", str(script)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow  # imports torch and Warp once more
def test_nothing_is_printed_at_the_first_use_and_importing_the_package_leaves_warp_alone():
    code = (
        "import sys, posecore.rendering as r; assert 'warp' not in sys.modules;"
        "import torch; r.rasterize(torch.zeros(1, 3, 3), torch.tensor([[0, 1, 2]]), torch.eye(3)[None], (4, 4))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
