"""The body model: shape, pose and limb scales to vertices and joints."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from posecore.bodymodel.arrays import Array, BodyArrays, find_problems
from posecore.bodymodel.keypoints import JointMoments, RegressedPatch, SurfacePatch
from posecore.bodymodel.rest import RestPoints, joints_first, pose_features
from posecore.bodymodel.skinning import KinematicChain, apply_linear, skin


class BodyOutput(NamedTuple):
    """Posed body, all in one frame (translation included), in the model's unit of length."""

    vertices: Float[Tensor, "b v 3"]
    joints: Float[Tensor, "b j 3"]
    """Regressed from the posed vertices; in a model with static joints the same as `skeleton`."""
    skeleton: Float[Tensor, "b j 3"]
    """Centres of rotation: where the kinematic chain puts the joints."""


class Landmarks(NamedTuple):
    """Joints and some vertices of a posed body."""

    joints: Float[Tensor, "b j 3"]
    vertices: Float[Tensor, "b n 3"]


class _Pose(NamedTuple):
    betas: Float[Tensor, "b c"]
    coefficients: Float[Tensor, "b k"]  # betas, followed by the pose features of models with pose blend shapes
    translation: Float[Tensor, "b 3"]
    linear: Float[Tensor, "j 3 3 b"]
    position: Float[Tensor, "j 3 b"]
    origin: Float[Tensor, "j 3 b"]  # position - linear rest: where a bone's transform takes the point zero


