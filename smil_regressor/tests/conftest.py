"""Shared fixtures: the reference vectors and the real models where they are at hand."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

hypothesis.settings.register_profile("suite", deadline=None, max_examples=50, derandomize=True)
hypothesis.settings.load_profile("suite")

HERE = Path(__file__).parent
SHARED = Path(os.environ.get("POSE_SHARED", HERE.parents[2] / "shared"))

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Arrays]:
    """Arrays of one reference file, from the shared folder where there is one, else from this package's copies."""

    def read(name: str) -> Arrays:
        for folder in (SHARED / "reference" / "smil_regressor", HERE / "data"):
            file = folder / f"{name}.npz"
            if file.is_file():
                with np.load(file, allow_pickle=False) as arrays:
                    return {key: arrays[key] for key in arrays.files}
        pytest.skip(f"{name}.npz is neither in tests/data nor in a shared reference folder (set POSE_SHARED)")

    return read


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real files (not shipped: their licences do not allow it)."""
    folder = SHARED / "data" / "smil"
    if not folder.is_dir():
        pytest.skip("the real files are not here (set POSE_SHARED to the folder that holds data/smil)")
    return folder


@pytest.fixture(scope="session")
def insect(tmp_path_factory):
    """The procedural insect as a body model."""
    from posecore.bodymodel import read_model
    from smil_regressor.data.insect import write_insect

    path = tmp_path_factory.mktemp("insect") / "insect.pkl"
    write_insect(path)
    return read_model(path)


@pytest.fixture(scope="session")
def truth(insect):
    """`truth(b, v, seed)`: a batch of insects before random cameras, and the prediction that is exactly right.

    Of every sample with more than two views the last view is masked; everything else is labelled.
    """
    import torch

    from posecore.cameras import intrinsics_to_fov, project
    from posecore.rotations import axis_angle_to_matrix
    from smil_regressor.data.sample import Batch
    from smil_regressor.model.body import Body, to_cameras
    from smil_regressor.model.prediction import Prediction
    from smil_regressor.model.state import BodyParameters

    def make(b=2, v=3, seed=0, size=32):
        g = torch.Generator().manual_seed(seed)
        j, c = insect.num_joints, insect.num_betas
        rotations = axis_angle_to_matrix(torch.randn(b, j, 3, generator=g) * 0.2)
        body = BodyParameters(
            rotations=rotations,
            rotation_params=rotations[..., :2].flatten(-2),
            betas=torch.randn(b, c, generator=g) * 0.5,
            translation=torch.randn(b, 3, generator=g) * 0.1,
            log_scales=torch.randn(b, j, 3, generator=g) * 0.05,
            joint_offsets=torch.randn(b, j, 3, generator=g) * 0.01,
            mesh_scale=None,
        )
        cam_from_world = torch.eye(4).repeat(b, v, 1, 1)
        cam_from_world[..., :3, :3] = axis_angle_to_matrix(torch.randn(b, v, 3, generator=g) * 2)
        cam_from_world[..., 2, 3] = 6.0
        K = torch.tensor([[1.6 * size, 0, 0.48 * size], [0, 1.7 * size, 0.51 * size], [0, 0, 1]]).expand(b, v, 3, 3)
        joints = Body(insect).joints(body)
        mask = torch.ones(b, v, dtype=torch.bool)
        mask[:, 2:] = torch.arange(2, v) < v - 1 if v > 2 else mask[:, 2:]
        slots = torch.where(mask, torch.arange(v).expand(b, v), -1)
        yes, no = torch.ones(b, dtype=torch.bool), torch.zeros(b, v, dtype=torch.bool)
        batch = Batch(
            key=tuple(f"sample{i}" for i in range(b)),
            session=("session",) * b,
            frame=torch.arange(b),
            images=torch.randint(0, 256, (b, v, size, size, 3), generator=g, dtype=torch.uint8),
            view_mask=mask,
            camera_slots=slots,
            K=K,
            cam_from_world=cam_from_world,
            has_camera=mask,
            native_size_wh=torch.full((b, v, 2), float(size)),
            keypoints_px=project(to_cameras(joints, cam_from_world), K)[0],
            visibility=torch.ones(b, v, j),
            masks=torch.zeros(b, v, size, size, dtype=torch.bool),
            has_mask=no,
            keypoints_world=joints,
            has_keypoints_world=torch.ones(b, j, dtype=torch.bool),
            rotations=rotations,
            has_root_rotation=yes,
            has_joint_rotations=yes,
            betas=body.betas,
            has_betas=yes,
            translation=body.translation,
            has_translation=yes,
            log_scales=body.log_scales,
            has_log_scales=yes,
            joint_offsets=body.joint_offsets,
            has_joint_offsets=yes,
        )
        prediction = Prediction(
            **vars(body),
            fov_deg=intrinsics_to_fov(K, (size, size))[0],
            cam_from_world=cam_from_world,
            K=K,
            view_mask=mask,
            camera_slots=slots,
            history=(body,),
            nonfinite=torch.zeros((), dtype=torch.long),
        )
        return batch, prediction

    return make


@pytest.fixture(scope="session")
def make_sample() -> Callable[..., Any]:
    """Builds a `Sample` whose 2D keypoints are its 3D keypoints seen by its cameras; `changes` replace fields."""
    return _make_sample


def _make_sample(
    views: int = 3, joints: int = 5, betas: int = 4, resolution: int = 32, seed: int = 0, **changes: Any
) -> Any:
    from scipy.spatial.transform import Rotation

    from smil_regressor.data.sample import Sample

    rng = np.random.default_rng(seed)
    K = np.tile(np.eye(3), (views, 1, 1))
    K[:, 0, 0], K[:, 1, 1] = rng.uniform(1.2, 1.6, (2, views)) * resolution
    K[:, :2, 2] = (resolution - 1) / 2 + rng.uniform(-2, 2, (views, 2))
    cameras = np.tile(np.eye(4), (views, 1, 1))
    cameras[:, :3, :3] = Rotation.random(views, rng).as_matrix()
    cameras[:, :3, 3] = [0, 0, 6]
    points = rng.uniform(-1, 1, (joints, 3))
    seen = np.einsum("vij,vnj->vni", K, points @ cameras[:, :3, :3].transpose(0, 2, 1) + cameras[:, None, :3, 3])
    coarse = rng.uniform(40, 220, (views, 4, 4, 3)).astype(np.uint8)
    images = coarse.repeat(resolution // 4, 1).repeat(resolution // 4, 2)
    masks = np.zeros((views, resolution, resolution), bool)
    masks[:, resolution // 4 : -resolution // 4, resolution // 4 : -resolution // 4] = True
    values = {
        **{"key": f"made[{seed}]", "session": f"session{seed % 3}", "frame": seed, "images": images, "masks": masks},
        **{"view_mask": np.ones(views, bool), "camera_slots": np.arange(views), "has_mask": np.ones(views, bool)},
        **{"K": K.astype(np.float32), "cam_from_world": cameras.astype(np.float32), "has_camera": np.ones(views, bool)},
        "native_size_wh": np.tile(np.array([96.0, 64.0], np.float32), (views, 1)),
        "keypoints_px": (seen[..., :2] / seen[..., 2:]).astype(np.float32),
        "visibility": np.ones((views, joints), np.float32),
        "keypoints_world": points.astype(np.float32),
        "has_keypoints_world": np.ones(joints, bool),
        "rotations": Rotation.random(joints, rng).as_matrix().astype(np.float32),
        "betas": rng.normal(size=betas).astype(np.float32),
        "translation": rng.normal(size=3).astype(np.float32),
        "log_scales": rng.normal(0, 0.1, (joints, 3)).astype(np.float32),
        "joint_offsets": rng.normal(0, 0.1, (joints, 3)).astype(np.float32),
        **dict.fromkeys(["has_root_rotation", "has_joint_rotations", "has_betas", "has_translation"], True),
        **dict.fromkeys(["has_log_scales", "has_joint_offsets"], True),
    }
    return Sample(**(values | changes))


@pytest.fixture(scope="session")
def smil() -> Callable[..., Any]:
    """Runs `smil ARGUMENTS` in this process; what nobody foresaw is raised."""
    import logging

    from typer.testing import CliRunner

    from posecore.training import preemption
    from smil_regressor.cli import app

    def run(*arguments: object) -> Any:
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        finally:
            root.handlers[:], root.level = handlers, level
            preemption.uninstall()
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture(scope="session")
def insects_file(tmp_path_factory) -> Path:
    """A multi-view HDF5 file: 16 samples in 8 sessions, cameras cam0 and cam1, 64 px."""
    from smil_regressor.data.insect import insect_body
    from smil_regressor.data.synthesis import synthesise_file

    path = tmp_path_factory.mktemp("data") / "insects.h5"
    return synthesise_file(path, insect_body(), samples=16, views=2, resolution=64, seed=3, frames_per_session=2)


FEW_STEPS = (
    "training.trackers=[]",
    "training.batch_size=4",
    "training.max_steps=2",
    "output.num_visualization_samples=1",
)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, smil, insects_file) -> Callable[..., Path]:
    """`trained("a.b=c", ...)`: the folder of a run of two steps of tiny.json with these overrides; each is made once."""
    made: dict[tuple[str, ...], Path] = {}

    def make(*overrides: str) -> Path:
        if overrides not in made:
            folder = tmp_path_factory.mktemp("run") / "run"
            settings = [part for o in (*FEW_STEPS, *overrides) for part in ("--set", o)]
            result = smil("train", "--config", "tiny.json", "--data-path", insects_file, "--run-dir", folder, *settings)
            assert result.exit_code == 0, result.output
            made[overrides] = folder
        return made[overrides]

    return make


FREE_CAMERAS = ("training.use_gt_camera_init=false",)


@pytest.fixture(scope="session")
def run(trained) -> Path:
    """A run whose network corrects given cameras; its best checkpoint is of the second step."""
    return trained()


@pytest.fixture(scope="session")
def free_run(trained) -> Path:
    """A run whose network needs no calibration."""
    return trained(*FREE_CAMERAS)


@pytest.fixture(scope="session")
def other_file(tmp_path_factory) -> Path:
    """Four other samples of the same cameras."""
    from smil_regressor.data.insect import insect_body
    from smil_regressor.data.synthesis import synthesise_file

    path = tmp_path_factory.mktemp("other") / "other.h5"
    return synthesise_file(path, insect_body(), samples=4, views=2, resolution=64, seed=8, frames_per_session=2)
