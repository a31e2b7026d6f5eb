"""Rows of requests -> their units -> the sufficient statistics of each metric, arm, half and step of time."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tfx_cassandra.components.experiment.design import Design, Metric
from tfx_cassandra.components.experiment.moments import Moments
from tfx_cassandra.components.experiment.observations import Counts

HALVES = 2
MAX_EXACT_UNITS = 60  # of an arm: so many values are kept as they are, for exact tests
HEAVIEST = 3  # units of an arm that are named in the report
_MAX_SIZE = 1e100  # sums of squares of more are infinite
_MIN_SIZE = 1e-100  # squares of much less are zero
_HALF_SEED = 1  # not that of the shards, or a shard would be of one half


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """Mergeable statistics that the verdict is computed from.

    Attributes:
      requests: Shape (arms,).
      units: Shape (arms,).
      moments: By metric, of each unit's (value, denominator, covariate, whether the covariate is known); groups of
        shape (arms, halves, steps). A unit is in the step of its first request.
      left_out: By metric, requests without a value, shape (arms,).
      unusable: By metric, requests whose value is NaN, infinite or beyond 1e100, or of a proportion neither 0 nor 1,
        shape (arms,).
      crossed: Units that were answered by two arms; they count for neither.
      counts: What was found when outcomes were joined to requests.
      valued: By metric, moments of each unit's (requests with a value, requests); groups of shape (arms,).
      outcomes: By metric that takes outcomes, units of which any outcome is known, shape (arms,).
      heaviest: By metric, the units that weigh most: frames of `arm`, `unit`, `weight`, HEAVIEST an arm at most.
      weights: By metric, the weights of all units together, shape (arms,).
      few: By metric, `arm`, `half`, `y` and `d` of each unit of the arms that have few; see `units_of`.
    """

    requests: NDArray[Any]
    units: NDArray[Any]
    moments: dict[str, Moments]
    left_out: dict[str, NDArray[Any]]
    unusable: dict[str, NDArray[Any]]
    crossed: int = 0
    counts: Counts = dataclasses.field(default_factory=Counts)
    valued: dict[str, Moments] = dataclasses.field(default_factory=dict)
    outcomes: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    heaviest: dict[str, pl.DataFrame] = dataclasses.field(default_factory=dict)
    weights: dict[str, NDArray[Any]] = dataclasses.field(default_factory=dict)
    few: dict[str, pl.DataFrame] = dataclasses.field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.requests + other.requests,
            self.units + other.units,
            {name: moments + other.moments[name] for name, moments in self.moments.items()},
            {name: counts + other.left_out[name] for name, counts in self.left_out.items()},
            {name: counts + other.unusable[name] for name, counts in self.unusable.items()},
            self.crossed + other.crossed,
            self.counts + other.counts,
            {name: moments + other.valued[name] for name, moments in self.valued.items()},
            {name: counts + other.outcomes[name] for name, counts in self.outcomes.items()},
            {name: _heaviest(pl.concat([units, other.heaviest[name]])) for name, units in self.heaviest.items()},
            {name: weights + other.weights[name] for name, weights in self.weights.items()},
            {name: _few(pl.concat([few, other.few[name]])) for name, few in self.few.items()},
        )

    def units_of(self, metric: str, place: int) -> pl.DataFrame | None:
        """Returns the units with a value in one arm, or None where they are more than MAX_EXACT_UNITS."""
        if metric not in self.few:
            return None
        units = self.few[metric].filter(pl.col('arm') == place)
        # What one shard had left out is missing here, so that the others' units are not taken for all.
        return units if units.height == self.moments[metric].n[place].sum() else None


def tally(rows: pl.DataFrame, counts: Counts, design: Design) -> Tally:
    """Takes the moments of every metric over units; a request without a unit is its own.

    Args:
      rows: As `observations.join_outcomes` returns them, with every request of each unit.
      counts: What goes into the tally as it is.
      design: The experiment.

    Returns:
      The tally, the same bits whatever the order of rows.
    """
    unit = pl.col('unit').cast(pl.Binary).fill_null(pl.col('request_id'))
    rows = rows.with_columns(unit).sort('unit', 'timestamp', 'request_id')
    inside = rows.filter(pl.col('arm').is_not_null())
    crossing = pl.col('arm').min().over('unit') != pl.col('arm').max().over('unit')
    crossed = inside.filter(crossing)['unit'].n_unique()
    placed = _with_cells(inside.filter(~crossing), design)
    firsts = placed.unique('unit', keep='first', maintain_order=True)
    cells = len(design.arms) * HALVES * design.steps
    moments, left_out, unusable, valued, outcomes, heaviest, weights, few = {}, {}, {}, {}, {}, {}, {}, {}
    for metric in design.metrics:
        absent, usable = _absent(metric), _usable(metric)
        left_out[metric.name] = _by_arm(placed.filter(absent), design)
        unusable[metric.name] = _by_arm(placed.filter(~absent & ~usable), design)
        units = _units(metric, placed.filter(usable), _covariates(metric, firsts, rows))
        weighed = units.select(_arm_of(design), 'unit', _weight(metric))
        heaviest[metric.name] = _heaviest(weighed)
        weights[metric.name] = np.bincount(weighed['arm'].to_numpy(), weighed['weight'].to_numpy(), len(design.arms))
        units = _rounded(_capped(metric, units))
        few[metric.name] = _few(units.select(_arm_of(design), _half_of(design), 'y', 'd'))
        valued[metric.name] = _valued(placed, usable, design)
        if metric.outcomes:
            answered = placed.filter(pl.col(f'{metric.name}.k')).unique('unit')
            outcomes[metric.name] = _by_arm(answered, design)
        values = units.select('y', 'd', 'x', 'known').to_numpy()  # (units, 4)
        taken = Moments.of(values, units['cell'].to_numpy(), cells)
        moments[metric.name] = taken.reshape(len(design.arms), HALVES, design.steps)
    requests, units_of_arms = _by_arm(placed, design), _by_arm(firsts, design)
    return Tally(
        requests,
        units_of_arms,
        moments,
        left_out,
        unusable,
        crossed,
        counts,
        valued,
        outcomes,
        heaviest,
        weights,
        few,
    )


def _with_cells(rows: pl.DataFrame, design: Design) -> pl.DataFrame:
    """Adds to each row the cell of its unit: its place in (arms, halves, steps)."""
    half = (pl.col('unit').hash(seed=_HALF_SEED) % HALVES).cast(pl.Int64)
    # In integers, or a request of the last millisecond might fall behind the last step.
    since = (pl.col('timestamp').first().over('unit').dt.epoch('ms') - design.window.bounds[0]) * 1000
    step = since // (design.step // datetime.timedelta(microseconds=1))
    return rows.with_columns(((pl.col('arm') * HALVES + half) * design.steps + step).alias('cell'))


def _columns_of(metric: Metric) -> list[pl.Expr]:
    return [pl.col(f'{metric.name}.{name}') for name in ('y', *(['d'] if metric.denominator else []))]


def _absent(metric: Metric) -> pl.Expr:
    return pl.any_horizontal(column.is_null() for column in _columns_of(metric))


def _usable(metric: Metric) -> pl.Expr:
    usable = pl.all_horizontal((column.abs() <= _MAX_SIZE).fill_null(False) for column in _columns_of(metric))
    return usable & pl.col(f'{metric.name}.y').is_in([0.0, 1.0]) if metric.kind == 'proportion' else usable


def _units(metric: Metric, placed: pl.DataFrame, covariates: pl.DataFrame) -> pl.DataFrame:
    """Returns unit, cell, y, d, x and known of each unit that has a value."""
    sums = placed.group_by('unit', maintain_order=True).agg(pl.col('cell').first(), *_sums(metric))
    joined = sums.join(covariates, on='unit', how='left', maintain_order='left')
    known = pl.col('x').abs() <= _MAX_SIZE
    return joined.with_columns(
        pl.when(known).then('x').otherwise(0.0).alias('x'), known.cast(pl.Float64).fill_null(0.0).alias('known')
    )


def _covariates(metric: Metric, firsts: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns unit and x: what was known before the arm could influence it, of those units of which something was.

    Args:
      metric: The metric.
      firsts: The first request of each unit in the window.
      rows: All requests, also those before the window.
    """
    if metric.covariate is None:
        return pl.DataFrame(schema={'unit': pl.Binary, 'x': pl.Float64})
    if metric.feature is not None:
        # Of the first request whether or not it has a value, for the arm has a part in which of them have.
        return firsts.select('unit', pl.col(f'{metric.name}.x').alias('x'))
    earlier = rows.filter(pl.col('arm').is_null() & _usable(metric))
    past = earlier.group_by('unit', maintain_order=True).agg(*_sums(metric)).filter(pl.col('d') != 0)
    return past.select('unit', (pl.col('y') / pl.col('d')).alias('x'))


