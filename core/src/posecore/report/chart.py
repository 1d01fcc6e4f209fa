"""Line charts as inline SVG, coloured by the page's style so that they follow light and dark."""

import math
from collections.abc import Sequence
from itertools import groupby

from pydantic import FiniteFloat

from posecore.config import Config
from posecore.report.html import Html, joined, number, tag

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 30
COLOURS = 6
MOST_POINTS = 160
"""More points than this are drawn as the mean of neighbours, with their range behind it."""
LOG_FROM = 30.0
"""Largest over smallest value from which the axis is logarithmic."""

Points = list[tuple[float, float]]


class Line(Config):
    """One curve; None stands for a value that was not finite, and breaks the curve."""

    name: str
    steps: list[FiniteFloat]
    values: list[FiniteFloat | None]


class Chart(Config):
    """Curves over the same steps."""

    title: str
    lines: list[Line]


def render_chart(chart: Chart) -> Html:
    """A figure with title, picture and legend; what cannot be drawn is said."""
    has_values = any(value is not None for line in chart.lines for value in line.values)
    picture = _svg(chart) if has_values else tag("p", "no finite values", class_="missing")
    legend = [_legend_entry(position, line) for position, line in enumerate(chart.lines)]
    return tag("figure", tag("h3", chart.title), picture, tag("figcaption", *legend, class_="legend"), class_="card")


def _svg(chart: Chart) -> Html:
    known = [(x, y) for line in chart.lines for x, y in zip(line.steps, line.values, strict=True) if y is not None]
    x_axis = _Axis([x for x, _ in known], LEFT, WIDTH - RIGHT, logarithmic=False)
    values = [y for _, y in known]
    spread = max(values) / min(values) if min(values) > 0 else 0.0
    y_axis = _Axis(values, HEIGHT - BOTTOM, TOP, logarithmic=spread > LOG_FROM)
    curves = [_curve(line, x_axis, y_axis, position % COLOURS + 1) for position, line in enumerate(chart.lines)]
    return tag(
        "svg",
        *_grid(x_axis, y_axis),
        *curves,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=chart.title,
    )


class _Axis:
    """Places values along one side of the picture."""

    def __init__(self, values: Sequence[float], start: float, end: float, *, logarithmic: bool) -> None:
        self.logarithmic = logarithmic
        low, high = (self._scaled(value) for value in (min(values), max(values)))
        pad = 0.0 if end > start else 0.04 * (high - low)  # curves do not touch the floor
        if high - low <= 1e-12 * max(abs(low), abs(high)):
            pad = max(abs(low), 1.0) * 0.5
        self.low, self.high, self._start, self._end = low - pad, high + pad, start, end

    def place(self, value: float) -> float:
        share = (self._scaled(value) - self.low) / (self.high - self.low)
        return round(self._start + share * (self._end - self._start), 1)

    def ticks(self) -> list[float]:
        if self.logarithmic:
            decades = range(math.floor(self.low), math.ceil(self.high) + 1)
            multiples = (1,) if self.high - self.low > 3 else (1, 3)
            every = max(1, len(decades) // 5)
            candidates = [m * 10.0**decade for decade in decades[::every] for m in multiples]
        else:
            spacing = _nice((self.high - self.low) / 4)
            first = math.ceil(self.low / spacing)
            candidates = [spacing * k for k in range(first, math.floor(self.high / spacing) + 1)]
        return [tick for tick in candidates if self.low <= self._scaled(tick) <= self.high]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def _nice(raw: float) -> float:
    """The round number (1, 2 or 5 times a power of ten) at or above."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def _grid(x_axis: _Axis, y_axis: _Axis) -> list[Html]:
    lines = []
    for tick in y_axis.ticks():
        y = y_axis.place(tick)
        lines.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        lines.append(tag("text", _tick(tick), x=LEFT - 7, y=y + 4, text_anchor="end"))
    for tick in x_axis.ticks():
        x = x_axis.place(tick)
        lines.append(tag("line", x1=x, x2=x, y1=HEIGHT - BOTTOM, y2=HEIGHT - BOTTOM + 4, class_="axis"))
        lines.append(tag("text", _tick(tick), x=x, y=HEIGHT - 9, text_anchor="middle"))
    base = HEIGHT - BOTTOM
    return [*lines, tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="axis")]


def _tick(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (abs(value) >= size and value % size == 0):
            return f"{value / size:g}{letter}"
    return f"{value:.3g}"


def _curve(line: Line, x_axis: _Axis, y_axis: _Axis, colour: int) -> Html:
    """Runs of known values, the range of what was averaged behind them, and the last value as a dot."""
    pairs = [(x, y) for x, y in zip(line.steps, line.values, strict=True)]
    runs = [[(x, y) for x, y in run if y is not None] for known, run in groupby(pairs, _is_known) if known]
    parts: list[Html] = []
    share = max(1, math.ceil(sum(len(run) for run in runs) / MOST_POINTS))
    for run in runs:
        bins = [run[start : start + share] for start in range(0, len(run), share)]
        means = [_mean(points) for points in bins]
        if share > 1:
            upper = [(x, max(y for _, y in points)) for (x, _), points in zip(means, bins, strict=True)]
            lower = [(x, min(y for _, y in points)) for (x, _), points in zip(means, bins, strict=True)]
            parts.append(tag("path", d=_path(upper + lower[::-1], x_axis, y_axis) + "Z", class_=f"range f{colour}"))
        parts.append(tag("path", d=_path(means, x_axis, y_axis), class_=f"curve s{colour}"))
        if share == 1 and len(run) <= 60:
            parts += [_dot(point, x_axis, y_axis, colour, 2.0) for point in run]
    if runs:
        parts.append(_dot(runs[-1][-1], x_axis, y_axis, colour, 3.5))
    return joined(*parts)


def _is_known(pair: tuple[float, float | None]) -> bool:
    return pair[1] is not None


def _mean(points: Points) -> tuple[float, float]:
    return points[len(points) // 2][0], sum(y for _, y in points) / len(points)


def _path(points: Points, x_axis: _Axis, y_axis: _Axis) -> str:
    return "M" + "L".join(f"{x_axis.place(x)} {y_axis.place(y)}" for x, y in points)


def _dot(point: tuple[float, float], x_axis: _Axis, y_axis: _Axis, colour: int, radius: float) -> Html:
    told = tag("title", f"step {number(point[0])}: {number(point[1])}")
    return tag("circle", told, cx=x_axis.place(point[0]), cy=y_axis.place(point[1]), r=radius, class_=f"f{colour}")


def _legend_entry(position: int, line: Line) -> Html:
    known = [value for value in line.values if value is not None]
    gaps = len(line.values) - len(known)
    last = number(known[-1]) if known else "–"
    told = f", {gaps} not finite" if gaps else ""
    swatch = tag("i", class_=f"b{position % COLOURS + 1}")
    return tag("span", swatch, f"{line.name} ", tag("b", last), told)
