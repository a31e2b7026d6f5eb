"""Small line charts of time series, as SVG."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

from markupsafe import Markup

from tfx_cassandra.components import svg
from tfx_cassandra.components.experiment.plots import GREY, LINES
from tfx_cassandra.components.ui.models import Series

_WIDTH, _HEIGHT = 360, 150  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 12, 12, 30
_MARKED = 40  # points of a series up to which each is marked
_WORDS = 34  # characters of a name under a chart


def lines(series: Sequence[Series], title: str) -> Markup:
    """Draws series over a common time; the first four have colours of their own."""
    points = [point for one in series for point in one.points]
    if not points:
        return Markup()
    times, values = [at.timestamp() for at, _ in points], [value for _, value in points]
    low, high = min(values), max(values)
    pad = (high - low) * 0.08 or abs(high) * 0.05 or 1.0
    if not math.isfinite(high - low + 2 * pad):  # the ends of what a double holds
        low, high, pad = -1.0, 1.0, 0.0
        points = []
    x = svg.scale(min(times), max(times), _LEFT + 4, _WIDTH - _RIGHT - 4)
    y = svg.scale(low - pad, high + pad, _HEIGHT - _BOTTOM, _TOP)
    ends = [low] if low == high else [low, high]
    shapes = [svg.line(_LEFT, y(end), _WIDTH - _RIGHT, y(end), GREY, width=1, dashed=True) for end in ends]
    shapes += [svg.label(_LEFT - 6, y(end) + 4, f'{end:.4g}', 'end') for end in ends]
    for i, one in enumerate(series):
        shapes += _line(one, x, y, LINES[i % len(LINES)]) if points else []
    first, last = min(times), max(times)
    shapes.append(svg.label(_LEFT, _HEIGHT - 8, _moment(first)))
    if last > first:
        shapes.append(svg.label(_WIDTH - _RIGHT, _HEIGHT - 8, _moment(last), 'end'))
    return svg.svg(_WIDTH, _HEIGHT, shapes, title)


def bar(share: float) -> Markup:
    """Draws a share from 0 to 1 as a bar; the number stands beside it, so a screen reader passes over it."""
    shape = '<svg class="bar-of" viewBox="0 0 64 10" width="64" height="10" aria-hidden="true">{}{}</svg>'
    rect = Markup('<rect class="{}" width="{:.1f}" height="10" rx="2"/>')
    return Markup(shape).format(rect.format('all', 64), rect.format('part', 64 * share))


def _line(series: Series, x: svg.Scale, y: svg.Scale, color: str) -> list[Markup]:
    places = [(x(at.timestamp()), y(value)) for at, value in series.points]
    path = ' '.join(f'{left:.1f},{top:.1f}' for left, top in places)
    shapes = [Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>').format(path, color)]
    if len(places) <= _MARKED:
        shapes += [svg.circle(left, top, color, 3) for left, top in places]
    return shapes


def _moment(seconds: float) -> str:
    return f'{datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc):%Y-%m-%d %H:%M}'


def short(text: str, length: int = _WORDS) -> str:
    """Shortens a name in its middle, where names that belong together differ least."""
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f'{text[: length - 1 - half]}…{text[-half:]}'
