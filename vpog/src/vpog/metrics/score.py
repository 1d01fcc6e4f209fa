"""From estimates and true poses to the numbers of BOP 2019, BOP 2024 and older papers."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from posecore.errors import InputError
from vpog.data.records import ImageSource
from vpog.data.targets import Target
from vpog.estimates import Estimate
from vpog.metrics.estimate_columns import EstimateColumns, estimate_columns, seconds_per_image
from vpog.metrics.models import EvaluationModel
from vpog.metrics.pair_errors import pose_errors, symmetric_errors
from vpog.metrics.pairs import Pairs, pair_up
from vpog.metrics.precision import average_precision
from vpog.metrics.recall import assign_by_error, match_by_score
from vpog.metrics.report import Report, TargetTable, by_object, by_visibility, summarise
from vpog.metrics.settings import PIXELS, REFERENCE_WIDTH_PX, SHARES, ScoreSettings
from vpog.metrics.truths import Pictures, Truths, read_truths, visible_targets
from vpog.metrics.vsd import DepthRenderer
from vpog.metrics.vsd_pairs import vsd_of_pairs

DEFAULTS = ScoreSettings()


def score_estimates(
    estimates: Sequence[Estimate],
    source: ImageSource,
    models: Mapping[int, EvaluationModel],
    *,
    targets: Sequence[Target] | None = None,
    render_depth: DepthRenderer | None = None,
    settings: ScoreSettings = DEFAULTS,
) -> Report:
    """Evaluate estimates on the pictures that targets name.

    Args:
        source: True poses; with VSD also depth pictures.
        models: By object id. Rendered meshes must lie within the hull of the model's points.
        targets: None: all objects that are visible to `settings.min_visib_fract`.
        render_depth: For VSD (`vpog.metrics.vsd_scenes.mesh_depths`); None: VSD and the mean recall `ar` are left out.

    Raises:
        InputError: Targets that are not in the data, objects without a model, estimates that are not finite, pictures
            without depth where VSD is asked for, different times for one picture.
    """
    wanted = tuple(targets) if targets is not None else visible_targets(source, settings.min_visib_fract)
    _check_models(source, wanted, models)
    pictures, truths = read_truths(source, wanted)
    columns = estimate_columns(estimates, pictures, truths)
    recall = _Recall(columns, truths, pictures, models)
    vsd = recall.vsd(source, render_depth, settings) if render_depth is not None else None
    table = recall.table(vsd, settings)
    precisions = _precisions(columns, truths, pictures, models, settings)
    overall = summarise(table, settings)
    overall |= {name: float(np.mean(list(values.values()))) for name, values in precisions.items() if values}
    overall |= {"estimates": float(len(estimates)), "estimates_unused": float(len(estimates) - len(columns.row))}
    seconds = seconds_per_image(estimates)
    overall |= {} if seconds is None else {"seconds_per_image": seconds}
    return Report(
        source.dataset,
        overall,
        by_object(table, precisions, settings),
        by_visibility(table, settings),
        table,
    )


class _Recall:
    """BOP 2019: the best estimates of each object against the truths that are targets."""

    def __init__(
        self,
        estimates: EstimateColumns,
        truths: Truths,
        pictures: Pictures,
        models: Mapping[int, EvaluationModel],
    ) -> None:
        self.estimates, self.truths, self.pictures, self.models = estimates, truths, pictures, models
        self.pairs = _pairs_of(estimates, truths, estimates.is_localisation, truths.is_target)
        mssd, mspd = symmetric_errors(self.pairs, estimates, truths, pictures, models)
        self.mssd_mm, self.mspd_px = mssd, mspd / _width_ratio(pictures, truths)[self.pairs.truth]

    def vsd(self, source: ImageSource, render_depth: DepthRenderer, settings: ScoreSettings) -> np.ndarray:
        """Share of the thresholds of each truth; each tau goes with each share of the visible surface."""
        parts = self.estimates, self.truths, self.pictures, self.models
        errors = vsd_of_pairs(self.pairs, *parts, source, render_depth, SHARES, settings.vsd_delta_mm)
        return self._found(errors.repeat(len(SHARES), axis=1), np.tile(SHARES, len(SHARES)))

    def table(self, vsd: np.ndarray | None, settings: ScoreSettings) -> TargetTable:
        truths, rows = self.truths, np.flatnonzero(self.truths.is_target)
        diameter = np.array([self.models[obj_id].diameter_mm for obj_id in truths.obj_id[rows].tolist()])
        estimate, pair = (of[rows] for of in assign_by_error(self.pairs, self.mssd_mm, len(truths.obj_id)))
        has = estimate >= 0
        parts = self.estimates, truths, self.pictures, self.models
        errors = pose_errors(estimate[has], rows[has], *parts, settings.workers)
        relative = self.mssd_mm / self._pair_diameters()
        return TargetTable(
            scene_id=self.pictures.scene_id[truths.picture[rows]],
            image_id=self.pictures.image_id[truths.picture[rows]],
            gt_index=truths.gt_index[rows],
            obj_id=truths.obj_id[rows],
            visib_fract=truths.visib_fract[rows],
            diameter_mm=diameter,
            is_symmetric=np.array([self.models[obj_id].is_symmetric for obj_id in truths.obj_id[rows].tolist()], bool),
            estimate=_spread(has, self.estimates.row[estimate[has]], -1),
            score=_spread(has, self.estimates.score[estimate[has]], np.nan),
            mssd_mm=_spread(has, self.mssd_mm[pair[has]], np.inf),
            mspd_px=_spread(has, self.mspd_px[pair[has]], np.inf),
            **{name: _spread(has, values, np.inf) for name, values in vars(errors).items()},
            recall_mssd=self._found(relative[:, None], SHARES)[rows],
            recall_mspd=self._found(self.mspd_px[:, None], PIXELS)[rows],
            recall_vsd=vsd[rows] if vsd is not None else np.full(len(rows), np.nan),
        )

    def _found(self, errors: Float[np.ndarray, " n #k"], thresholds: Float[np.ndarray, " k"]) -> np.ndarray:
        matches = match_by_score(self.pairs, errors, thresholds, len(self.estimates.row), self.truths.is_target)
        return np.asarray(matches.found.mean(0))

    def _pair_diameters(self) -> Float[np.ndarray, " n"]:
        return _diameters(self.pairs, self.truths, self.models)


def _precisions(
    estimates: EstimateColumns,
    truths: Truths,
    pictures: Pictures,
    models: Mapping[int, EvaluationModel],
    settings: ScoreSettings,
) -> dict[str, dict[int, float]]:
    """BOP 2024: AP of each object by MSSD and MSPD, mean over thresholds; objects without a model are not judged."""
    known = np.isin(truths.obj_id, list(models))
    counts = known & (truths.visib_fract >= settings.min_visib_fract)
    pairs = _pairs_of(estimates, truths, estimates.is_detection, known)
    mssd, mspd = symmetric_errors(pairs, estimates, truths, pictures, models)
    errors = {
        "ap_mssd": (mssd / _diameters(pairs, truths, models), SHARES),
        "ap_mspd": (mspd / _width_ratio(pictures, truths)[pairs.truth], PIXELS),
    }
    out: dict[str, dict[int, float]] = {}
    obj_ids = np.where(estimates.is_detection, estimates.obj_id, -1)
    for name, (values, thresholds) in errors.items():
        matches = match_by_score(pairs, values[:, None], thresholds, len(estimates.row), counts)
        of_objects = average_precision(matches, estimates.score, obj_ids, truths.obj_id, counts)
        out[name] = {obj_id: float(scores.mean()) for obj_id, scores in of_objects.items()}
    both = zip(out["ap_mssd"].items(), out["ap_mspd"].values(), strict=True)
    out["ap"] = {obj_id: (a + b) / 2 for (obj_id, a), b in both}
    return out


def _pairs_of(
    estimates: EstimateColumns,
    truths: Truths,
    estimate_is_used: Bool[np.ndarray, " e"],
    truth_is_used: Bool[np.ndarray, " t"],
) -> Pairs:
    """Rows of the pairs are those of all estimates and truths."""
    e, t = np.flatnonzero(estimate_is_used), np.flatnonzero(truth_is_used)
    pairs = pair_up(estimates.group[e], estimates.score[e], truths.group[t])
    return Pairs(e[pairs.estimate], t[pairs.truth], pairs.group_start, pairs.group_estimates, pairs.group_truths)


def _diameters(pairs: Pairs, truths: Truths, models: Mapping[int, EvaluationModel]) -> Float[np.ndarray, " n"]:
    return np.array([models[obj_id].diameter_mm for obj_id in truths.obj_id[pairs.truth].tolist()], np.float64)


def _width_ratio(pictures: Pictures, truths: Truths) -> Float[np.ndarray, " t"]:
    return np.asarray(pictures.size_hw[truths.picture, 1] / REFERENCE_WIDTH_PX)


def _spread(has: np.ndarray, values: np.ndarray, otherwise: float | int) -> np.ndarray:
    out = np.full(len(has), otherwise, values.dtype)
    out[has] = values
    return out


def _check_models(source: ImageSource, targets: Sequence[Target], models: Mapping[int, EvaluationModel]) -> None:
    missing = sorted({target.obj_id for target in targets} - set(models))
    if missing:
        known = ", ".join(map(str, sorted(models)))
        raise InputError(f"{source.dataset}: targets ask for objects {missing}, which have no model (models: {known})")
