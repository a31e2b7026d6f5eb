"""Requests and outcomes of one shard -> one row a request, with the values that its metrics take.

    rows of inference_results  -> prepare_requests -+
    rows of inference_outcomes -> prepare_outcomes -+-> join_outcomes

Both sides are reduced before they are shuffled, to an identity of 16 bytes and the columns that the metrics need.
A row of the result has `unit`, `request_id`, `timestamp`, `arm` (place in the design; null before the window), and of
each metric `NAME.y` (value), `NAME.d` (denominator, where it is a ratio), `NAME.x` (covariate, where a
feature) and `NAME.k` (whether its outcomes are known, where it takes some).
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment.design import CLOCK_SKEW, OUTCOME_KINDS, Arm, Design, Metric, parse_value

OUTCOME_COLUMNS = ('request_id', 'outcome', 'timestamp', 'value')
_IDENTITY = ('model_id', 'version', 'experiment_id', 'request_id', 'timestamp', 'unit')
_UNATTRIBUTED, _EARLIER, _EXPOSED = -1, -2, -3  # in the place of an arm
_MIN_PROBABILITY = 1e-15  # clipped as scikit-learn and Keras do, so that the loss of one wrong 0 or 1 is finite


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of requests and outcomes that were found beside the rows.

    Attributes:
      unattributed: Requests without a version, of a model that several arms are versions of.
      exposed: Requests of the experiment before its window, where the time before is looked at.
      outcomes: Outcomes read, without those of requests before the window.
      orphans: Outcomes without a request.
      ambiguous: Request ids that stand for several units; their requests count for none.
      immature: Requests of the window that are too young to count at the time of the evaluation.
    """

    unattributed: int = 0
    exposed: int = 0
    outcomes: int = 0
    orphans: int = 0
    ambiguous: int = 0
    immature: int = 0

    def __add__(self, other: Counts) -> Counts:
        left, right = dataclasses.astuple(self), dataclasses.astuple(other)
        return Counts(*(a + b for a, b in zip(left, right, strict=True)))


def request_columns(design: Design) -> tuple[str, ...]:
    """Returns the columns of `inference_results` that a design needs."""
    taken = {parse_value(value)[0] for metric in design.metrics for value in metric.values}
    predicted = taken & {'prediction', *OUTCOME_KINDS[1:]}
    names = {'prediction': predicted, 'confidence': taken & {'confidence'}, 'features': taken & {'feature'}}
    return (*_IDENTITY, *(name for name, wanted in names.items() if wanted))


def prepare_requests(batch: pa.RecordBatch, design: Design) -> pa.RecordBatch:
    """Reduces rows of `inference_results` to what the metrics need, and drops rows that do not count.

    Args:
      batch: Rows with `request_columns`.
      design: The experiment.

    Returns:
      `request_id` (16 bytes), `timestamp`, `unit`, `arm`, and those of `prediction`, `confidence` and `feature:NAME`
      that the metrics need.
    """
    rows: pl.DataFrame = pl.from_arrow(_with_features(batch, design.names_of('feature')))  # type: ignore[assignment]
    unit = pl.col('unit').replace('', None)  # no unit; '' would count as one unit that is in all arms
    rows = rows.with_columns(unit)
    of_experiment = rows.with_columns(_placed(design).alias('arm'), _bytes_of_identity())
    of_experiment = of_experiment.filter(pl.col('arm').is_not_null())
    return arrow_of(of_experiment.drop('model_id', 'version', 'experiment_id'))


def prepare_outcomes(batch: pa.RecordBatch, design: Design) -> pa.RecordBatch:
    """Reduces rows of `inference_outcomes`: an outcome's name becomes its index among the design's outcomes."""
    rows: pl.DataFrame = pl.from_arrow(batch)  # type: ignore[assignment]
    names = design.names_of(*OUTCOME_KINDS)
    place = pl.col('outcome').replace_strict(dict(zip(names, range(len(names)), strict=True)), return_dtype=pl.Int16)
    return arrow_of(rows.with_columns(place, _bytes_of_identity()))


