"""What is learned: the loss terms, how they are computed and how much they count."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from posecore.config import Config

TranslationKind = Literal["softargmax3d", "xy_rootz_multibin", "patch_uv_rho_multibin", "log_depth"]

TRANSLATION_TERMS: dict[TranslationKind, tuple[str, ...]] = {
    "softargmax3d": ("trans",),
    "xy_rootz_multibin": ("trans", "bins", "residual"),
    "patch_uv_rho_multibin": ("uv", "bins", "residual"),
    "log_depth": ("uv", "log_depth"),
}
"""What each translation head learns from."""


class SeparateWeights(Config):
    """A weight for each term."""

    kind: Literal["separate"] = "separate"
    theta: NonNegativeFloat = 3.0
    """Pose parameters."""
    shape: NonNegativeFloat = 3.0
    trans: NonNegativeFloat | None = None
    """Cross entropy of the root's heat maps; null: 0.05 with model.norm_by_hand, else 0.001."""
    rel: NonNegativeFloat = 0.012
    """Joints relative to the wrist, mm."""
    img: NonNegativeFloat = 0.002
    """Reprojected joints, px."""


class GroupedWeights(Config):
    """The grouped form: lambda_param (theta + shape + trans) + lambda_rel rel + lambda_proj img."""

    kind: Literal["grouped"] = "grouped"
    lambda_param: NonNegativeFloat = 1.0
    lambda_rel: NonNegativeFloat = 0.0001
    lambda_proj: NonNegativeFloat = 0.001


class LossConfig(Config):
    """Every term is a masked mean; a term of weight 0 is not computed."""

    weights: Annotated[SeparateWeights | GroupedWeights, Field(discriminator="kind")] = SeparateWeights()
    """Of the five published terms."""
    vertices: NonNegativeFloat = 0.0
    """Weight of the root-relative mesh, mm."""
    cam: NonNegativeFloat = 0.0
    """Weight of the joints in the camera frame, mm."""
    img_2d: NonNegativeFloat = 0.0005
    """Weight of 2D joints, patch px, for frames without any 3D joint."""
    bins: NonNegativeFloat = 1.0
    """Weight of the class of depth or distance (multibin heads)."""
    residual: NonNegativeFloat = 1.0
    """Weight of the true bin's residual (multibin heads)."""
    uv: NonNegativeFloat = 1.0
    """Weight of the root's heat map over the patch (heads patch_uv_rho_multibin and log_depth)."""
    log_depth: NonNegativeFloat = 1.0
    """Weight of the plainly regressed log distance (head log_depth)."""
    velocity: NonNegativeFloat = 0.0
    """Weight of the joints' motion from frame to frame, mm; needs frames "all"."""
    acceleration: NonNegativeFloat = 0.0
    """Weight of its change, mm per frame^2; needs frames "all"."""

    frames: Literal["last", "all"] = "last"
    """Frames of a clip that are supervised; "all" needs a network that answers for all of them."""
    supervise_global: bool = True
    """false: only the term `rel` is learned."""
    detach_shape: bool = True
    """Joints of `rel`, `img` and `cam` teach the pose but not the shape."""
    pose_error: Literal["axis_angle", "geodesic"] = "axis_angle"
    """theta: of rotation vectors (nearest representative), or the angle between rotations."""
    parameter_norm: Literal["l1", "l2"] = "l1"
    """Of pose (axis-angle) and shape."""
    joint_norm: Literal["l1", "l2"] = "l1"
    """Of joints and vertices; l2 is the square."""
    reprojection_norm: Literal["l1", "robust"] = "robust"
    reprojection_delta_px: PositiveFloat = 84.0
    """The robust norm grows with the logarithm beyond this."""
    reprojection_space: Literal["image", "patch"] = "image"
    """Pixels of the picture, or of the patch: the latter do not depend on the picture's resolution (mixed data)."""
    heatmap_sigma: PositiveFloat | None = None
    """Width of the root's target; null: 0.09 hand sizes with model.norm_by_hand, else 2 mm."""
    heatmap_target: Literal["normalised", "upstream"] = "normalised"
    """normalised: sums to 1, also where bins are coarse or the root is outside of them; upstream: as the published code, whose
    target vanishes there."""
    uv_sigma_cells: PositiveFloat = 1.0
    """Width of the target over the patch, in cells."""
    residual_beta: PositiveFloat = 0.1
    """Of the smooth L1 of residuals and log distances."""

    @model_validator(mode="after")
    def _motion_needs_frames(self) -> "LossConfig":
        for name in ("velocity", "acceleration"):
            if getattr(self, name) > 0 and self.frames == "last":
                raise ValueError(f'loss.{name} is {getattr(self, name):g}: it needs loss.frames "all", not "last"')
        return self

    @model_validator(mode="after")
    def _something_is_learned(self) -> "LossConfig":
        if not self.supervise_global and self.published_weights(False)["rel"] == 0:
            raise ValueError("loss.supervise_global false keeps only the term rel, whose weight in loss.weights is 0")
        return self

    def published_weights(self, norm_by_hand: bool) -> dict[str, float]:
        """Of theta, shape, trans, rel and img."""
        if isinstance(self.weights, GroupedWeights):
            grouped = self.weights
            parameters = dict.fromkeys(("theta", "shape", "trans"), grouped.lambda_param)
            return parameters | {"rel": grouped.lambda_rel, "img": grouped.lambda_proj}
        weights = self.weights
        trans = weights.trans if weights.trans is not None else 0.05 if norm_by_hand else 0.001
        return {
            "theta": weights.theta,
            "shape": weights.shape,
            "trans": trans,
            "rel": weights.rel,
            "img": weights.img,
        }

    def term_weights(self, translation: TranslationKind, norm_by_hand: bool) -> dict[str, float]:
        """Names and weights of the terms that a network with this translation head is taught by, none of them 0."""
        weights = self.published_weights(norm_by_hand)
        if not self.supervise_global:
            return {"rel": weights["rel"]}
        names = ("vertices", "cam", "img_2d", "bins", "residual", "uv", "log_depth", "velocity", "acceleration")
        weights |= {name: getattr(self, name) for name in names}
        foreign = {term for terms in TRANSLATION_TERMS.values() for term in terms} - {*TRANSLATION_TERMS[translation]}
        return {name: weight for name, weight in weights.items() if weight > 0 and name not in foreign}
