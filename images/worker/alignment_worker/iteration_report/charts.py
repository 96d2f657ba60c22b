"""Figures as SVG. Colours and fonts are the style sheet's, so that one figure serves light and dark.

A figure is drawn 360 units wide and shown at 320 to 520 pixels: its smallest letters stay legible on a phone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from markupsafe import Markup, escape

from alignment_worker.iteration_report.words import rough

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 8, 8, 34


@dataclass(frozen=True)
class Scale:
    """From data to drawing."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def clipped(self, value: float) -> float:
        return self(min(max(value, self.low), self.high))


@dataclass(frozen=True)
class Line:
    """Points of one line; `kind` is its class in the style sheet."""

    label: str
    points: Sequence[tuple[float, float]]
    kind: str = "candidate"


@dataclass(frozen=True)
class Bar:
    """An interval that stands at x, with its estimate; `filled` tells the marks of two sorts apart."""

    x: float
    estimate: float
    low: float | None
    high: float | None
    filled: bool = True


@dataclass(frozen=True)
class Plot:
    """A chart with axes. `rules` are horizontal lines with their label."""

    x_label: str
    y_label: str
    lines: Sequence[Line] = ()
    band: Sequence[tuple[float, float, float]] = ()  # x, low, high
    bars: Sequence[Bar] = ()
    rules: Sequence[tuple[float, str]] = ()
    y_range: tuple[float, float] | None = None
    x_ticks: Sequence[float] | None = None


def plotted(name: str, title: str, description: str, plot: Plot) -> Markup:
    """`name` is unique on the page."""
    xs = [x for line in plot.lines for x, _ in line.points] + [x for x, _, _ in plot.band]
    xs += [bar.x for bar in plot.bars]
    ys = [y for line in plot.lines for _, y in line.points] + [y for y, _ in plot.rules]
    ys += [y for _, low, high in plot.band for y in (low, high)]
    ys += [y for bar in plot.bars for y in (bar.estimate, bar.low, bar.high) if y is not None]
    x_low, x_high = _spread(xs, 0.0 if plot.lines or plot.band else 0.5)
    y_low, y_high = plot.y_range or _padded(ys)
    x = Scale(x_low, x_high, _LEFT, _WIDTH - _RIGHT)
    y = Scale(y_low, y_high, _HEIGHT - _BOTTOM, _TOP)
    x_ticks = plot.x_ticks if plot.x_ticks is not None else ticks(x_low, x_high, 5)
    parts = [_axes(x, y, x_ticks, ticks(y_low, y_high, 5), plot)]
    if plot.band:
        upper = [f"{x(at)},{y.clipped(high)}" for at, _, high in plot.band]
        lower = [f"{x(at)},{y.clipped(low)}" for at, low, _ in reversed(plot.band)]
        parts.append(f'<polygon class="band" points="{" ".join([*upper, *lower])}"/>')
    for at, _ in plot.rules:
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(at)}" y2="{y(at)}"/>')
    for line in plot.lines:
        points = " ".join(f"{x(at)},{y.clipped(value)}" for at, value in line.points)
        parts.append(f'<polyline class="line {line.kind}" points="{points}"/>')
        if len(line.points) == 1:
            ((at, value),) = line.points
            parts.append(f'<circle class="dot {line.kind}" cx="{x(at)}" cy="{y.clipped(value)}" r="3.5"/>')
    parts += [_bar(bar, x, y) for bar in plot.bars]
    for at, label in plot.rules:  # last, so that no curve hides it
        above = y(at) - 3 if y(at) > _TOP + 12 else y(at) + 11
        parts.append(
            f'<text class="limit-label" x="{_WIDTH - _RIGHT - 2}" y="{above}">{escape(label)}</text>'
        )
    return _svg(name, title, description, _WIDTH, _HEIGHT, parts)


@dataclass(frozen=True)
class Histogram:
    """Shares of each side's values, by bin; `edges` are one more than bins, and values beyond count to the last bin."""

    edges: Sequence[float]
    incumbent: Sequence[float]
    candidate: Sequence[float]
    x_label: str
    means: tuple[float, float]  # incumbent's, candidate's