class BodyModel(nn.Module):
    """An SMPL-family model (MANO, SMPL, SMAL, SMIL) of buffers only; `read_model` makes one from a file.

    Buffers are not persistent, so a checkpoint of a network that holds a body model does not hold the model's file.
    """

    parents: Tensor
    faces: Tensor
    joint_regressor: Tensor
    scaledirs: Tensor | None
    transdirs: Tensor | None
    shape_cov: Tensor | None
    shape_mean: Tensor | None
    hands_components: Tensor | None
    hands_mean: Tensor | None
    sym_verts: Tensor | None
    stored_joints: Tensor | None
    regressor_sums: Tensor
    _weights: Tensor

    def __init__(self, arrays: BodyArrays, dtype: torch.dtype = torch.float32) -> None:
        """Parents must come before their children; raises ValueError, one line a problem."""
        super().__init__()
        problems = find_problems(arrays)
        if not problems and (arrays.parents >= np.arange(len(arrays.parents))).any():
            problems = [f"kintree_table: parents {arrays.parents.tolist()}, expected parents before children"]
        if problems:
            raise ValueError("\n".join(problems))
        self.joint_names = arrays.joint_names
        self.label = arrays.label
        self.has_static_joints = arrays.static_joints
        self.num_vertices, self.num_joints = arrays.weights.shape
        self.num_betas = arrays.shapedirs.shape[2]
        self._register(arrays, dtype)
        self._precompute(arrays, dtype)

    def _register(self, arrays: BodyArrays, dtype: torch.dtype) -> None:
        regressor = arrays.joint_regressor
        buffers: dict[str, Array | None] = {
            "parents": arrays.parents,
            "faces": arrays.faces,
            "joint_regressor": np.zeros(arrays.weights.T.shape) if regressor is None else regressor,
            "_weights": arrays.weights.T,
            "stored_joints": arrays.joints,
        }
        same = ("scaledirs", "transdirs", "shape_cov", "shape_mean", "hands_components", "hands_mean", "sym_verts")
        for name, value in (buffers | {field: getattr(arrays, field) for field in same}).items():
            tensor = None if value is None else torch.tensor(np.ascontiguousarray(value))
            if tensor is not None:
                tensor = tensor.to(dtype) if tensor.is_floating_point() else tensor.long()
            self.register_buffer(name, tensor, persistent=False)

    def _precompute(self, arrays: BodyArrays, dtype: torch.dtype) -> None:
        """All sums over vertices that do not depend on the pose, in float64 and rounded once."""
        template, shapedirs, weights = map(_double, (arrays.template, arrays.shapedirs, arrays.weights))
        self.has_posedirs = arrays.posedirs is not None
        directions = shapedirs if arrays.posedirs is None else torch.cat([shapedirs, _double(arrays.posedirs)], dim=2)
        self.chain = KinematicChain(self.parents, dtype)
        self.rest_mesh = RestPoints(template, directions, dtype)
        self.moments: JointMoments | None = None
        self.patch: RegressedPatch | None = None
        if arrays.static_joints or arrays.joint_regressor is None:
            assert arrays.joints is not None  # find_problems
            joints, joint_dirs = _double(arrays.joints), torch.zeros(self.num_joints, 3, self.num_betas).double()
        else:
            regressor = _double(arrays.joint_regressor)
            joints, joint_dirs = regressor @ template, torch.einsum("jv,vxc->jxc", regressor, shapedirs)
            if self.has_posedirs:
                self.patch = RegressedPatch(regressor, weights, (template, directions), dtype)
            else:
                self.moments = JointMoments(regressor, weights, (template, shapedirs), (joints, joint_dirs), dtype)
        self.rest_joints = RestPoints(joints, joint_dirs, dtype)
        # Not quite 1 in real files. Joints are regressed from moved vertices, so that they move by this much.
        sums = torch.ones(self.num_joints) if arrays.static_joints else self.joint_regressor.sum(1)
        self.register_buffer("regressor_sums", sums.to(dtype), persistent=False)

    @property
    def template(self) -> Float[Tensor, "v 3"]:
        return self.rest_mesh.template.view(3, -1).T

    @property
    def shapedirs(self) -> Float[Tensor, "v 3 c"]:
        return self.rest_mesh.directions(0, self.num_betas)

    @property
    def posedirs(self) -> Float[Tensor, "v 3 p"] | None:
        return self.rest_mesh.directions(self.num_betas, len(self.rest_mesh.basis)) if self.has_posedirs else None

    @property
    def weights(self) -> Float[Tensor, "v j"]:
        return self._weights.T

    def forward(
        self,
        rotations: Float[Tensor, "b j 3 3"],
        betas: Float[Tensor, "b c"],
        translation: Float[Tensor, "b 3"],
        log_scales: Float[Tensor, "b j 3"] | None = None,
        joint_offsets: Float[Tensor, "b j 3"] | None = None,
        propagate_scales: bool = True,
    ) -> BodyOutput:
        """Pose the body. Rotations are relative to the parent, the root's to the model's frame.

        `log_scales` scale limbs along the bone's own axes; `joint_offsets` move joints against their parent in rest
        pose and are in the file's convention, y pointing the other way: (1, 2, 3) moves a joint by (1, -2, 3). The
        root takes neither. `propagate_scales`: a limb's scale goes on to its children (their bones and meshes), else to
        their bones only; then keep the root's log scale 0, for the format applies its inverse to the root's children.
        Half-precision inputs are computed in the model's dtype, autocast or not.
        """
        with torch.autocast(device_type=self.faces.device.type, enabled=False):
            pose = self._pose(rotations, betas, translation, log_scales, joint_offsets, propagate_scales)
            vertices = skin(pose.linear, pose.origin, self._weights, self.rest_mesh(pose.coefficients))
            joints = self._joints(pose) if self.patch is None else self.patch.regress(vertices)
            return BodyOutput(
                vertices=(vertices.permute(1, 2, 0) + pose.translation[:, None]).contiguous(),
                joints=_place(joints, pose.translation, self.regressor_sums),
                skeleton=_place(pose.position, pose.translation),
            )

    def keypoints(
        self,
        rotations: Float[Tensor, "b j 3 3"],
        betas: Float[Tensor, "b c"],
        translation: Float[Tensor, "b 3"],
        log_scales: Float[Tensor, "b j 3"] | None = None,
        joint_offsets: Float[Tensor, "b j 3"] | None = None,
        propagate_scales: bool = True,
    ) -> Float[Tensor, "b j 3"]:
        """The `joints` that `forward` returns, exactly, without posing the mesh. Arguments as there."""
        with torch.autocast(device_type=self.faces.device.type, enabled=False):
            pose = self._pose(rotations, betas, translation, log_scales, joint_offsets, propagate_scales)
            return _place(self._joints(pose), pose.translation, self.regressor_sums)

    def patch_of(self, vertex_ids: Int[Tensor, " n"]) -> SurfacePatch:
        """What `landmarks` needs to pose these vertices alone; a module, to be kept beside the model."""
        ids = vertex_ids.to(self.faces.device)
        directions = self.rest_mesh.directions(0, len(self.rest_mesh.basis))
        return SurfacePatch(self.weights[ids], (self.template[ids], directions[ids]), self._weights.dtype)

    def landmarks(
        self,
        rotations: Float[Tensor, "b j 3 3"],
        betas: Float[Tensor, "b c"],
        translation: Float[Tensor, "b 3"],
        patch: SurfacePatch,
        *,
        regressed: bool = False,
    ) -> Landmarks:
        """The `skeleton` (or, if `regressed`, the `joints`) of `forward` and the vertices of `patch`, nothing else.

        `patch` is from `patch_of`. A fraction of `forward`'s time: bench_skinning.py has the figures.
        """
        with torch.autocast(device_type=self.faces.device.type, enabled=False):
            pose = self._pose(rotations, betas, translation, None, None, True)
            vertices = patch(pose.coefficients, pose.linear, pose.origin).permute(1, 2, 0)
            moved = (vertices + pose.translation[:, None]).contiguous()
            if regressed:
                return Landmarks(_place(self._joints(pose), pose.translation, self.regressor_sums), moved)
            return Landmarks(_place(pose.position, pose.translation), moved)

    def rest_skeleton(self, betas: Float[Tensor, "b c"]) -> Float[Tensor, "b j 3"]:
        """Centres of rotation of a shape in rest pose, before any translation."""
        with torch.autocast(device_type=self.faces.device.type, enabled=False):
            joints: Tensor = self.rest_joints(self._input("betas", betas, (betas.shape[0], self.num_betas)))
            return joints.mT.contiguous()

    def _pose(
        self,
        rotations: Tensor,
        betas: Tensor,
        translation: Tensor,
        log_scales: Tensor | None,
        joint_offsets: Tensor | None,
        propagate_scales: bool,
    ) -> _Pose:
        b, j = rotations.shape[0], self.num_joints
        rotations = self._input("rotations", rotations, (b, j, 3, 3))
        betas = self._input("betas", betas, (b, self.num_betas))
        translation = self._input("translation", translation, (b, 3))
        if log_scales is not None:
            log_scales = self._input("log_scales", log_scales, (b, j, 3))
        if joint_offsets is not None:
            joint_offsets = self._input("joint_offsets", joint_offsets, (b, j, 3))
        rest = joints_first(self.rest_joints(betas))
        linear, position = self.chain(rotations, rest, log_scales, joint_offsets, propagate_scales)
        coefficients = torch.cat([betas, pose_features(rotations)], dim=1) if self.has_posedirs else betas
        origin = position - apply_linear(linear, rest)
        return _Pose(betas, coefficients, translation, linear, position, origin)

    def _joints(self, pose: _Pose) -> Float[Tensor, "j 3 b"]:
        joints = pose.position
        if self.moments is not None:
            joints = self.moments(pose.betas, pose.linear, pose.position)
        elif self.patch is not None:
            joints = self.patch(pose.coefficients, pose.linear, pose.origin)
        return joints

    def _input(self, name: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
        dtype = self._weights.dtype
        if value.shape != shape:
            raise ValueError(f"{name}: shape {tuple(value.shape)}, expected {shape}")
        if torch.promote_types(value.dtype, dtype) != dtype:
            raise TypeError(
                f"{name}: {value.dtype} would be rounded to the model's {dtype}; convert the model or the input"
            )
        return value.to(dtype)

    def arrays(self) -> BodyArrays:
        """The model's arrays as they are now, on the CPU: what `write_model` writes."""
        same = ("scaledirs", "transdirs", "shape_cov", "shape_mean", "hands_components", "hands_mean", "sym_verts")
        optional = {field: _array(getattr(self, field)) for field in (*same, "posedirs")}
        return BodyArrays(
            template=_double(self.template).cpu().numpy(),
            faces=self.faces.cpu().numpy(),
            weights=_double(self.weights).cpu().numpy(),
            parents=self.parents.cpu().numpy(),
            joint_names=self.joint_names,
            shapedirs=_double(self.shapedirs).cpu().numpy(),
            joint_regressor=None if self.has_static_joints else _array(self.joint_regressor),
            static_joints=self.has_static_joints,
            joints=_array(self.stored_joints),
            label=self.label,
            **optional,
        )


def _double(value: Array | Tensor) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value).double()


def _array(value: Tensor | None) -> Array | None:
    if value is None:
        return None
    return (value.double() if value.is_floating_point() else value).cpu().numpy()


def _place(
    points: Float[Tensor, "j 3 b"], translation: Float[Tensor, "b 3"], mass: Float[Tensor, " j"] | None = None
) -> Float[Tensor, "b j 3"]:
    """Points moved by `mass` times the translation."""
    moved = translation[:, None] if mass is None else translation[:, None] * mass[:, None]
    return (points.permute(2, 0, 1) + moved).contiguous()
