"""Rotation conversions of 100,000 float32 rotations beside roma and SciPy (kornia and PyTorch3D where installed).

`+backward` is the value and the gradient of its sum of squares, else the value alone.
"""

import importlib
import importlib.util
from collections.abc import Callable
from functools import partial
from types import ModuleType

import roma
import torch
from _measure import Result, compare, json_argument, report
from scipy.spatial.transform import Rotation
from torch import Tensor

from posecore import rotations

COUNT = 100_000
Function = Callable[[Tensor], Tensor]


def installed(name: str) -> ModuleType | None:
    return importlib.import_module(name) if importlib.util.find_spec(name.partition(".")[0]) else None


def forward(function: Function, x: Tensor) -> Tensor:
    with torch.no_grad():
        return function(x)


def backward(function: Function, x: Tensor) -> None:
    leaf = x.detach().requires_grad_()
    function(leaf).square().sum().backward()


def conversions(turned: Tensor) -> dict[str, tuple[Function, dict[str, Function], Tensor]]:
    """Ours, the others' and the input, by name. `turned` is what the distance is measured to."""
    axis_angle = torch.from_numpy(Rotation.random(COUNT, random_state=0).as_rotvec()).float()
    R = rotations.axis_angle_to_matrix(axis_angle)
    quat = rotations.matrix_to_quaternion_wxyz(R)
    d = torch.randn(COUNT, 6, generator=torch.Generator().manual_seed(0))
    table: dict[str, tuple[Function, dict[str, Function], Tensor]] = {
        "axis-angle to matrix": (rotations.axis_angle_to_matrix, {"roma": roma.rotvec_to_rotmat}, axis_angle),
        "matrix to axis-angle": (rotations.matrix_to_axis_angle, {"roma": roma.rotmat_to_rotvec}, R),
        "quaternion to matrix": (
            rotations.quaternion_wxyz_to_matrix,
            {"roma": lambda q: roma.unitquat_to_rotmat(q[:, [1, 2, 3, 0]])},
            quat,
        ),
        "matrix to quaternion": (rotations.matrix_to_quaternion_wxyz, {"roma": roma.rotmat_to_unitquat}, R),
        "6D to matrix": (
            lambda x: rotations.rotation_6d_to_matrix(x, "interleaved"),
            {"roma": lambda x: roma.special_gramschmidt(x.reshape(-1, 3, 2))},
            d,
        ),
        "matrix to Euler XYZ": (
            lambda x: rotations.matrix_to_euler(x, "XYZ"),
            {"roma": lambda x: torch.stack(list(roma.rotmat_to_euler("XYZ", x, as_tuple=True)), -1)},
            R,
        ),
        "geodesic distance": (
            lambda x: rotations.geodesic_distance(x, turned),
            {"roma": lambda x: roma.rotmat_geodesic_distance(x, turned)},
            R,
        ),
        "nearest rotation": (rotations.project_to_so3, {"roma": roma.special_procrustes}, R + 0.1),
    }
    if pytorch3d := installed("pytorch3d.transforms"):
        table["axis-angle to matrix"][1]["pytorch3d"] = pytorch3d.axis_angle_to_matrix
        table["matrix to axis-angle"][1]["pytorch3d"] = pytorch3d.matrix_to_axis_angle
        table["quaternion to matrix"][1]["pytorch3d"] = pytorch3d.quaternion_to_matrix
        table["matrix to quaternion"][1]["pytorch3d"] = pytorch3d.matrix_to_quaternion
        table["6D to matrix"][1]["pytorch3d"] = pytorch3d.rotation_6d_to_matrix
        table["matrix to Euler XYZ"][1]["pytorch3d"] = lambda x: pytorch3d.matrix_to_euler_angles(x, "XYZ")
    if kornia := installed("kornia.geometry.conversions"):
        table["axis-angle to matrix"][1]["kornia"] = kornia.axis_angle_to_rotation_matrix
        table["matrix to axis-angle"][1]["kornia"] = kornia.rotation_matrix_to_axis_angle
        table["quaternion to matrix"][1]["kornia"] = kornia.quaternion_to_rotation_matrix
        table["matrix to quaternion"][1]["kornia"] = kornia.rotation_matrix_to_quaternion
    return table


def scipy_forward(name: str, x: Tensor) -> Callable[[], object] | None:
    """SciPy works in float64 without gradients: a rival of the forward pass only."""
    array = x.double().numpy()
    calls: dict[str, Callable[[], object]] = {
        "axis-angle to matrix": lambda: Rotation.from_rotvec(array).as_matrix(),
        "matrix to axis-angle": lambda: Rotation.from_matrix(array).as_rotvec(),
        "quaternion to matrix": lambda: Rotation.from_quat(array[:, [1, 2, 3, 0]]).as_matrix(),
        "matrix to quaternion": lambda: Rotation.from_matrix(array).as_quat(),
        "matrix to Euler XYZ": lambda: Rotation.from_matrix(array).as_euler("XYZ"),
    }
    return calls.get(name)


def measure() -> list[Result]:
    turned = rotations.axis_angle_to_matrix(torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(1)))
    results = []
    for name, (ours, others, x) in conversions(turned).items():
        rivals = {other: partial(forward, function, x) for other, function in others.items()}
        scipy = scipy_forward(name, x)
        results.append(compare(name, partial(forward, ours, x), rivals | ({"scipy": scipy} if scipy else {})))
        rivals = {other: partial(backward, function, x) for other, function in others.items()}
        results.append(compare(f"{name} +backward", partial(backward, ours, x), rivals))
    return results


if __name__ == "__main__":
    json_path = json_argument(__doc__)
    report(measure(), json_path)
