"""Pages that a person opens: one of a run, one of several systems. Each is one file that needs no network."""

from posecore.report.run import write_report
from posecore.report.section import Chart, Line, Picture, Row, Section, read_section, write_index, write_section

__all__ = [
    "Chart",
    "Line",
    "Picture",
    "Row",
    "Section",
    "read_section",
    "write_index",
    "write_report",
    "write_section",
]
