"""How poses are found."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from posecore.config import Config


class InferenceConfig(Config):
    """From a crop to poses. The command line's options override these."""

    mode: Literal["cluster", "global", "subset"] = "cluster"
    """cluster: score all views by classification, go on with the best few and their neighbours; global: solve every
    view; subset: the views nearest to a pose that is given as a hint."""
    group: PositiveInt = 6
    """Templates that the network sees together."""
    kept_views: PositiveInt = 4
    """cluster: views that are gone on with."""
    hypotheses: PositiveInt = 1
    """Poses that are returned for each detection, best first."""
    solver: Literal["ransac", "epro"] = "ransac"
    """ransac: OpenCV's, then batched Levenberg-Marquardt on its inliers; epro: EPro-PnP's random-sample start and
    Levenberg-Marquardt on all weighed points."""
    pairs: Literal["dense", "centre"] = "dense"
    """dense: pixels of matched template patches by their predicted flow; centre: one pair a patch, from the centre's flow."""
    min_weight: Annotated[float, Field(ge=0.0)] = 0.0
    """Pixel pairs of less confidence (1 / flow scale, patches) are left out."""
    min_probability: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    """Patches whose best match is less probable are left out."""
    max_points: PositiveInt = 512
    """Pixel pairs of a hypothesis that are solved, the most probable patches first."""
    point_stride: PositiveInt = 4
    """Every so many pixels of a template patch in each direction make a pair."""
    inlier_px: PositiveFloat = 4.0
    """RANSAC's threshold in a crop of 224 px; scaled with the crop."""
    iterations: PositiveInt = 1000
    """Of RANSAC, at most."""
    refinements: NonNegativeInt = 0
    """Rounds in which the views nearest to the estimate are matched again; kept if the score rises."""
    merge_deg: PositiveFloat = 10.0
    """Hypotheses closer than this (symmetries respected) are one."""
    merge_diameter: PositiveFloat = 0.1
    """And closer than this share of the diameter."""
    view_chunk: PositiveInt = 32
    """Views that are scored at once."""
