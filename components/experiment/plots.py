"""The report's plots, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from tfx_cassandra.components.experiment.design import Metric
from tfx_cassandra.components.experiment.results import ArmResult, MetricResult, Point

_LEFT, _RIGHT, _WIDTH, _ROW = 150, 60, 860, 44  # pixels
_COLORS = {'better': '#1a7f4b', 'not worse': '#1a7f4b', 'worse': '#b3261e', 'violated': '#b3261e'}
_LINES = ('#1f5fbf', '#b35c00', '#7a3fa8', '#00796b')
_GREY = '#5b6472'


def intervals(metric: Metric, results: Sequence[tuple[ArmResult, MetricResult]]) -> Markup:
    """Draws each treatment's difference with its fixed interval (thick) and its confidence sequence (thin)."""
    ends = [0.0]
    for _, result in results:
        ends += [
            end for end in (result.low, result.high, result.sequential_low, result.sequential_high) if end is not None
        ]
    if metric.margin is not None:
        ends.append(-metric.sign * metric.margin)
    x = _scale(min(ends), max(ends), _LEFT, _WIDTH - _RIGHT)
    height = _ROW * len(results) + 34
    shapes = [_line(x(0), 4, x(0), height - 26, _GREY), _label(x(0), height - 8, 'no difference', 'middle')]
    if metric.margin is not None:
        limit = x(-metric.sign * metric.margin)
        shapes += [
            _line(limit, 4, limit, height - 26, '#b3261e', dashed=True),
            _label(limit, height - 8, 'margin', 'middle'),
        ]
    for i, (arm, result) in enumerate(results):
        y, color = _ROW * i + 24, _COLORS.get(result.conclusion, _GREY)
        shapes.append(_label(4, y + 4, arm.arm))
        if result.sequential_low is not None and result.sequential_high is not None:
            shapes.append(_line(x(result.sequential_low), y, x(result.sequential_high), y, color))
        shapes.append(_line(x(result.low), y, x(result.high), y, color, width=7))
        shapes.append(_circle(x(result.difference), y, color))
        shapes.append(_label(x(result.difference), y - 10, f'{result.difference:+.4g}', 'middle'))
    return _svg(height, shapes, f'{metric.name}: difference from the control with its intervals')


def over_time(metric: Metric, series: Sequence[Point]) -> Markup:
    """Draws the cumulative difference of each treatment with its confidence sequence; empty without one."""
    points = [point for point in series if point.metric == metric.name and point.low is not None]
    if not points:
        return Markup()
    arms = list(dict.fromkeys(point.arm for point in points))
    times = sorted({point.time for point in series})
    ends = [end for point in points for end in (point.low, point.high) if end is not None]
    x = _scale(0, len(times) - 1, _LEFT, _WIDTH - _RIGHT)
    y = _scale(min(*ends, 0), max(*ends, 0), 190, 12)
    shapes = [_line(_LEFT, y(0), _WIDTH - _RIGHT, y(0), _GREY)]
    for value in (0.0, *(end for end in (min(ends), max(ends)) if abs(y(end) - y(0)) > 14)):
        shapes.append(_label(_LEFT - 8, y(value) + 4, f'{value:+.3g}', 'end'))
    for i, arm in enumerate(arms):
        color = _LINES[i % len(_LINES)]
        of_arm = [(x(times.index(p.time)), p) for p in points if p.arm == arm]
        upper = [f'{at:.1f},{y(p.high or 0):.1f}' for at, p in of_arm]
        lower = [f'{at:.1f},{y(p.low or 0):.1f}' for at, p in of_arm]
        middle = [f'{at:.1f},{y(p.difference or 0):.1f}' for at, p in of_arm]
        band = Markup('<polygon points="{}" fill="{}" opacity=".15"/>')
        line = Markup('<polyline points="{}" fill="none" stroke="{}" stroke-width="2"/>')
        shapes += [band.format(' '.join([*upper, *lower[::-1]]), color), line.format(' '.join(middle), color)]
        shapes.append(_label(_LEFT + 150 * (i + 1), 212, arm, color=color))
    shapes.append(_label(_LEFT, 212, f'{times[0]:%Y-%m-%d %H:%M}'))
    shapes.append(_label(_WIDTH - _RIGHT, 212, f'{times[-1]:%Y-%m-%d %H:%M}', 'end'))
    return _svg(220, shapes, f'{metric.name}: difference so far, with its confidence sequence')


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: int = 2, dashed: bool = False) -> Markup:
    shape = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}"{}/>'
    return Markup(shape).format(x1, y1, x2, y2, color, width, Markup(' stroke-dasharray="4 4"' if dashed else ''))


def _circle(x: float, y: float, color: str) -> Markup:
    shape = '<circle cx="{:.1f}" cy="{}" r="5" fill="#fff" stroke="{}" stroke-width="2"/>'
    return Markup(shape).format(x, y, color)


def _label(x: float, y: float, text: str, anchor: str = 'start', color: str = '#1d2430') -> Markup:
    shape = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" style="fill: {}">{}</text>'
    return Markup(shape).format(x, y, anchor, color, text)


def _svg(height: int, shapes: Sequence[Markup], title: str) -> Markup:
    shape = '<svg viewBox="0 0 {} {}" width="{}" role="img"><title>{}</title>{}</svg>'
    return Markup(shape).format(_WIDTH, height, _WIDTH, title, Markup().join(shapes))
