"""Lines and points on logarithmic axes as inline SVG, coloured by the style sheet of the page.

A series has a colour, a pattern of dashes, a mark of its own and its name at its end: it is told
from the others without its colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import attrs

_WIDTH, _HEIGHT = 880, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 130, 12, 44
_LABEL_PX, _NAME_PX = 14, 70
_MARK = 3.6
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "12 4", "4 4", "1 2", "14 3 2 3 2 3", "6 2 2 2", "3 1")


@attrs.frozen(kw_only=True)
class Series:
    """A line, or a single point."""

    label: str
    number: int
    """Of its colour."""
    points: Sequence[tuple[float, float]]
    """Ascending in x."""


@attrs.frozen(kw_only=True)
class Axis:
    """What a coordinate means and where it is."""

    title: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    scale: Callable[[float], float] = math.log10

    def part(self, value: float) -> float:
        """From 0 at the low end to 1 at the high one."""
        low, high = self.scale(self.low), self.scale(self.high)
        return (self.scale(value) - low) / (high - low)


def logarithmic(title: str, values: Sequence[float], text: Callable[[float], str]) -> Axis:
    """An axis for values above 0, with ticks at 1, and 2 and 5 where there is room, of each ten."""
    low, high = min(values) / 1.3, max(values) * 1.3
    decades = math.log10(high / low)
    steps = (1, 2, 5) if decades < 2.6 else (1, 3) if decades < 4 else (1,)
    ticks = []
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for step in steps:
            value = step * 10.0**exponent
            if low <= value <= high:
                ticks.append((value, text(value)))
    return Axis(title=title, low=low, high=high, ticks=ticks)


def _nines(percent: float) -> float:
    """How many nines: 90 % is 1, 99 % is 2."""
    return -math.log10(1 - percent / 100)


def percentiles(high: float) -> Axis:
    """An axis of percentiles on which each further nine takes as much room."""
    ticks = [(p, f"{p:g} %") for p in (0, 50, 90, 99, 99.9, 99.99) if p <= high]
    title = "part of the operations that took no longer"
    return Axis(title=title, low=0, high=high, ticks=ticks, scale=_nines)


def plot(series: Sequence[Series], x: Axis, y: Axis) -> str:
    """Lines with marks; a series of one point is a mark with a name."""
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return _LEFT + x.part(point[0]) * width, _TOP + (1 - y.part(point[1])) * height

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'aria-label="{escape(y.title)} by {escape(x.title)}">'
    ]
    bottom, right = _TOP + height, _LEFT + width
    for value, text in x.ticks:
        left, _ = at((value, y.low))
        parts.append(
            f'<line class="grid" x1="{left:.1f}" x2="{left:.1f}" y1="{_TOP}" y2="{bottom}"/>'
            f'<text class="tick" x="{left:.1f}" y="{bottom + 16}" text-anchor="middle">'
            f"{escape(text)}</text>"
        )
    for value, text in y.ticks:
        _, top = at((x.low, value))
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{top:.1f}" y2="{top:.1f}"/>'
            f'<text class="tick" x="{_LEFT - 7}" y="{top + 4:.1f}" text-anchor="end">'
            f"{escape(text)}</text>"
        )
    parts.append(
        f'<text class="tick" x="{_LEFT + width / 2}" y="{_HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x.title)}</text>"
        f'<text class="tick" x="13" y="{_TOP + height / 2}" text-anchor="middle" '
        f'transform="rotate(-90 13 {_TOP + height / 2})">{escape(y.title)}</text>'
    )
    placed = {each.label: [at(point) for point in each.points] for each in series}
    for each in series:
        parts.append(_drawn(each, placed[each.label]))
    ends = {label: points[-1] for label, points in placed.items()}
    for each, top in zip(series, _apart([ends[each.label] for each in series]), strict=True):
        left, own = ends[each.label]
        if abs(top - own) > _LABEL_PX / 2:
            parts.append(
                f'<line class="leader" x1="{left + 5:.1f}" y1="{own:.1f}" x2="{left + 15:.1f}" '
                f'y2="{top:.1f}"/>'
            )
        parts.append(
            f'<text class="name t{each.number}" x="{left + 18:.1f}" y="{top + 4:.1f}">'
            f"{escape(each.label)}</text>"
        )
    return "".join([*parts, "</svg>"])


def _drawn(series: Series, points: Sequence[tuple[float, float]]) -> str:
    number = series.number
    line = ""
    if len(points) > 1:
        path = "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in points)
        dashes = _DASHES[number % len(_DASHES)]
        line = f'<path class="line l{number}" d="{path}" stroke-dasharray="{dashes}"/>'
    # Of a curve of many points the ends are marked, of a few points each one.
    marked = points if len(points) <= 8 else [points[-1]]
    return line + "".join(_mark(number, left, top) for left, top in marked)


def _mark(number: int, x: float, y: float) -> str:
    """One of five shapes."""
    r = _MARK
    shapes = (
        f'<circle class="f{number}" cx="{x:.1f}" cy="{y:.1f}" r="{r}"/>',
        f'<rect class="f{number}" x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" '
        f'height="{2 * r}"/>',
        f'<path class="f{number}" d="M{x:.1f} {y - r - 1:.1f}l{r + 1} {2 * r}h{-2 * r - 2}z"/>',
        f'<path class="f{number}" d="M{x:.1f} {y - r - 1.5:.1f}l{r + 1.5} {r + 1.5}l{-r - 1.5} '
        f'{r + 1.5}l{-r - 1.5} {-r - 1.5}z"/>',
        f'<path class="f{number}" d="M{x:.1f} {y + r + 1:.1f}l{r + 1} {-2 * r}h{-2 * r - 2}z"/>',
    )
    return shapes[number % len(shapes)]


def _apart(ends: Sequence[tuple[float, float]]) -> list[float]:
    """Heights for names near ``ends`` at which none lies on another, within the plot."""
    found: list[float] = [top for _, top in ends]
    for _ in range(len(ends)):  # each pass moves those that still touch, the upper one up
        order = sorted(range(len(ends)), key=lambda number: found[number])
        for place, upper in enumerate(order):
            for lower in order[place + 1 :]:
                is_beside = abs(ends[upper][0] - ends[lower][0]) > _NAME_PX
                overlap = _LABEL_PX - (found[lower] - found[upper])
                if not is_beside and overlap > 0:
                    found[upper] -= overlap / 2
                    found[lower] += overlap / 2
    return found
