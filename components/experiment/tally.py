"""Rows of requests -> their units -> the sufficient statistics of each metric, arm, half and time step."""

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
MAX_EXACT_UNITS = 60  # per arm, whose values are kept for exact tests
HEAVIEST = 3  # units of an arm that the report names
_MAX_SIZE = 1e100  # sums of squares of more may overflow
_MIN_SIZE = 1e-100  # squares of less may underflow
_HALF_SEED = 1  # other than the shards' seed, so that every shard has units of both halves


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """Mergeable statistics that the verdict is computed from.

    Attributes:
      requests: Number of requests, shape (arms,).
      units: Number of units, shape (arms,).
      moments: By metric, moments of each unit's (value, denominator, covariate, whether the covariate is known); groups
        of shape (arms, halves, steps). A unit is in the step of its first request.
      left_out: By metric, requests without a value, shape (arms,).
      unusable: By metric, requests whose value is NaN, infinite or beyond 1e100, or for a proportion neither 0 nor 1,
        shape (arms,).
      crossed: Units that were answered by several arms; they count for none.
      counts: Counts from the join of outcomes to requests.
      valued: By metric, moments of each unit's (requests with a value, requests); groups of shape (arms,).
      outcomes: By metric with outcomes, units with at least one known outcome, shape (arms,).
      heaviest: By metric, the units with the largest weights: frames of `arm`, `unit`, `weight`, up to HEAVIEST an arm.
      weights: By metric, the sum of all units' weights, shape (arms,).
      few: By metric, `arm`, `half`, `y` and `d` of each unit of arms with few units; see `units_of`.
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
        """Returns the units with a value in one arm, or None if there are more than MAX_EXACT_UNITS."""
        if metric not in self.few:
            return None
        units = self.few[metric].filter(pl.col('arm') == place)
        # A shard with more units has dropped its own, so the rest is incomplete.
        return units if units.height == self.moments[metric].n[place].sum() else None


def tally(rows: pl.DataFrame, counts: Counts, design: Design) -> Tally:
    """Computes the statistics of every metric over units; a request without a unit is a unit of its own.

    Args:
      rows: As `observations.join_outcomes` returns them, with every request of each unit.
      counts: Counts from the join, which become part of the tally.
      design: The experiment.

    Returns:
      The tally, with the same bits for any order of rows.
    """
    unit = pl.col('unit').cast(pl.Binary).fill_null(pl.col('request_id'))
    rows = rows.with_columns(unit).sort('unit', 'timestamp', 'request_id')
    in_window = rows.filter(pl.col('arm').is_not_null())
    several_arms = _several_arms(in_window)
    crossed = in_window.filter(several_arms)['unit'].n_unique()
    requests = _with_cells(in_window.filter(~several_arms), design)
    firsts = requests.filter(pl.col('number').diff().fill_null(1) != 0)
    cells = len(design.arms) * HALVES * design.steps
    moments, left_out, unusable, outcomes, heaviest, weights, few = {}, {}, {}, {}, {}, {}, {}
    for metric in design.metrics:
        absent, usable = _absent(metric), _usable(metric)
        left_out[metric.name] = _by_arm(requests.filter(absent), design)
        unusable[metric.name] = _by_arm(requests.filter(~absent & ~usable), design)
        units = _units(metric, requests.filter(usable), _covariates(metric, firsts, rows))
        weighted = units.select(_arm_of(design), 'unit', _weight(metric))
        heaviest[metric.name] = _heaviest(weighted)
        weights[metric.name] = np.bincount(weighted['arm'].to_numpy(), weighted['weight'].to_numpy(), len(design.arms))
        units = _rounded(_capped(metric, units))
        few[metric.name] = _few(units.select(_arm_of(design), _half_of(design), 'y', 'd'))
        if metric.outcomes:
            answered = requests.filter(pl.col(f'{metric.name}.k')).unique('number')
            outcomes[metric.name] = _by_arm(answered, design)
        values = units.select('y', 'd', 'x', 'known').to_numpy()  # (units, 4)
        by_cell = Moments.of(values, units['cell'].to_numpy(), cells)
        moments[metric.name] = by_cell.reshape(len(design.arms), HALVES, design.steps)
    return Tally(
        _by_arm(requests, design),
        _by_arm(firsts, design),
        moments,
        left_out,
        unusable,
        crossed,
        counts,
        _valued(requests, firsts, design),
        outcomes,
        heaviest,
        weights,
        few,
    )


def _several_arms(requests: pl.DataFrame) -> pl.Series:
    """Says of requests, sorted by unit, whether several arms answered their unit."""
    number, arm = requests['unit'].rle_id().to_numpy(), requests['arm'].to_numpy()
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    several = np.minimum.reduceat(arm, starts) != np.maximum.reduceat(arm, starts) if len(arm) else arm
    return pl.Series(several[number], dtype=pl.Boolean)


def _with_cells(rows: pl.DataFrame, design: Design) -> pl.DataFrame:
    """Adds to each row, sorted by unit, the unit's number and its cell: its flat index in (arms, halves, steps)."""
    rows = rows.with_columns(pl.col('unit').rle_id().cast(pl.Int64).alias('number'))
    half = (pl.col('unit').hash(seed=_HALF_SEED) % HALVES).cast(pl.Int64)
    # Integer arithmetic: with floats a request of the last millisecond might be after the last step.
    since = (pl.col('timestamp').first().over('number').dt.epoch('ms') - design.window.bounds[0]) * 1000
    step = since // (design.step // datetime.timedelta(microseconds=1))
    return rows.with_columns(((pl.col('arm') * HALVES + half) * design.steps + step).alias('cell'))


def _columns_of(metric: Metric) -> list[pl.Expr]:
    return [pl.col(f'{metric.name}.{name}') for name in ('y', *(['d'] if metric.denominator else []))]


