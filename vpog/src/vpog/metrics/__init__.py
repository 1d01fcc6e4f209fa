"""What the benchmarks report: pose errors, recall and precision."""

from vpog.metrics.models import EvaluationModel
from vpog.metrics.report import Report, TargetTable, mean_over_datasets
from vpog.metrics.score import score_estimates
from vpog.metrics.settings import ScoreSettings
from vpog.metrics.tables import report_to_json, report_to_markdown, write_report

__all__ = [
    "EvaluationModel",
    "Report",
    "ScoreSettings",
    "TargetTable",
    "mean_over_datasets",
    "report_to_json",
    "report_to_markdown",
    "score_estimates",
    "write_report",
]
