"""A coverage ledger as a ring: the tokens clockwise from the top, each read an arc, with gaps and overlaps marked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from tfx_cassandra.components import svg
from tfx_cassandra.components.experiment.plots import GREY
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.ring import MIN_TOKEN, RING, TokenRange
from tfx_cassandra.components.ui.runs import Ledger

_SIZE, _RADIUS, _WIDTH = 220, 86, 22  # pixels
_MIN_DEGREES = 0.8  # a gap, or a partition, is drawn at least as wide
_ARCS = 360  # at most; reads are merged beyond that
_SHADES = ('#1f5fbf', '#5b8fd9')
_BAD = '#b3261e'


def ring(ledger: Ledger) -> Markup:
    """Draws a ledger."""
    arcs = [_arc(0, 360, _RADIUS, 2, GREY)]
    arcs += [_arc(start, end, _RADIUS, _WIDTH, _SHADES[i % 2]) for i, (start, end) in enumerate(_merged(ledger))]
    arcs += [_arc(*_widened(area.tokens), _RADIUS, _WIDTH + 8, _BAD) for area in ledger.missing]
    arcs += [_arc(*_widened(area.tokens), _RADIUS + _WIDTH / 2 + 5, 6, _BAD) for area in ledger.doubled]
    middle = _SIZE / 2
    texts = [
        svg.label(middle, middle - 4, f'{ledger.rows:,} rows', 'middle'),
        svg.label(middle, middle + 14, f'{len(ledger.areas):,} ranges', 'middle'),
    ]
    return svg.svg(_SIZE, _SIZE, [*arcs, *texts], f'Token ranges of {ledger.table} that were read: {verdict(ledger)}')


def verdict(ledger: Ledger) -> str:
    """Says in words what the ring shows."""
    if ledger.by_key and ledger.whole:
        return f'{len({area.tokens for area, _ in ledger.areas}):,} partitions, each read once by its key'
    if ledger.whole:
        return f'{len(ledger.areas):,} ranges cover the whole ring, each token once'
    share = sum(area.tokens.width for area in ledger.missing) / RING.width
    faults = [f'{_counted(ledger.missing, "gap")}, {share:.2%} of the ring'] if ledger.missing else []
    faults += [_counted(ledger.doubled, 'overlap')] if ledger.doubled else []
    return ' and '.join(faults)


def _counted(found: Sequence[Area], word: str) -> str:
    return f'{len(found)} {word}' if len(found) == 1 else f'{len(found):,} {word}s'


def _merged(ledger: Ledger) -> list[tuple[float, float]]:
    """Returns the arcs of the reads in degrees; slices of one range are one arc, and so are neighbours beyond _ARCS."""
    ranges = sorted({area.tokens for area, _ in ledger.areas})
    if ledger.by_key:
        return [_widened(tokens) for tokens in ranges]
    step = max(1, -(-len(ranges) // _ARCS))
    groups = [ranges[i : i + step] for i in range(0, len(ranges), step)]
    return [(_degrees(group[0].start), _degrees(group[-1].end)) for group in groups]


def _degrees(token: int) -> float:
    return (token - MIN_TOKEN) / RING.width * 360


def _widened(tokens: TokenRange) -> tuple[float, float]:
    start, end = _degrees(tokens.start), _degrees(tokens.end)
    extra = max(0.0, _MIN_DEGREES - (end - start)) / 2
    return start - extra, end + extra


def _arc(start: float, end: float, radius: float, width: float, color: str) -> Markup:
    """Draws an arc from `start` to `end` degrees, clockwise from the top; a whole turn in two halves."""
    if end - start > 359.9:
        return _arc(start, start + 180, radius, width, color) + _arc(start + 180, start + 360, radius, width, color)
    points: Sequence[float] = [*_point(start, radius), *_point(end, radius)]
    shape = '<path d="M {:.2f} {:.2f} A {r:g} {r:g} 0 {} 1 {:.2f} {:.2f}" fill="none" stroke="{}" stroke-width="{:g}"/>'
    large = int(end - start > 180)
    return Markup(shape).format(points[0], points[1], large, points[2], points[3], color, width, r=radius)


def _point(degrees: float, radius: float) -> tuple[float, float]:
    angle = math.radians(degrees)
    return _SIZE / 2 + radius * math.sin(angle), _SIZE / 2 - radius * math.cos(angle)