def _sums(metric: Metric) -> tuple[pl.Expr, pl.Expr]:
    """Returns a unit's y and d, over its requests with a value."""
    y = pl.col(f'{metric.name}.y')
    if metric.per == 'unit':
        return (y.max() if metric.kind == 'proportion' else y.sum()).alias('y'), pl.lit(1.0).alias('d')
    d = pl.col(f'{metric.name}.d').sum() if metric.denominator else y.len().cast(pl.Float64)
    return y.sum().alias('y'), d.alias('d')


def _rounded(units: pl.DataFrame) -> pl.DataFrame:
    """Takes values next to zero for zero, whose squares would be."""
    tiny = (pl.when(pl.col(name).abs() < _MIN_SIZE).then(0.0).otherwise(pl.col(name)).alias(name) for name in 'ydx')
    return units.with_columns(tiny)


def _capped(metric: Metric, units: pl.DataFrame) -> pl.DataFrame:
    """Cuts what each unit contributes to the metric's cap: its sum, or else the weight of its requests."""
    if metric.cap is None:
        return units
    if metric.per == 'unit':
        return units.with_columns(pl.col('y').clip(-metric.cap, metric.cap))
    share = pl.when(pl.col('d').abs() > metric.cap).then(metric.cap / pl.col('d').abs()).otherwise(1.0)
    return units.with_columns(pl.col('y') * share, pl.col('d') * share)


