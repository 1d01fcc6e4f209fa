"""What the doctor found, in lines that a person can act on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from posecore.errors import InputError

Level = Literal["ok", "warning", "error"]
MARKS: dict[Level, str] = {"ok": "ok      ", "warning": "warning ", "error": "ERROR   "}


@dataclass(frozen=True)
class Finding:
    """One fact about a file or the machine. error: it will not work, or train on wrong data; warning: know this."""

    level: Level
    subject: str
    """What was looked at: a path, a part of it, a package."""
    text: str
    remedy: str = ""
    """What to do; empty where nothing is to be done or the text says it."""


def format_findings(findings: Sequence[Finding]) -> str:
    """A line a finding, its remedy below, and a count at the end."""
    lines = []
    for finding in findings:
        lines.append(f"{MARKS[finding.level]}{finding.subject}: {finding.text}")
        if finding.remedy:
            lines.append(f"{'':8}-> {finding.remedy}")
    errors, warnings = (sum(f.level == level for f in findings) for level in ("error", "warning"))
    return "\n".join([*lines, f"{errors} errors, {warnings} warnings"])


def from_error(path: object, error: InputError) -> list[Finding]:
    """The problems of a wrong input; they name the file and what would be right themselves."""
    return [
        Finding("error", str(path), problem.removeprefix(f"{path}: ").removeprefix(f"{path}"))
        for problem in error.problems
    ]