def _absent(metric: Metric) -> pl.Expr:
    return pl.any_horizontal(column.is_null() for column in _columns_of(metric))


def _usable(metric: Metric) -> pl.Expr:
    usable = pl.all_horizontal((column.abs() <= _MAX_SIZE).fill_null(False) for column in _columns_of(metric))
    return usable & pl.col(f'{metric.name}.y').is_in([0.0, 1.0]) if metric.kind == 'proportion' else usable


def _units(metric: Metric, requests: pl.DataFrame, covariates: pl.DataFrame) -> pl.DataFrame:
    """Returns `unit`, `cell`, `y`, `d`, `x` and `known` of each unit with a value."""
    sums = requests.group_by('number', maintain_order=True).agg(pl.col('unit', 'cell').first(), *_sums(metric))
    joined = sums.join(covariates, on='unit', how='left', maintain_order='left')
    known = pl.col('x').abs() <= _MAX_SIZE
    return joined.with_columns(
        pl.when(known).then('x').otherwise(0.0).alias('x'), known.cast(pl.Float64).fill_null(0.0).alias('known')
    )


def _covariates(metric: Metric, firsts: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Returns `unit` and the pre-exposure covariate `x` of the units that have one.

    Args:
      metric: The metric.
      firsts: The first request of each unit in the window.
      rows: All requests, also those before the window.
    """
    if metric.covariate is None:
        return pl.DataFrame(schema={'unit': pl.Binary, 'x': pl.Float64})
    if metric.feature is not None:
        # Of the first request even if it has no value: the arm may influence which requests have one.
        return firsts.select('unit', pl.col(f'{metric.name}.x').alias('x'))
    earlier = rows.filter(pl.col('arm').is_null() & _usable(metric))
    units = earlier.group_by('unit', maintain_order=True).agg(*_sums(metric)).filter(pl.col('d') != 0)
    return units.select('unit', (pl.col('y') / pl.col('d')).alias('x'))


def _sums(metric: Metric) -> tuple[pl.Expr, pl.Expr]:
    """Returns a unit's y and d, over its requests with a value."""
    y = pl.col(f'{metric.name}.y')
    if metric.per == 'unit':
        return (y.max() if metric.kind == 'proportion' else y.sum()).alias('y'), pl.lit(1.0).alias('d')
    d = pl.col(f'{metric.name}.d').sum() if metric.denominator else y.len().cast(pl.Float64)
    return y.sum().alias('y'), d.alias('d')


def _rounded(units: pl.DataFrame) -> pl.DataFrame:
    """Sets tiny values, whose squares would underflow, to zero."""
    rounded = (pl.when(pl.col(name).abs() < _MIN_SIZE).then(0.0).otherwise(pl.col(name)).alias(name) for name in 'ydx')
    return units.with_columns(rounded)


def _capped(metric: Metric, units: pl.DataFrame) -> pl.DataFrame:
    """Limits each unit's contribution to the metric's cap: its sum, or the weight of its requests."""
    if metric.cap is None:
        return units
    if metric.per == 'unit':
        return units.with_columns(pl.col('y').clip(-metric.cap, metric.cap))
    share = pl.when(pl.col('d').abs() > metric.cap).then(metric.cap / pl.col('d').abs()).otherwise(1.0)
    return units.with_columns(pl.col('y') * share, pl.col('d') * share)


def _valued(requests: pl.DataFrame, firsts: pl.DataFrame, design: Design) -> dict[str, Moments]:
    """Returns by metric the moments of (requests with a value, requests) over units, by arm."""
    number, arm = requests['number'].to_numpy(), firsts['arm'].to_numpy()
    counted = np.bincount(number)
    zero = np.zeros(len(counted))
    moments = {}
    for metric in design.metrics:
        usable = np.bincount(number, requests.select(_usable(metric)).to_series().to_numpy())
        # The variables that the statistics expect: value, denominator, and no covariate.
        moments[metric.name] = Moments.of(np.stack([usable, counted, zero, zero], axis=1), arm, len(design.arms))
    return moments


def _weight(metric: Metric) -> pl.Expr:
    return pl.col('y' if metric.per == 'unit' else 'd').abs().alias('weight')


def _heaviest(units: pl.DataFrame) -> pl.DataFrame:
    """Returns the units with the largest weights, up to HEAVIEST an arm; of equal ones those that are first by name."""
    least = pl.col('weight').top_k(HEAVIEST).min().over('arm')
    # Sorting is for those that may be among them, which of millions of units of one weight are few.
    equal = units.filter(pl.col('weight') == least).group_by('arm').agg(pl.col('unit').bottom_k(HEAVIEST))
    equal = units.join(equal.explode('unit'), on=['arm', 'unit'], how='semi')
    ordered = pl.concat([units.filter(pl.col('weight') > least), equal.filter(pl.col('weight') == least)])
    ordered = ordered.sort('arm', 'weight', 'unit', descending=[False, True, False])
    return ordered.group_by('arm', maintain_order=True).head(HEAVIEST).select('arm', 'unit', 'weight')


def _few(units: pl.DataFrame) -> pl.DataFrame:
    return units.filter(pl.len().over('arm') <= MAX_EXACT_UNITS)


def _arm_of(design: Design) -> pl.Expr:
    return (pl.col('cell') // (HALVES * design.steps)).cast(pl.Int64).alias('arm')


def _half_of(design: Design) -> pl.Expr:
    return (pl.col('cell') // design.steps % HALVES).cast(pl.Int64).alias('half')


def _by_arm(rows: pl.DataFrame, design: Design) -> NDArray[Any]:
    return np.bincount(rows['arm'].to_numpy(), minlength=len(design.arms))
