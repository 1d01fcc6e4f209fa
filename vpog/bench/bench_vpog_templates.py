"""Templates: drawing them, and reading them in training, with the memory that this takes.

    PYTHONPATH=core/bench python vpog/bench/bench_vpog_templates.py --json build/bench/bench_vpog_templates.json

The mesh has 5120 faces and vertex colours; files are of 640 x 480 px, squares of 224 px. Drawing: milliseconds for 8
views. Reading: a group of 6 templates, as a training sample takes them; its rival opens the same files with Pillow and
cuts them, and keeps nothing. Random groups of 4 objects are read with a cache for one of them, which must not grow.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh
from _measure import Result, Target, compare, json_argument, report
from PIL import Image

from vpog.data.crop import crop_matrix
from vpog.objects.mesh import Mesh
from vpog.objects.rendering import render
from vpog.templates import TemplateStore, render_templates
from vpog.templates.camera import TEMPLATE_K, TEMPLATE_SIZE_HW, fit_distance_mm, template_poses
from vpog.views import view_rotations

SIZE, GROUP, OBJECTS, VIEWS_DRAWN = 224, 6, 4, 8
MB = 1 << 20


def made_up_mesh() -> Mesh:
    ball = trimesh.creation.icosphere(4, 50.0)
    colors = np.random.default_rng(0).integers(0, 256, (len(ball.vertices), 3), dtype=np.uint8)
    return Mesh((ball.vertices * [1, 0.7, 0.5]).astype(np.float32), ball.faces.astype(np.int64), colors)


def drawing(mesh: Mesh) -> Result:
    poses = template_poses(mesh, view_rotations(0), fit_distance_mm(mesh))[:VIEWS_DRAWN]
    cameras = np.tile(TEMPLATE_K, (VIEWS_DRAWN, 1, 1))

    def drawn(backend: str) -> Callable[[], object]:
        return lambda: render(mesh, poses, cameras, TEMPLATE_SIZE_HW, backend=backend)  # type: ignore[arg-type]

    return compare(f"draw {VIEWS_DRAWN} views of 640 x 480", drawn("warp"), {"torch": drawn("torch")}, runs=5)


def with_pillow(root: Path, obj_id: int, views: np.ndarray) -> list[np.ndarray]:
    """What a loader without a store does: colours with their mask, and depth."""
    cut = []
    for view in views.tolist():
        picture = Image.open(root / f"{obj_id:06d}" / f"{view:06d}.png")
        depth = Image.open(root / f"{obj_id:06d}" / f"{view:06d}_depth.png")
        box = picture.getchannel("A").getbbox()
        assert box is not None
        inverse = np.linalg.inv(crop_matrix(np.array(box, np.float64), SIZE))[:2].reshape(-1).tolist()
        cut.append(
            np.asarray(picture.transform((SIZE, SIZE), Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR))
        )
        cut.append(np.asarray(depth.transform((SIZE, SIZE), Image.Transform.AFFINE, inverse)))
    return cut


def reading(root: Path) -> list[Result]:
    rng = np.random.default_rng(0)
    views = len(TemplateStore(root, SIZE).views(1).is_valid)
    groups = [(int(rng.integers(1, OBJECTS + 1)), rng.choice(views, GROUP, replace=False)) for _ in range(200)]
    kept, small = TemplateStore(root, SIZE), TemplateStore(root, SIZE, cache_mb=16)
    kept.preload(kept.objects)
    for store in (kept, small):
        for obj_id in store.objects:
            store.views(obj_id)
    turn = iter(groups * 1000)

    def from_store(store: TemplateStore) -> Callable[[], object]:
        return lambda: store.load(*next(turn))

    others = {"Pillow": lambda: with_pillow(root, *next(turn))}
    results = [
        compare(f"{GROUP} templates, all in memory", from_store(kept), others, target=Target(ratio=5)),
        compare(f"{GROUP} templates, a quarter in memory", from_store(small), others, target=Target(ratio=1)),
    ]
    for store in (kept, small):
        limit = store.cache_mb * MB
        print(f"cache of {store.cache_mb} MiB: holds {store.memory_bytes / MB:.1f} MiB")
        if store.memory_bytes > limit:
            raise RuntimeError(f"the cache grew to {store.memory_bytes} bytes, its bound is {limit}")
    return results


def main() -> None:
    path = json_argument(__doc__)
    mesh = made_up_mesh()
    with tempfile.TemporaryDirectory() as folder:
        for obj_id in range(1, OBJECTS + 1):
            done = render_templates(mesh, Path(folder), obj_id, level=0)
        print(f"written to files: {1e3 * done.seconds / done.views:.1f} ms a view")
        report([drawing(mesh), *reading(Path(folder))], path)


if __name__ == "__main__":
    main()
