"""Pictures of what was measured: the first objects as they come, and the worst."""

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from keypoint_nvs.draw.canvas import to_picture
from keypoint_nvs.draw.equivalents import equivalent_sheet
from keypoint_nvs.draw.tokens import token_sheet
from keypoint_nvs.draw.views import view_sheet
from keypoint_nvs.evaluation.keypoints import KeypointReport
from keypoint_nvs.evaluation.views import ViewReport
from posecore.draw import tile

Picture = UInt8[np.ndarray, "h w 3"]
SHOWN = 3
LABELS = {
    "truth": "truth",
    "ours": "ours",
    "other_condition": "ours, of another object",
    "mean_view": "mean training view",
    "best_training_object": "nearest training object",
}


def view_pictures(report: ViewReport) -> dict[str, Picture]:
    """`views`: the first objects; `views_worst`: those with the largest error. A row for each baseline."""
    order = report.errors("ours").argsort(descending=True).tolist()
    return {
        "views": tile([_views_of(report, i) for i in range(min(SHOWN, len(order)))], columns=1),
        "views_worst": tile([_views_of(report, i) for i in order[:SHOWN]], columns=1),
    }


def keypoint_pictures(report: KeypointReport) -> dict[str, Picture]:
    """`keypoints`: tokens on all views of the first objects; `keypoints_worst`: of those least consistent;
    `equivalents`: what surrounds each token in one view of different objects."""
    found = report.found
    count = len(found.views)
    order = list(range(count))
    if report.consistency is not None:
        order = report.consistency.errors_px320.nanmean((1, 2)).argsort(descending=True).tolist()
    objects = list(range(min(6, count)))
    return {
        "keypoints": tile([_tokens_of(report, i) for i in range(min(SHOWN, count))], columns=1),
        "keypoints_worst": tile([_tokens_of(report, i) for i in order[:SHOWN]], columns=1),
        "equivalents": equivalent_sheet(
            [_picture(found.views[i, 0]) for i in objects], _array(found.xy_px[objects, 0])
        ),
    }


def _views_of(report: ViewReport, index: int) -> Picture:
    rows = {"truth": report.truth} | report.answers
    shown = {label: [_picture(view) for view in rows[name][index]] for name, label in LABELS.items()}
    return view_sheet(_picture(report.inputs[index]), shown, side=96)


def _tokens_of(report: KeypointReport, index: int) -> Picture:
    found = report.found
    confidence = found.confidence[index]
    views = [_picture(view) for view in found.views[index]]
    return token_sheet(
        views, _array(found.xy_px[index]), _array(confidence / confidence.max().clamp_min(1e-12)), columns=6
    )


def _picture(image: Tensor) -> Picture:
    return to_picture(_array(image))


def _array(values: Tensor) -> np.ndarray:
    return values.detach().cpu().float().numpy()