def arrow_of(rows: pl.DataFrame) -> pa.RecordBatch:
    """Returns the rows as one Arrow record batch of types that any version of Arrow has."""
    table = rows.to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()
    return next(iter(table.to_batches()), pa.RecordBatch.from_pylist([], table.schema))


def join_outcomes(
    requests: Sequence[pa.RecordBatch],
    outcomes: Sequence[pa.RecordBatch],
    design: Design,
    as_of: datetime.datetime | None = None,
) -> tuple[pl.DataFrame, Counts]:
    """Joins outcomes to requests and computes each request's values of the metrics.

    Args:
      requests: What `prepare_requests` returned. Of several rows of one request in one arm the earliest counts.
      outcomes: What `prepare_outcomes` returned. Of several rows of one outcome of one request the latest within the
        delay counts; of a request before the window it must have been known before the window, too.
      design: The experiment.
      as_of: Time of the evaluation, by which a request must be `design.maturity` old; None takes all for old enough.

    Returns:
      (one row a request and arm, in the order of request ids, whatever the order of batches and rows; counts)
    """
    rows = _frame(requests, _REQUEST_SCHEMA | {f'feature:{name}': pl.Float64 for name in design.names_of('feature')})
    unattributed, exposed = (rows.filter(pl.col('arm') == code).height for code in (_UNATTRIBUTED, _EXPOSED))
    # By all columns, so that rows of one moment are in one order, too.
    first = ('request_id', 'arm', 'timestamp')
    placed = rows.sort(*first, *(name for name in rows.columns if name not in first))
    once = placed.filter(pl.col('arm').is_in([_UNATTRIBUTED, _EXPOSED]).not_()).unique(
        ['request_id', 'arm', 'unit'], keep='first', maintain_order=True
    )
    later = _frame(outcomes, _OUTCOME_SCHEMA)
    if as_of is not None:
        later = later.filter(pl.col('timestamp') < _moment(as_of))  # an earlier look anew counts what it counted then
    orphans = later.join(once, on='request_id', how='anti').height
    matched = later.join(once.filter(pl.col('arm') != _EARLIER), on='request_id', how='semi').height
    arm = pl.when(pl.col('arm') != _EARLIER).then(pl.col('arm').cast(pl.Int64)).alias('arm')
    values = [column for metric in design.metrics for column in _columns(metric)]
    inside = once.filter(pl.col('arm') != _EARLIER)
    ambiguous = inside.group_by('request_id').agg(pl.col('unit').n_unique()).filter(pl.col('unit') > 1)
    counted = once.join(ambiguous, on='request_id', how='anti').filter(_is_mature(design, as_of))
    joined = _with_outcomes(counted, later, design).select('unit', 'request_id', 'timestamp', arm, *values)
    immature = inside.filter(~_is_mature(design, as_of)).height
    return joined, Counts(unattributed, exposed, matched + orphans, orphans, ambiguous.height, immature)


def _is_mature(design: Design, as_of: datetime.datetime | None) -> pl.Expr:
    if as_of is None:
        return pl.lit(True)
    return pl.col('timestamp').cast(pl.Datetime('us', 'UTC')) + design.maturity <= _moment(as_of)


def _moment(time: datetime.datetime) -> pl.Expr:
    return pl.lit(time.astimezone(datetime.timezone.utc)).cast(pl.Datetime('us', 'UTC'))


_REQUEST_SCHEMA = {
    'request_id': pl.Binary,
    'timestamp': pl.Datetime('ms', 'UTC'),
    'unit': pl.String,
    'arm': pl.Int16,
    'prediction': pl.Float64,
    'confidence': pl.Float64,
}
_OUTCOME_SCHEMA = {
    'request_id': pl.Binary,
    'outcome': pl.Int16,
    'timestamp': pl.Datetime('ms', 'UTC'),
    'value': pl.Float64,
}