def histogram(name: str, title: str, description: str, data: Histogram) -> Markup:
    """The incumbent as an area with a dashed edge, the candidate over it with a solid one."""
    x = Scale(data.edges[0], data.edges[-1], _LEFT, _WIDTH - _RIGHT)
    top = max([*data.incumbent, *data.candidate, 0.01]) * 100
    y = Scale(0, top * 1.05, _HEIGHT - _BOTTOM, _TOP)
    plot = Plot(data.x_label, "% of answers")
    parts = [_axes(x, y, ticks(data.edges[0], data.edges[-1], 6), ticks(0, top, 4), plot)]
    for kind, shares in (("incumbent", data.incumbent), ("candidate", data.candidate)):
        corners = [f"{x(data.edges[0])},{y(0)}"]
        for left, right, share in zip(data.edges, data.edges[1:], shares, strict=False):
            corners += [f"{x(left)},{y(100 * share)}", f"{x(right)},{y(100 * share)}"]
        corners.append(f"{x(data.edges[-1])},{y(0)}")
        parts.append(f'<polygon class="area {kind}" points="{" ".join(corners)}"/>')
    for kind, mean in zip(("incumbent", "candidate"), data.means, strict=True):
        at = x.clipped(mean)
        parts.append(f'<line class="mean {kind}" x1="{at}" x2="{at}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    return _svg(name, title, description, _WIDTH, _HEIGHT, parts)


_STRIP_WIDTH, _STRIP_HEIGHT = 220, 24


@dataclass(frozen=True)
class Strip:
    """One measurement in a table's cell: its interval, what is allowed, and where nothing changed."""

    estimate: float
    low: float | None
    high: float | None
    even: float | None = None
    least: float | None = None
    most: float | None = None


def strip(data: Strip, description: str, tone: str) -> Markup:
    """Drawn to its own scale: what counts is on which side of the limit the interval lies."""
    marks = [
        data.estimate,
        *(v for v in (data.low, data.high, data.even, data.least, data.most) if v is not None),
    ]
    low, high = _padded(marks, 0.12)
    x = Scale(low, high, 4, _STRIP_WIDTH - 4)
    middle = _STRIP_HEIGHT / 2
    parts = [f'<line class="axis" x1="4" x2="{_STRIP_WIDTH - 4}" y1="{middle}" y2="{middle}"/>']
    for start, end in (
        (low, data.least) if data.least is not None else (0.0, 0.0),
        (data.most, high) if data.most is not None else (0.0, 0.0),
    ):
        if end > start:
            width = round(x(end) - x(start), 1)
            parts.append(
                f'<rect class="forbidden" x="{x(start)}" y="2" width="{width}" height="{_STRIP_HEIGHT - 4}"/>'
            )
    if data.even is not None:
        parts.append(
            f'<line class="even" x1="{x(data.even)}" x2="{x(data.even)}" y1="3" y2="{_STRIP_HEIGHT - 3}"/>'
        )
    limits = [x(limit) for limit in (data.least, data.most) if limit is not None]
    parts += [f'<line class="limit" x1="{at}" x2="{at}" y1="1" y2="{_STRIP_HEIGHT - 1}"/>' for at in limits]
    if data.low is not None or data.high is not None:
        start, end = (low if data.low is None else data.low), (high if data.high is None else data.high)
        parts.append(
            f'<line class="whisker {tone}" x1="{x(start)}" x2="{x(end)}" y1="{middle}" y2="{middle}"/>'
        )
    parts.append(f'<circle class="dot {tone}" cx="{x(data.estimate)}" cy="{middle}" r="4.5"/>')
    return _labelled(description, _STRIP_WIDTH, _STRIP_HEIGHT, parts, "strip")


def dumbbell(before: float, after: float, description: str) -> Markup:
    """Two shares in percent, on a line from 0 to 100."""
    x = Scale(0, 100, 6, _STRIP_WIDTH - 6)
    middle = _STRIP_HEIGHT / 2
    lines = [
        f'<line class="axis" x1="6" x2="{_STRIP_WIDTH - 6}" y1="{middle}" y2="{middle}"/>',
        *(f'<line class="axis" x1="{x(at)}" x2="{x(at)}" y1="8" y2="16"/>' for at in (0, 50, 100)),
        f'<line class="whisker {"passed" if after >= before else "failed"}" x1="{x.clipped(before)}" '
        f'x2="{x.clipped(after)}" y1="{middle}" y2="{middle}"/>',
        f'<circle class="dot incumbent" cx="{x.clipped(before)}" cy="{middle}" r="4.5"/>',
        f'<circle class="dot candidate" cx="{x.clipped(after)}" cy="{middle}" r="4.5"/>',
    ]
    return _labelled(description, _STRIP_WIDTH, _STRIP_HEIGHT, lines, "strip")


def shares(parts: Sequence[tuple[str, float]], description: str) -> Markup:
    """Parts of a whole, as one bar: (class, share)."""
    drawn, at = [], 0.0
    for kind, share in parts:
        width = round(share * _WIDTH, 1)
        drawn.append(f'<rect class="{kind}" x="{round(at, 1)}" y="0" width="{width}" height="18"/>')
        at += width
    return _labelled(description, _WIDTH, 18, drawn, "shares")


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers from low to high, at most so many and at least two."""
    if not high > low:
        return [low]
    step = _round_step((high - low) / most)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def _round_step(least: float) -> float:
    size = 10.0 ** floor(log10(least))
    return float(next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= least * (1 - 1e-9)))


def _spread(values: Iterable[float], margin: float) -> tuple[float, float]:
    values = list(values)
    low, high = min(values, default=0.0) - margin, max(values, default=1.0) + margin
    return (low - 0.5, high + 0.5) if low == high else (low, high)


def _padded(values: Iterable[float], share: float = 0.06) -> tuple[float, float]:
    finite = [value for value in values if isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def _bar(bar: Bar, x: Scale, y: Scale) -> str:
    at, filled = x(bar.x), "" if bar.filled else " hollow"
    low = y.clipped(bar.estimate if bar.low is None else bar.low)
    high = y.clipped(bar.estimate if bar.high is None else bar.high)
    whisker = f'<line class="whisker candidate" x1="{at}" x2="{at}" y1="{low}" y2="{high}"/>'
    return (
        whisker + f'<circle class="dot candidate{filled}" cx="{at}" cy="{y.clipped(bar.estimate)}" r="4.5"/>'
    )


def _axes(x: Scale, y: Scale, x_ticks: Sequence[float], y_ticks: Sequence[float], plot: Plot) -> str:
    bottom = _HEIGHT - _BOTTOM
    parts = []
    for at in y_ticks:
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(at)}" y2="{y(at)}"/>')
        parts.append(f'<text class="tick y" x="{_LEFT - 5}" y="{y(at) + 3.5}">{rough(at)}</text>')
    parts += [f'<text class="tick x" x="{x(at)}" y="{bottom + 13}">{rough(at)}</text>' for at in x_ticks]
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{bottom}" y2="{bottom}"/>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="axis-label" x="{middle}" y="{_HEIGHT - 5}">{escape(plot.x_label)}</text>')
    height = (_TOP + bottom) / 2
    turned = f'transform="rotate(-90 9 {height})"'
    parts.append(f'<text class="axis-label" x="9" y="{height}" {turned}>{escape(plot.y_label)}</text>')
    return "".join(parts)


def _svg(name: str, title: str, description: str, width: int, height: int, parts: Sequence[str]) -> Markup:
    head = (
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    )
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704 - made of numbers and what is escaped above


def _labelled(description: str, width: int, height: int, parts: Sequence[str], kind: str) -> Markup:
    head = (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}" '
        'preserveAspectRatio="none">'
        if kind == "shares"
        else f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">'
    )
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704 - the same