def _valued(placed: pl.DataFrame, usable: pl.Expr, design: Design) -> Moments:
    """Returns the moments of (requests with a value, requests) over units, by arm."""
    units = placed.group_by('unit', maintain_order=True).agg(
        pl.col('arm').first(), usable.sum().cast(pl.Float64).alias('valued'), pl.len().cast(pl.Float64).alias('all')
    )
    # As the statistics take them: value, denominator, and no covariate.
    values = units.select('valued', 'all', pl.lit(0.0).alias('x'), pl.lit(0.0).alias('known')).to_numpy()
    return Moments.of(values, units['arm'].to_numpy(), len(design.arms))


def _weight(metric: Metric) -> pl.Expr:
    return pl.col('y' if metric.per == 'unit' else 'd').abs().alias('weight')


def _heaviest(units: pl.DataFrame) -> pl.DataFrame:
    ordered = units.sort('arm', 'weight', 'unit', descending=[False, True, False])
    return ordered.group_by('arm', maintain_order=True).head(HEAVIEST).select('arm', 'unit', 'weight')


def _few(units: pl.DataFrame) -> pl.DataFrame:
    return units.filter(pl.len().over('arm') <= MAX_EXACT_UNITS)


def _arm_of(design: Design) -> pl.Expr:
    return (pl.col('cell') // (HALVES * design.steps)).cast(pl.Int64).alias('arm')


def _half_of(design: Design) -> pl.Expr:
    return (pl.col('cell') // design.steps % HALVES).cast(pl.Int64).alias('half')


def _by_arm(rows: pl.DataFrame, design: Design) -> NDArray[Any]:
    return np.bincount(rows['arm'].to_numpy(), minlength=len(design.arms))
