"""What one system shows of itself: a question, a table of ours against a baseline, pictures and curves."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import FiniteFloat, PositiveFloat, ValidationError

from posecore.config import Config
from posecore.errors import InputError
from posecore.report import page
from posecore.report.chart import Chart, Line, render_chart
from posecore.report.html import Html, number, tag


class Row(Config):
    """One measure, ours beside what it has to beat."""

    name: str
    ours: FiniteFloat
    baseline: FiniteFloat
    unit: str = ""
    lower_is_better: bool = True
    needed_factor: PositiveFloat | None = None
    """By how much ours has to be better; the page marks whether it is."""

    @property
    def factor(self) -> float | None:
        """How many times better ours is; None where a zero leaves it open."""
        worse, better = (self.baseline, self.ours) if self.lower_is_better else (self.ours, self.baseline)
        return worse / better if better > 0 and worse >= 0 else None


class Picture(Config):
    path: Path
    caption: str


class Section(Config):
    """One system's part of a page."""

    name: str
    """Anchor and short name: `handvit`."""
    heading: str
    question: str
    """What the table answers, in one sentence."""
    baseline: str = "baseline"
    """What the baseline is: `mean pose`."""
    rows: list[Row] = []
    pictures: list[Picture] = []
    charts: list[Chart] = []
    links: dict[str, str] = {}
    """Text -> address, relative to the page."""


def write_section(section: Section, path: Path) -> Path:
    """Write a section as JSON, its pictures relative to that file, for a page that another process makes."""
    near = [p.model_copy(update={"path": Path(os.path.relpath(p.path, path.parent))}) for p in section.pictures]
    content = section.model_copy(update={"pictures": near}).model_dump(mode="json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def read_section(path: Path) -> Section:
    """A section that `write_section` wrote.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    try:
        section = Section.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problems = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise InputError(problems) from None
    found = [picture.model_copy(update={"path": path.parent / picture.path}) for picture in section.pictures]
    return section.model_copy(update={"pictures": found})


def write_index(title: str, sections: Sequence[Section]) -> str:
    """The HTML of one page with all sections."""
    links = tag("nav", *(tag("a", section.heading, href=f"#{section.name}") for section in sections))
    return page.page(title, tag("h1", title), links, *(render_section(section) for section in sections))


def render_section(section: Section) -> Html:
    parts = [tag("h2", section.heading), tag("p", section.question)]
    parts.append(_comparison(section) if section.rows else page.missing("No measures were written."))
    if section.charts:
        parts.append(tag("h3", "How it learnt", class_="group"))
        parts.append(tag("div", *(render_chart(chart) for chart in section.charts), class_="grid-cards"))
    if section.pictures:
        parts.append(tag("h3", "What it predicts", class_="group"))
        parts.append(tag("div", *(page.picture(p.path, p.caption) for p in section.pictures), class_="grid-wide"))
    links = [tag("a", text, href=address) for text, address in section.links.items()]
    return tag("section", *parts, tag("nav", *links) if links else None, id=section.name)


def _comparison(section: Section) -> Html:
    header = ["", "ours", section.baseline, "better by", ""]
    head = tag("thead", tag("tr", *(tag("th", cell) for cell in header)))
    return tag(
        "div", tag("table", head, tag("tbody", *(_comparison_row(row) for row in section.rows))), class_="scroll"
    )


def _comparison_row(row: Row) -> Html:
    unit = f" {row.unit}" if row.unit else ""
    arrow = "↓" if row.lower_is_better else "↑"
    longest = max(abs(row.ours), abs(row.baseline)) or 1.0
    bars = [
        tag("div", class_=f"bar {kind}", style=f"width:{100 * abs(value) / longest:.1f}%")
        for kind, value in (("ours", row.ours), ("baseline", row.baseline))
    ]
    return tag(
        "tr",
        tag("th", f"{row.name} {arrow}"),
        tag("td", tag("b", number(row.ours)), unit),
        tag("td", number(row.baseline), unit),
        tag("td", _factor(row)),
        tag("td", *bars, class_="bars"),
    )


def _factor(row: Row) -> Html:
    """Coloured where a factor is asked for, and in words too, for those who see no colour."""
    shown = "–" if row.factor is None else f"{number(row.factor, 3)} ×"
    if row.needed_factor is None:
        return tag("span", shown)
    is_met = row.factor is not None and row.factor >= row.needed_factor
    told = f"{shown} ({'meets' if is_met else 'misses'} {number(row.needed_factor, 3)} ×)"
    return tag("span", told, class_="good" if is_met else "bad")


__all__ = ["Chart", "Line", "Picture", "Row", "Section", "read_section", "write_index", "write_section"]
