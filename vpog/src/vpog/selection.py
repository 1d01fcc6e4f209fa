"""Which templates a query is matched with: some that look from near its direction, some from far.

Seen from outside the plane of the picture only: a turn of the camera about its axis changes no direction. A symmetric
object looks the same from several directions, the copies of a direction; far means far from all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from posecore.errors import InputError
from vpog.data.template_set import TemplateViews
from vpog.objects.models_info import ModelInfo, symmetry_transforms
from vpog.views import DirectionRule, allocentric_rotation, direction_of

Mode = Literal["nearest", "random_within_range"]
Metric = Literal["view", "so3"]
POSITIVE, NEGATIVE = 0, 1
TIE = 1e-12
"""Copies are equally near whose cosines to their nearest views differ by less."""
TIE_BREAKER = np.array([0.8, 0.53, 0.28])
"""In no plane that mirrors the views, nor on one of their axes."""


@dataclass(frozen=True)
class SelectionRules:
    """How a group is made up."""

    num_positive: int = 4
    num_negative: int = 2
    min_negative_angle_deg: float = 90.0
    mode: Mode = "nearest"
    """nearest: the views nearest to the query's direction. random_within_range: the nearest one, and others drawn from
    those within `range_deg` of it."""
    range_deg: float = 30.0
    d_ref_random_ratio: float = 0.0
    """How often the reference direction is that of a random positive instead of the nearest."""
    metric: Metric = "view"
    """so3: angle of the whole rotations, as public code has it: it counts turns in the plane of the picture."""
    query_direction: DirectionRule = "camera_centre"
    respect_symmetries: bool = True
    symmetry_step: float = 0.1
    """Spacing of turns about a continuous axis, as a share of the diameter; 0.1: 32 turns."""

    @property
    def group_size(self) -> int:
        return self.num_positive + self.num_negative


@dataclass(frozen=True)
class Selection:
    """The group of one query; s = num_positive + num_negative."""

    view_rows: Int64[np.ndarray, " s"]
    """Rows of the TemplateViews: the nearest, the other positives, the negatives."""
    types: Int64[np.ndarray, " s"]
    """0: positive, 1: negative."""
    angles: Float64[np.ndarray, " s"]
    """To the query, of the nearest copy, in radians."""
    d_ref: Float64[np.ndarray, "3"]
    """Unit vector."""
    cam_from_obj_mm: Float64[np.ndarray, "4 4"]
    """The query's pose, or the symmetric copy of it that its positives lie near: what labels must be made with."""
    positives_fell_back: bool
    """Too few views within the range: the nearest were taken."""
    negatives_fell_back: bool
    """Too few views as far as asked: the farthest were taken."""


def select_templates(
    cam_from_obj_mm: Float[np.ndarray, "4 4"],
    views: TemplateViews,
    rules: SelectionRules,
    rng: np.random.Generator,
    symmetries: ModelInfo | Float[np.ndarray, "n 4 4"] | None = None,
) -> Selection:
    """The group of one query; see `select_batch`."""
    return select_batch(np.asarray(cam_from_obj_mm)[None], views, rules, [rng], symmetries)[0]


