"""Requests and outcomes of one shard -> the sufficient statistics of each metric, arm, half and step of time."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.ab_evaluator.design import Arm, Design, Metric, parse_value
from tfx_cassandra.components.ab_evaluator.moments import Moments

REQUEST_COLUMNS = ('model_id', 'version', 'experiment_id', 'request_id', 'timestamp', 'prediction', 'confidence')
OUTCOME_COLUMNS = ('request_id', 'outcome', 'timestamp', 'value')
HALVES = 2
_HALF_SEED = 1  # not that of the shards, or a shard would be of one half
_LEAST_PROBABILITY = 1e-15  # as scikit-learn and Keras clip, so that one sure mistake is not infinitely wrong


@dataclasses.dataclass(frozen=True, eq=False)
class Tally:
    """What the verdict is made of, mergeable; all that is counted is counted of some requests.

    Attributes:
      requests: Shape (arms, halves, steps).
      moments: By metric, of (value, denominator, covariate); groups of shape (arms, halves, steps).
      left_out: By metric, requests without a value, shape (arms,).
      not_numbers: By metric, requests whose value is NaN or infinite, shape (arms,).
      crossed: Requests that were answered by two arms; they count for neither.
      unattributed: Requests without a version, of a model that several arms are versions of.
      outcomes: Outcomes read.
      orphans: Outcomes without a request.
    """

    requests: np.ndarray
    moments: dict[str, Moments]
    left_out: dict[str, np.ndarray]
    not_numbers: dict[str, np.ndarray]
    crossed: int = 0
    unattributed: int = 0
    outcomes: int = 0
    orphans: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.requests + other.requests,
            {name: moments + other.moments[name] for name, moments in self.moments.items()},
            {name: counts + other.left_out[name] for name, counts in self.left_out.items()},
            {name: counts + other.not_numbers[name] for name, counts in self.not_numbers.items()},
            self.crossed + other.crossed,
            self.unattributed + other.unattributed,
            self.outcomes + other.outcomes,
            self.orphans + other.orphans,
        )


def tally(requests: Sequence[pa.RecordBatch], outcomes: Sequence[pa.RecordBatch], design: Design) -> Tally:
    """Joins outcomes to requests and takes the moments of every metric.

    Args:
      requests: Rows of `inference_results`: REQUEST_COLUMNS and what `with_features` makes of `features`. Of several
        rows of one request in one arm the earliest counts.
      outcomes: Rows of `inference_outcomes`, with OUTCOME_COLUMNS. Of several rows of one outcome of one request the
        latest within the delay counts.
      design: The experiment.

    Returns:
      The tally, whatever the order of batches and rows.
    """
    features = {f'feature:{name}': pl.Float64 for name in design.names_of('feature')}
    asked, unattributed = _attributed(_frame(requests, _REQUEST_SCHEMA | features), design)
    once = asked.sort('request_id', 'timestamp').unique(['request_id', 'arm'], keep='first', maintain_order=True)
    crossed = once.filter(pl.col('request_id').is_duplicated())['request_id'].n_unique()
    single = once.filter(~pl.col('request_id').is_duplicated())
    known = _frame(outcomes, _OUTCOME_SCHEMA)
    orphans = known.join(once, on='request_id', how='anti').height
    rows = _with_outcomes(single, known, design)
    groups, shape = _groups(rows, design)
    cells = int(np.prod(shape))
    moments, left_out, not_numbers = {}, {}, {}
    for metric in design.metrics:
        values = rows.select(*_columns(metric)).to_numpy()  # (rows, 3): value, denominator, covariate; null is NaN
        absent = rows.select(pl.any_horizontal(*(column.is_null() for column in _columns(metric)))).to_series()
        finite, present = np.isfinite(values).all(axis=1), ~absent.to_numpy()
        left_out[metric.name] = _by_arm(rows, ~present, shape[0])
        not_numbers[metric.name] = _by_arm(rows, present & ~finite, shape[0])
        moments[metric.name] = Moments.of(values[finite], groups[finite], cells).reshape(*shape)
    counts = np.bincount(groups, minlength=cells).reshape(shape)
    return Tally(counts, moments, left_out, not_numbers, crossed, unattributed, known.height, orphans)


_REQUEST_SCHEMA = {
    'model_id': pl.String,
    'version': pl.String,
    'experiment_id': pl.String,
    'request_id': pl.String,
    'timestamp': pl.Datetime('ms', 'UTC'),
    'prediction': pl.Float64,
    'confidence': pl.Float64,
}
_OUTCOME_SCHEMA = {
    'request_id': pl.String,
    'outcome': pl.String,
    'timestamp': pl.Datetime('ms', 'UTC'),
    'value': pl.Float64,
}


def _frame(batches: Sequence[pa.RecordBatch], schema: dict) -> pl.DataFrame:
    if not batches:
        return pl.DataFrame(schema=schema)
    return pl.from_arrow(pa.Table.from_batches(batches))  # type: ignore[return-value]


def _attributed(requests: pl.DataFrame, design: Design) -> tuple[pl.DataFrame, int]:
    """Adds each request's arm, and drops those of no arm; returns also how many could be of several."""
    ours = requests.filter(pl.col('experiment_id').is_null() | (pl.col('experiment_id') == design.experiment_id))
    number = pl.lit(None, pl.Int64)
    for i, arm in enumerate(design.arms):
        number = pl.when(_is_of(arm, design)).then(i).otherwise(number)
    placed = ours.with_columns(number.alias('arm'))
    unclear = pl.col('arm').is_null() & pl.col('version').is_null()
    return placed.filter(pl.col('arm').is_not_null()), placed.filter(unclear).height


