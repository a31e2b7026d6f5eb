"""Values of the metrics of each request."""

from __future__ import annotations

import polars as pl

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment.design import OUTCOME_KINDS, Metric, parse_value

_MIN_PROBABILITY = 1e-15  # clipped as in scikit-learn and Keras, so that the loss of a wrong 0 or 1 is finite


def metric_columns(metric: Metric) -> list[pl.Expr]:
    """Returns a metric's value, denominator and covariate of each request."""
    values = {'y': metric.value, 'd': metric.denominator, 'x': metric.feature}
    columns = [
        _value(value, metric.missing).cast(pl.Float64).alias(f'{metric.name}.{name}')
        for name, value in values.items()
        if value is not None
    ]
    if metric.outcomes:
        known = pl.all_horizontal(pl.col(f'outcome:{name}').is_not_null() for name in metric.outcomes)
        columns.append(known.alias(f'{metric.name}.k'))
    return columns


def _value(value: str, missing: float | None) -> pl.Expr:
    kind, name = parse_value(value)
    if kind == 'requests':
        return pl.lit(1.0)
    if name is None:
        return pl.col(kind)
    if kind == 'feature':
        return pl.col(value)
    outcome, prediction = pl.col(f'outcome:{name}'), pl.col('prediction')
    if kind != 'outcome':
        # Comparisons and clip turn NaN and infinities into numbers; x + (x - x) is NaN for them.
        prediction = prediction + (prediction - prediction) + (outcome - outcome)
    if kind == 'outcome':
        computed = outcome
    elif kind == 'squared_error':
        computed = (prediction - outcome) ** 2
    elif kind == 'absolute_error':
        computed = (prediction - outcome).abs()
    elif kind == 'correct':
        computed = ((prediction >= 0.5) == (outcome >= 0.5)).cast(pl.Float64) + (prediction - prediction)
    elif kind == 'log_loss':
        probability = prediction.clip(_MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        computed = -(outcome * probability.log() + (1 - outcome) * (1 - probability).log())
    else:
        raise invalid('value', value, f'one of {", ".join(OUTCOME_KINDS)}, with a name')
    return computed if missing is None else pl.when(outcome.is_null()).then(missing).otherwise(computed)