def select_batch(
    cam_from_obj_mm: Float[np.ndarray, "b 4 4"],
    views: TemplateViews,
    rules: SelectionRules,
    rngs: Sequence[np.random.Generator],
    symmetries: ModelInfo | Float[np.ndarray, "n 4 4"] | None = None,
) -> list[Selection]:
    """Groups of many queries of one object. Each depends on its own pose and generator alone.

    All positives lie near one and the same copy of a symmetric object, the one that a view is nearest to, so that one
    pose fits all of them. Copies are equally near where the views share a symmetry of the object; that one is taken
    then which is nearest to a fixed direction: poses that look the same get the same group, whichever was annotated.

    Args:
        rngs: One for each query, which is drawn from equally often whatever the rules choose.
        symmetries: Motions that leave the object as it looks, the identity first, or what models_info says of it.

    Raises:
        InputError: The object has fewer valid views than the group needs, or a pose has no direction.
    """
    _check(views, rules, len(cam_from_obj_mm), len(rngs))
    copies = _copies(np.asarray(cam_from_obj_mm, np.float64), rules, symmetries)
    cosines = np.where(views.is_valid, cosines_to_views(copies, views, rules), -np.inf)
    best = _nearest_copy(cosines, direction_of(copies, rules.query_direction))
    rows = np.arange(len(best))
    to_best, to_nearest_copy = _angles(cosines[rows, best]), _angles(cosines.max(1))
    draws = np.stack([rng.random(2 * len(views.is_valid) + 2) for rng in rngs])
    positives, few_positives = _positives(to_best, views, rules, draws[:, : len(views.is_valid)])
    negatives, few_negatives = _negatives(to_nearest_copy, positives, rules, draws[:, len(views.is_valid) : -2])
    chosen = np.concatenate([positives, negatives], axis=1)
    references = _references(positives, rules, draws[:, -2:])
    types = np.repeat(np.array([POSITIVE, NEGATIVE]), [rules.num_positive, rules.num_negative])
    return [
        Selection(
            chosen[i],
            types,
            to_nearest_copy[i, chosen[i]],
            np.asarray(views.directions[references[i]], dtype=np.float64),
            copies[i, best[i]],
            bool(few_positives[i]),
            bool(few_negatives[i]),
        )
        for i in rows
    ]


def angles_to_views(
    cam_from_obj_mm: Float64[np.ndarray, "*batch 4 4"], views: TemplateViews, rules: SelectionRules
) -> Float64[np.ndarray, "*batch v"]:
    """Radians from poses to views, by the rules' metric and direction."""
    return _angles(cosines_to_views(cam_from_obj_mm, views, rules))


def cosines_to_views(
    cam_from_obj_mm: Float64[np.ndarray, "*batch 4 4"], views: TemplateViews, rules: SelectionRules
) -> Float64[np.ndarray, "*batch v"]:
    """Of these angles; rounding may take them a little out of -1..1."""
    if rules.metric == "view":
        return np.asarray(direction_of(cam_from_obj_mm, rules.query_direction) @ views.directions.T)
    is_centred = rules.query_direction == "camera_centre"
    return _so3_cosines(allocentric_rotation(cam_from_obj_mm) if is_centred else cam_from_obj_mm[..., :3, :3], views)


def _check(views: TemplateViews, rules: SelectionRules, num_queries: int, num_generators: int) -> None:
    if num_generators != num_queries:
        raise InputError(f"select_batch: has {num_generators} generators for {num_queries} queries; give each its own")
    if rules.num_positive < 1 or rules.num_negative < 0:
        raise InputError(
            f"selection.num_positive, num_negative: are {rules.num_positive}, {rules.num_negative}; expected at least 1, 0"
        )
    num_valid = int(views.is_valid.sum())
    if num_valid < rules.group_size:
        raise InputError(
            f"object {views.obj_id}: {num_valid} of its {len(views.is_valid)} templates show something, but"
            f" selection.num_positive + num_negative asks for {rules.group_size}; render its templates again or ask for fewer"
        )


def _copies(
    cam_from_obj_mm: Float64[np.ndarray, "b 4 4"],
    rules: SelectionRules,
    symmetries: ModelInfo | Float[np.ndarray, "n 4 4"] | None,
) -> Float64[np.ndarray, "b n 4 4"]:
    if symmetries is None or not rules.respect_symmetries:
        return cam_from_obj_mm[:, None]
    motions = symmetry_transforms(symmetries, rules.symmetry_step) if isinstance(symmetries, ModelInfo) else symmetries
    return np.asarray(cam_from_obj_mm[:, None] @ motions)


def _so3_cosines(rotations: np.ndarray, views: TemplateViews) -> np.ndarray:
    flat = rotations.reshape(*rotations.shape[:-2], 9)
    traces = flat @ np.asarray(views.cam_from_obj_mm[:, :3, :3], dtype=np.float64).reshape(-1, 9).T
    return np.asarray((traces - 1) / 2)


