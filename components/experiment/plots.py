"""The report's plots, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from tfx_cassandra.components import svg
from tfx_cassandra.components.experiment.design import Metric
from tfx_cassandra.components.experiment.results import ArmResult, MetricResult, Point

_LEFT, _RIGHT, _WIDTH, _ROW = 150, 60, 860, 44  # pixels
_COLORS = {'better': '#1a7f4b', 'not worse': '#1a7f4b', 'worse': '#b3261e', 'violated': '#b3261e'}
LINES = ('#1f5fbf', '#b35c00', '#7a3fa8', '#00796b')
GREY = '#5b6472'


class Interval(NamedTuple):
    """A difference from the control with its intervals.

    Attributes:
      label: What is compared.
      difference, low, high: The difference and the ends of its fixed interval.
      sequential_low, sequential_high: The ends of its confidence sequence; None if it is too early.
      conclusion: Of the comparison, see MetricResult; '' if unknown.
    """

    label: str
    difference: float
    low: float
    high: float
    sequential_low: float | None
    sequential_high: float | None
    conclusion: str = ''


def intervals(metric: Metric, results: Sequence[tuple[ArmResult, MetricResult]]) -> Markup:
    """Draws each treatment's difference with its fixed interval (thick) and its confidence sequence (thin)."""
    found = [
        Interval(
            arm.arm, result.difference, result.low, result.high, result.sequential_low, result.sequential_high,
            result.conclusion,
        )
        for arm, result in results
    ]  # fmt: skip
    return differences(metric.name, found, None if metric.margin is None else -metric.sign * metric.margin)


def differences(name: str, found: Sequence[Interval], limit: float | None = None) -> Markup:
    """Draws the differences of a metric, one below the other, with the limit that a margin sets."""
    ends = [0.0] if limit is None else [0.0, limit]
    ends += [end for interval in found for end in interval[2:6] if end is not None]
    x = svg.scale(min(ends), max(ends), _LEFT, _WIDTH - _RIGHT)
    height = _ROW * len(found) + 34
    shapes = [svg.line(x(0), 4, x(0), height - 26, GREY), svg.label(x(0), height - 8, 'no difference', 'middle')]
    if limit is not None:
        shapes += [
            svg.line(x(limit), 4, x(limit), height - 26, '#b3261e', dashed=True),
            svg.label(x(limit), height - 8, 'margin', 'middle'),
        ]
    for i, result in enumerate(found):
        y, color = _ROW * i + 24, _COLORS.get(result.conclusion, GREY)
        shapes.append(svg.label(4, y + 4, result.label))
        if result.sequential_low is not None and result.sequential_high is not None:
            shapes.append(svg.line(x(result.sequential_low), y, x(result.sequential_high), y, color))
        shapes.append(svg.line(x(result.low), y, x(result.high), y, color, width=7))
        shapes.append(svg.circle(x(result.difference), y, color))
        shapes.append(svg.label(x(result.difference), y - 10, f'{result.difference:+.4g}', 'middle'))
    return svg.svg(_WIDTH, height, shapes, f'{name}: difference from the control with its intervals')


def over_time(metric: Metric, series: Sequence[Point]) -> Markup:
    """Draws the cumulative difference of each treatment with its confidence sequence; empty without one."""
    points = [point for point in series if point.metric == metric.name and point.low is not None]
    if not points:
        return Markup()
    arms = list(dict.fromkeys(point.arm for point in points))
    times = sorted({point.time for point in series})
    ends = [end for point in points for end in (point.low, point.high) if end is not None]
    x = svg.scale(0, len(times) - 1, _LEFT, _WIDTH - _RIGHT)
    y = svg.scale(min(*ends, 0), max(*ends, 0), 190, 12)
    shapes = [svg.line(_LEFT, y(0), _WIDTH - _RIGHT, y(0), GREY)]
    for value in (0.0, *(end for end in (min(ends), max(ends)) if abs(y(end) - y(0)) > 14)):
        shapes.append(svg.label(_LEFT - 8, y(value) + 4, f'{value:+.3g}', 'end'))
    for i, arm in enumerate(arms):
        color = LINES[i % len(LINES)]
        of_arm = [(x(times.index(p.time)), p) for p in points if p.arm == arm]
        upper = [f'{at:.1f},{y(p.high or 0):.1f}' for at, p in of_arm]
        lower = [f'{at:.1f},{y(p.low or 0):.1f}' for at, p in of_arm]
        middle = [f'{at:.1f},{y(p.difference or 0):.1f}' for at, p in of_arm]
        band = Markup('<polygon points="{}" fill="{}" opacity=".15"/>')
        line = Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>')
        shapes += [band.format(' '.join([*upper, *lower[::-1]]), color), line.format(' '.join(middle), color)]
        shapes.append(svg.label(_LEFT + 150 * (i + 1), 212, arm, color=color))
    shapes.append(svg.label(_LEFT, 212, f'{times[0]:%Y-%m-%d %H:%M}'))
    shapes.append(svg.label(_WIDTH - _RIGHT, 212, f'{times[-1]:%Y-%m-%d %H:%M}', 'end'))
    return svg.svg(_WIDTH, 220, shapes, f'{metric.name}: difference so far, with its confidence sequence')
