"""The metrics over time: the value in each step, and the cumulative difference with its confidence sequence."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from tfx_cassandra.components.experiment.comparisons import estimates_of, result_of
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.experiment.moments import Moments, total
from tfx_cassandra.components.experiment.results import Point
from tfx_cassandra.components.experiment.tally import Tally


def series_of(design: Design, tally: Tally) -> Iterator[Point]:
    """Yields the points of every metric and arm, without covariates; treatments also have the cumulative difference."""
    for metric in design.metrics:
        plain = dataclasses.replace(metric, covariate=None)
        cells = tally.moments[metric.name]
        # (arms, halves, steps) -> for each arm, its steps
        steps = [[total(step.along(0)) for step in arm.along(1)] for arm in cells.along(0)]
        cumulative = [list(itertools.accumulate(arm)) for arm in steps]
        for place, arm in enumerate(design.arms):
            for i in range(design.steps):
                control, treatment = cumulative[0][i], cumulative[place][i]
                difference = _difference(design, plain, control, treatment) if place else (None, None, None)
                yield _point(design, plain, arm, i, steps[place][i], difference)


def _point(
    design: Design, metric: Metric, arm: Arm, step: int, moments: Moments, difference: tuple[float | None, ...]
) -> Point:
    try:
        value = estimates_of(metric, [moments])[0].value
    except ValueError:
        value = None
    time = design.window.start + step * design.step
    return Point(time, arm.name, metric.name, int(moments.n), value, *difference)


def _difference(design: Design, metric: Metric, control: Moments, treatment: Moments) -> tuple[float | None, ...]:
    try:
        control_estimate, treatment_estimate = estimates_of(metric, [control, treatment])
        result = result_of(design, metric, control_estimate, treatment_estimate)
    except ValueError:
        return None, None, None
    return result.difference, result.sequential_low, result.sequential_high
