"""Rows of requests -> their units -> the sufficient statistics of each metric, arm, half and step of time."""

from __future__ import annotations

import dataclasses
import datetime

import numpy as np
import polars as pl

from tfx_cassandra.components.experiment.design import Design, Metric
from tfx_cassandra.components.experiment.moments import Moments
from tfx_cassandra.components.experiment.observations import Counts

HALVES = 2
_GREATEST = 1e100  # sums of squares of more are infinite
_HALF_SEED = 1  # not that of the shards, or a shard would be of one half


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """What the verdict is made of, mergeable.

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
    """

    requests: np.ndarray
    units: np.ndarray
    moments: dict[str, Moments]
    left_out: dict[str, np.ndarray]
    unusable: dict[str, np.ndarray]
    crossed: int = 0
    counts: Counts = dataclasses.field(default_factory=Counts)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.requests + other.requests,
            self.units + other.units,
            {name: moments + other.moments[name] for name, moments in self.moments.items()},
            {name: counts + other.left_out[name] for name, counts in self.left_out.items()},
            {name: counts + other.unusable[name] for name, counts in self.unusable.items()},
            self.crossed + other.crossed,
            self.counts + other.counts,
        )


def tally(rows: pl.DataFrame, counts: Counts, design: Design) -> Tally:
    """Takes the moments of every metric over units; a request without a unit is its own.

    Args:
      rows: As `observations.observed` returns them, with every request of each unit.
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
    moments, left_out, unusable = {}, {}, {}
    for metric in design.metrics:
        absent, usable = _absent(metric), _usable(metric)
        left_out[metric.name] = _by_arm(placed.filter(absent), design)
        unusable[metric.name] = _by_arm(placed.filter(~absent & ~usable), design)
        units = _units(metric, placed.filter(usable), _covariates(metric, firsts, rows))
        values = units.select('y', 'd', 'x', 'known').to_numpy()  # (units, 4)
        taken = Moments.of(values, units['cell'].to_numpy(), cells)
        moments[metric.name] = taken.reshape(len(design.arms), HALVES, design.steps)
    requests, units_of_arms = _by_arm(placed, design), _by_arm(firsts, design)
    return Tally(requests, units_of_arms, moments, left_out, unusable, crossed, counts)


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
    usable = pl.all_horizontal((column.abs() <= _GREATEST).fill_null(False) for column in _columns_of(metric))
    return usable & pl.col(f'{metric.name}.y').is_in([0.0, 1.0]) if metric.kind == 'proportion' else usable


def _units(metric: Metric, placed: pl.DataFrame, covariates: pl.DataFrame) -> pl.DataFrame:
    """Returns unit, cell, y, d, x and known of each unit that has a value."""
    each = placed.group_by('unit', maintain_order=True).agg(pl.col('cell').first(), *_sums(metric))
    joined = each.join(covariates, on='unit', how='left', maintain_order='left')
    known = pl.col('x').abs() <= _GREATEST
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


def _by_arm(rows: pl.DataFrame, design: Design) -> np.ndarray:
    return np.bincount(rows['arm'].to_numpy(), minlength=len(design.arms))