def _angles(cosines: Float64[np.ndarray, "*batch v"]) -> Float64[np.ndarray, "*batch v"]:
    """Infinite where a view is not valid and its cosine -inf."""
    return np.where(cosines == -np.inf, np.inf, np.arccos(np.clip(cosines, -1.0, 1.0)))


def _nearest_copy(
    cosines: Float64[np.ndarray, "b n v"], directions: Float64[np.ndarray, "b n 3"]
) -> Int64[np.ndarray, " b"]:
    nearest = cosines.max(2)
    is_tied = nearest >= nearest.max(1, keepdims=True) - TIE
    return np.asarray(np.where(is_tied, directions @ TIE_BREAKER, -np.inf).argmax(1))


def _positives(
    to_query: Float64[np.ndarray, "b v"], views: TemplateViews, rules: SelectionRules, draws: Float64[np.ndarray, "b v"]
) -> tuple[Int64[np.ndarray, "b p"], Bool[np.ndarray, " b"]]:
    first = to_query.argmin(1)
    no_fall_back = np.zeros(len(first), dtype=bool)
    if rules.metric == "view" and rules.mode == "nearest":
        return _smallest(to_query, rules.num_positive), no_fall_back
    to_first = np.where(views.is_valid, _between_views(views, rules)[first], np.inf)
    to_first[np.arange(len(first)), first] = -1.0
    # the public so3 selector takes the neighbours of the nearest template, not those of the query
    nearest = _smallest(to_first if rules.metric == "so3" else to_query, rules.num_positive)
    if rules.mode == "nearest":
        return nearest, no_fall_back
    in_range = to_first <= np.radians(rules.range_deg)
    keys = np.where(in_range, draws, np.inf)
    keys[np.arange(len(first)), first] = -1.0
    is_short = in_range.sum(1) < rules.num_positive
    return np.where(is_short[:, None], nearest, _smallest(keys, rules.num_positive)), is_short


def _between_views(views: TemplateViews, rules: SelectionRules) -> Float64[np.ndarray, "v v"]:
    if rules.metric == "view":
        return _angles(np.asarray(views.directions, dtype=np.float64) @ views.directions.T)
    return _angles(_so3_cosines(np.asarray(views.cam_from_obj_mm[:, :3, :3], dtype=np.float64), views))


def _negatives(
    to_nearest_copy: Float64[np.ndarray, "b v"],
    positives: Int64[np.ndarray, "b p"],
    rules: SelectionRules,
    draws: Float64[np.ndarray, "b v"],
) -> tuple[Int64[np.ndarray, "b n"], Bool[np.ndarray, " b"]]:
    is_free = np.isfinite(to_nearest_copy)
    np.put_along_axis(is_free, positives, False, axis=1)
    is_far = is_free & (to_nearest_copy >= np.radians(rules.min_negative_angle_deg))
    drawn = _smallest(np.where(is_far, draws, np.inf), rules.num_negative)
    is_short = is_far.sum(1) < rules.num_negative
    drawn[is_short] = _smallest(np.where(is_free, -to_nearest_copy, np.inf)[is_short], rules.num_negative)
    return drawn, is_short


def _references(
    positives: Int64[np.ndarray, "b p"], rules: SelectionRules, draws: Float64[np.ndarray, "b 2"]
) -> Int64[np.ndarray, " b"]:
    place = (draws[:, 1] * positives.shape[1]).astype(np.int64)
    place = np.where(draws[:, 0] < rules.d_ref_random_ratio, place, 0)
    return np.asarray(positives[np.arange(len(place)), place])


def _smallest(values: Float64[np.ndarray, "b v"], count: int) -> Int64[np.ndarray, "b {count}"]:
    """Places of the smallest values, ascending; the first of equal ones first."""
    return np.asarray(np.argsort(values, axis=1, kind="stable")[:, :count])
