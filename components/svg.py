"""Shapes of SVG drawings as markup: what is put into them is escaped, and none has a style attribute.

A content security policy without 'unsafe-inline' forbids style attributes; presentation attributes such as `fill` are
allowed, and a style sheet can still override them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

Scale = Callable[[float], float]  # a value -> a pixel


def scale(low: float, high: float, start: float, end: float) -> Scale:
    """Returns the function that maps [low, high] to the pixels [start, end]; a single value maps to `start`."""
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def line(x1: float, y1: float, x2: float, y2: float, color: str, width: int = 2, dashed: bool = False) -> Markup:
    """Draws a straight line."""
    shape = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{}"{}/>'
    return Markup(shape).format(x1, y1, x2, y2, color, width, Markup(' stroke-dasharray="4 4"' if dashed else ''))


def circle(x: float, y: float, color: str, radius: float = 5) -> Markup:
    """Draws a ring of a colour around white."""
    shape = '<circle cx="{:.1f}" cy="{:.1f}" r="{:g}" fill="#fff" stroke="{}" stroke-width="2"/>'
    return Markup(shape).format(x, y, radius, color)


def label(x: float, y: float, text: str, anchor: str = 'start', color: str | None = None) -> Markup:
    """Writes a text; without a colour the style sheet chooses it."""
    fill = Markup(' fill="{}"').format(color) if color else Markup()
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(x, y, anchor, fill, text)


def svg(width: int, height: int, shapes: Sequence[Markup], title: str) -> Markup:
    """Puts shapes into a drawing; the title says to a screen reader what it shows."""
    shape = '<svg viewBox="0 0 {} {}" width="{}" role="img"><title>{}</title>{}</svg>'
    return Markup(shape).format(width, height, width, title, Markup().join(shapes))