def _is_of(arm: Arm, design: Design) -> pl.Expr:
    of_version = pl.col('version') == arm.version
    if sum(other.model_id == arm.model_id for other in design.arms) == 1:
        of_version = of_version | pl.col('version').is_null()
    return (pl.col('model_id') == arm.model_id) & of_version


def _with_outcomes(requests: pl.DataFrame, outcomes: pl.DataFrame, design: Design) -> pl.DataFrame:
    """Adds a column `outcome:NAME` for each outcome that a metric takes, null where it was not known in time."""
    asked = requests.select('request_id', pl.col('timestamp').alias('asked'))
    in_time = outcomes.join(asked, on='request_id').filter(pl.col('timestamp') < pl.col('asked') + design.outcome_delay)
    rows = requests
    for name in design.names_of('outcome', 'squared_error', 'absolute_error', 'log_loss', 'correct'):
        last = in_time.filter(pl.col('outcome') == name).sort('timestamp').unique('request_id', keep='last')
        rows = rows.join(
            last.select('request_id', pl.col('value').alias(f'outcome:{name}')), on='request_id', how='left'
        )
    # In one order, whatever the joins and the runner did, so that a rerun gives the same bits.
    return rows.sort('request_id')


def _groups(rows: pl.DataFrame, design: Design) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Returns the cell of each row, and the shape of the cells: (arms, halves, steps)."""
    shape = (len(design.arms), HALVES, design.steps)
    half = rows.select(pl.col('request_id').hash(seed=_HALF_SEED) % HALVES).to_series().to_numpy().astype(np.int64)
    # In integers, or a request of the last millisecond might fall behind the last step.
    since = (rows['timestamp'].dt.epoch('ms').to_numpy() - design.window.bounds[0]) * 1000
    step = since // (design.step // datetime.timedelta(microseconds=1))
    return np.ravel_multi_index((rows['arm'].to_numpy(), half, step), shape), shape


def _by_arm(rows: pl.DataFrame, which: np.ndarray, arms: int) -> np.ndarray:
    return np.bincount(rows['arm'].to_numpy()[which], minlength=arms)


def _columns(metric: Metric) -> list[pl.Expr]:
    """Returns value, denominator and covariate of each row as numbers, zero for what the metric does not have."""
    expressions = (metric.value, metric.denominator, metric.covariate)
    return [
        (pl.lit(0.0) if value is None else _value(value, metric.missing)).cast(pl.Float64).alias(name)
        for name, value in zip('ydx', expressions, strict=True)
    ]


def _value(value: str, missing: float | None) -> pl.Expr:
    kind, name = parse_value(value)
    if name is None:
        return pl.col(kind)
    if kind == 'feature':
        return pl.col(value)
    outcome, prediction = pl.col(f'outcome:{name}'), pl.col('prediction')
    if kind != 'outcome':
        # Comparing and clipping would make numbers of NaN and infinities; a difference from itself leaves them NaN.
        prediction = prediction + (prediction - prediction) + (outcome - outcome)
    if kind == 'outcome':
        computed = outcome
    elif kind == 'squared_error':
        computed = (prediction - outcome) ** 2
    elif kind == 'absolute_error':
        computed = (prediction - outcome).abs()
    elif kind == 'correct':
        computed = ((prediction >= 0.5) == (outcome >= 0.5)).cast(pl.Float64) + (prediction - prediction)
    else:
        chance = prediction.clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        computed = -(outcome * chance.log() + (1 - outcome) * (1 - chance).log())
    return computed if missing is None else computed.fill_null(missing)


def with_features(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Puts a column `feature:NAME` of each name in the place of `features`, a list of maps a row.

    A name that stands in several maps of a row has its first value there; one that stands in none is null.
    """
    if 'features' not in batch.schema.names:
        return batch
    place = batch.schema.get_field_index('features')
    maps = batch.column(place)
    rows = pc.list_parent_indices(maps).to_numpy()
    entries = pc.list_flatten(maps)
    ends = entries.offsets.to_numpy()
    # The children are those of the unsliced array, which the offsets are about.
    keys, values = (child.slice(ends[0], ends[-1] - ends[0]) for child in (entries.keys, entries.items))
    rows = np.repeat(rows, np.diff(ends))
    plain = [i for i in range(batch.num_columns) if i != place]
    columns, fields = [batch.column(i) for i in plain], [batch.schema.field(i) for i in plain]
    for name in names:
        named = pc.equal(keys, name).to_numpy(zero_copy_only=False)
        found, first = np.unique(rows[named], return_index=True)
        chosen = np.full(batch.num_rows, -1)
        chosen[found] = np.flatnonzero(named)[first]
        columns.append(values.take(pa.array(chosen, mask=chosen < 0)))
        fields.append(pa.field(f'feature:{name}', pa.float64()))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