def _frame(batches: Sequence[pa.RecordBatch], schema: dict[str, Any]) -> pl.DataFrame:
    if not batches:
        return pl.DataFrame(schema=schema)
    return pl.from_arrow(pa.Table.from_batches(batches))  # type: ignore[return-value]


def _bytes_of_identity() -> pl.Expr:
    """Returns a UUID's text as 16 bytes: less than half the size, and most of what is shuffled."""
    return pl.col('request_id').str.replace_all('-', '', literal=True).str.decode('hex')


def _placed(design: Design) -> pl.Expr:
    """Returns the index of a request's arm; _UNATTRIBUTED if several arms match, null if none does."""
    place: pl.Expr = pl.when(pl.col('version').is_null()).then(pl.lit(_UNATTRIBUTED, pl.Int16))
    for i, arm in enumerate(design.arms):
        place = pl.when(_is_of(arm, design)).then(pl.lit(i, pl.Int16)).otherwise(place)
    of_experiment = pl.col('experiment_id').is_null() | (pl.col('experiment_id') == design.experiment_id)
    # Before the window there are no arms, and a request without a unit cannot be matched to one in the window.
    earlier: pl.Expr = pl.when(pl.col('unit').is_not_null()).then(pl.lit(_EARLIER, pl.Int16))
    earlier = (
        pl.when(pl.col('experiment_id') == design.experiment_id).then(pl.lit(_EXPOSED, pl.Int16)).otherwise(earlier)
    )
    return pl.when(pl.col('timestamp') < _start(design)).then(earlier).when(of_experiment).then(place)


def _start(design: Design) -> pl.Expr:
    return pl.lit(design.window.start.astimezone(datetime.timezone.utc)).cast(pl.Datetime('ms', 'UTC'))


def _is_of(arm: Arm, design: Design) -> pl.Expr:
    of_version = pl.col('version') == arm.version
    if sum(other.model_id == arm.model_id for other in design.arms) == 1:
        of_version = of_version | pl.col('version').is_null()
    return (pl.col('model_id') == arm.model_id) & of_version


def _with_outcomes(requests: pl.DataFrame, outcomes: pl.DataFrame, design: Design) -> pl.DataFrame:
    """Adds a column `outcome:NAME` for each outcome that a metric takes, null where it was not known in time."""
    delayed = pl.col('timestamp') + design.outcome_delay
    before = pl.min_horizontal(delayed, _start(design))
    until = pl.when(pl.col('arm') == _EARLIER).then(before).otherwise(delayed)
    in_time = outcomes.join(
        requests.select('request_id', 'arm', pl.col('timestamp').alias('requested'), until.alias('until')),
        on='request_id',
    ).filter(pl.col('timestamp').is_between(pl.col('requested') - CLOCK_SKEW, pl.col('until'), closed='left'))
    key = ['request_id', 'arm']  # a request before the window and one in it may have one id
    rows = requests
    for place, name in enumerate(design.names_of(*OUTCOME_KINDS)):
        last = in_time.filter(pl.col('outcome') == place).sort('timestamp', 'value').unique(key, keep='last')
        rows = rows.join(last.select(*key, pl.col('value').alias(f'outcome:{name}')), on=key, how='left')
    # Sorted, so that a rerun gives the same bits whatever the order of the joins and the runner.
    return rows.sort(key)


def _columns(metric: Metric) -> list[pl.Expr]:
    """Returns the values, denominators and covariates that a metric takes of requests."""
    taken = {'y': metric.value, 'd': metric.denominator, 'x': metric.feature}
    columns = [
        _value(value, metric.missing).cast(pl.Float64).alias(f'{metric.name}.{name}')
        for name, value in taken.items()
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
    elif kind == 'log_loss':
        chance = prediction.clip(_MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
        computed = -(outcome * chance.log() + (1 - outcome) * (1 - chance).log())
    else:
        raise invalid('value', value, f'one of {", ".join(OUTCOME_KINDS)}, with a name')
    return computed if missing is None else pl.when(outcome.is_null()).then(missing).otherwise(computed)


def _with_features(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
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
