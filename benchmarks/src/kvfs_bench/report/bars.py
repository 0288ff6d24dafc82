"""Bar charts as inline SVG, coloured by the style sheet of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import attrs


@attrs.frozen
class Widths:
    """Of the parts of a chart, in pixels at its own size."""

    label: int = 210
    plot: int = 430
    value: int = 190


WIDE = Widths()
NARROW = Widths(label=80, plot=200, value=150)
"""For two charts beside each other."""
_ROW_PX = 24
_BAR_PX = 14
_AXIS_PX = 24


@attrs.frozen(kw_only=True)
class Bar:
    """One bar."""

    label: str
    value: float | None
    """``None``: no bar, only the text."""
    low: float | None = None
    high: float | None = None
    """Ends of the whisker."""
    text: str
    """Beside the bar."""
    kind: str = "peer"
    """Its colour: ``ours``, ``peer`` or ``reference``."""


def chart(
    bars: Sequence[Bar], *, unit: str, mark: float | None = None, widths: Widths = WIDE
) -> str:
    """Horizontal bars from 0 on one linear axis.

    :param mark: where a dashed line is drawn, such as the reference's speed of 1.
    """
    top = max(
        [value for bar in bars for value in (bar.value, bar.high) if value is not None]
        + ([mark * 1.1] if mark else []),
        default=1.0,
    )
    top = top or 1.0
    scale = widths.plot / (top * 1.02)
    height = len(bars) * _ROW_PX + _AXIS_PX
    width = widths.label + widths.plot + widths.value
    parts = [
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{escape(unit)}">'
    ]
    for tick in _ticks(top, 6 if widths is WIDE else 4):
        x = widths.label + tick * scale
        bottom = len(bars) * _ROW_PX
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">'
            f"{short(tick)}</text>"
        )
    end = width - 4
    parts.append(
        f'<text class="tick" x="{end}" y="{height - 9}" text-anchor="end">{escape(unit)}</text>'
    )
    for number, bar in enumerate(bars):
        parts += _row(bar, number * _ROW_PX, scale, widths.label)
    if mark is not None:
        x = widths.label + mark * scale
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{len(bars) * _ROW_PX}"/>'
        )
    return "".join([*parts, "</svg>"])


def short(value: float) -> str:
    """A round number in little room."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _ticks(top: float, most: int) -> list[float]:
    """Up to so many round numbers up to ``top``."""
    step = 10 ** math.ceil(math.log10(top / most))
    step = next(part for part in (step / 5, step / 4, step / 2, step) if top / part <= most)
    return [step * number for number in range(int(top / step) + 1)]


def _row(bar: Bar, y: int, scale: float, left: int) -> list[str]:
    middle = y + _ROW_PX / 2
    parts = [
        f'<text class="label" x="{left - 8}" y="{middle + 4:.1f}" text-anchor="end">'
        f"{escape(bar.label)}</text>"
    ]
    end = 0.0
    if bar.value is not None:
        end = bar.value * scale
        parts.append(
            f'<rect class="{bar.kind}" x="{left}" y="{y + (_ROW_PX - _BAR_PX) / 2:.1f}" '
            f'width="{max(end, 1):.1f}" height="{_BAR_PX}" rx="2"/>'
        )
    if bar.low is not None and bar.high is not None and bar.high > bar.low:
        x1, x2 = left + bar.low * scale, left + bar.high * scale
        parts.append(
            f'<path class="whisker" d="M{x1:.1f} {middle - 4}V{middle + 4}M{x1:.1f} {middle}'
            f'H{x2:.1f}M{x2:.1f} {middle - 4}V{middle + 4}"/>'
        )
        end = max(end, bar.high * scale)
    parts.append(
        f'<text class="value" x="{left + end + 6:.1f}" y="{middle + 4:.1f}">'
        f"{escape(bar.text)}</text>"
    )
    return parts
