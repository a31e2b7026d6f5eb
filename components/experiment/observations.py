"""Requests and outcomes of one shard -> one row per request, with the values of the metrics.

    rows of inference_results  -> prepare_requests -+
    rows of inference_outcomes -> prepare_outcomes -+-> join_outcomes

Both sides are reduced before they are shuffled, to a request id of 16 bytes and the columns that the metrics need. A
row of the result has `unit`, `request_id`, `timestamp`, `arm` (index in the design; null before the window), and for
each metric `NAME.y` (value), `NAME.d` (denominator of a ratio), `NAME.x` (covariate, if it is a feature) and `NAME.k`
(whether its outcomes are known, if it has any).
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
_UNATTRIBUTED, _EARLIER, _EXPOSED = -1, -2, -3  # in column `arm`
_DIGITS = [place for place in range(36) if place not in (8, 13, 18, 23)]  # of a uuid's text, without its dashes
_MIN_PROBABILITY = 1e-15  # clipped as in scikit-learn and Keras, so that the loss of a wrong 0 or 1 is finite


@dataclasses.dataclass(frozen=True)
class Counts:
    """Counts of requests and outcomes that the joined rows do not show.

    Attributes:
      unattributed: Requests without a version, of a model that several arms serve.
      exposed: Requests of the experiment before its window, if the covariate 'before' is used.
      outcomes: Outcomes read, without those of requests before the window.
      orphans: Outcomes without a request.
      ambiguous: Request ids of several units; their requests are left out.
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
    kinds = {parse_value(value)[0] for metric in design.metrics for value in metric.values}
    predicted = kinds & {'prediction', *OUTCOME_KINDS[1:]}
    columns = {'prediction': predicted, 'confidence': kinds & {'confidence'}, 'features': kinds & {'feature'}}
    return (*_IDENTITY, *(column for column, needed in columns.items() if needed))


def prepare_requests(batch: pa.RecordBatch, design: Design) -> pa.RecordBatch:
    """Reduces rows of `inference_results` to the columns that the metrics need, and drops rows that do not count.

    Args:
      batch: Rows with `request_columns`.
      design: The experiment.

    Returns:
      `request_id` (16 bytes), `timestamp`, `unit`, `arm`, and of `prediction`, `confidence` and `feature:NAME` the
      columns that the metrics need.
    """
    rows: pl.DataFrame = pl.from_arrow(_with_features(batch, design.names_of('feature')))  # type: ignore[assignment]
    rows = rows.with_columns(pl.col('unit').replace('', None))  # '' would be one unit of all arms
    requests = rows.with_columns(_arm(design).alias('arm'), _request_id_bytes(batch))
    requests = requests.filter(pl.col('arm').is_not_null())
    return arrow_of(requests.drop('model_id', 'version', 'experiment_id'))


def prepare_outcomes(batch: pa.RecordBatch, design: Design) -> pa.RecordBatch:
    """Reduces rows of `inference_outcomes`: an outcome's name becomes its index among the design's outcomes."""
    rows: pl.DataFrame = pl.from_arrow(batch)  # type: ignore[assignment]
    names = design.names_of(*OUTCOME_KINDS)
    index = pl.col('outcome').replace_strict(dict(zip(names, range(len(names)), strict=True)), return_dtype=pl.Int16)
    return arrow_of(rows.with_columns(index, _request_id_bytes(batch)))


def arrow_of(rows: pl.DataFrame) -> pa.RecordBatch:
    """Returns the rows as one Arrow record batch with types that any version of Arrow supports."""
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
      requests: Results of `prepare_requests`. The earliest row of a request in an arm counts.
      outcomes: Results of `prepare_outcomes`. The latest row of an outcome of a request within the delay counts; for a
        request before the window it must be known before the window.
      design: The experiment.
      as_of: Time of the evaluation, at which a request must be `design.maturity` old; None counts all requests.

    Returns:
      (one row per request and arm, ordered by request id for any order of batches and rows; counts)
    """
    rows = _frame(requests, _REQUEST_SCHEMA | {f'feature:{name}': pl.Float64 for name in design.names_of('feature')})
    known = _frame(outcomes, _OUTCOME_SCHEMA)
    if as_of is not None:
        known = known.filter(pl.col('timestamp') < _moment(as_of))  # so that a rerun as of an earlier time agrees
    rows, known = _numbered(rows, known)
    unattributed, exposed = (rows.filter(pl.col('arm') == code).height for code in (_UNATTRIBUTED, _EXPOSED))
    unique, repeated = _unique(rows.filter(pl.col('arm').is_in([_UNATTRIBUTED, _EXPOSED]).not_()))
    in_window = unique.filter(pl.col('arm') != _EARLIER)
    orphans = known.join(unique, on='request', how='anti').height
    matched = known.join(in_window, on='request', how='semi').height
    arm = pl.when(pl.col('arm') != _EARLIER).then(pl.col('arm').cast(pl.Int64)).alias('arm')
    values = [column for metric in design.metrics for column in _columns(metric)]
    units = repeated.filter(pl.col('arm') != _EARLIER).group_by('request').agg(pl.col('unit').n_unique())
    ambiguous = units.filter(pl.col('unit') > 1)
    counted = unique.join(ambiguous, on='request', how='anti').filter(_is_mature(design, as_of))
    joined = _with_outcomes(counted, known, design).select('unit', 'request_id', 'timestamp', arm, *values)
    immature = in_window.filter(~_is_mature(design, as_of)).height
    return joined, Counts(unattributed, exposed, matched + orphans, orphans, ambiguous.height, immature)


def _numbered(requests: pl.DataFrame, outcomes: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Adds a column `request`, the number of the request id among all, which is sorted and joined faster than it."""
    ids = pl.concat([requests['request_id'], outcomes['request_id']], rechunk=True)
    high, low = (ids.bin.slice(at, 8).bin.reinterpret(dtype=pl.UInt64, endianness='big').to_numpy() for at in (0, 8))
    order = np.argsort(high)
    new, differs = (np.diff(half[order]) != 0 for half in (high, low))
    if (differs & ~new).any():  # two ids have their first half in common
        order = np.lexsort((low, high))
        new = (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0)
    number = np.zeros(len(ids), np.int64)
    number[order[1:]] = np.cumsum(new)
    return (
        requests.with_columns(pl.Series('request', number[: requests.height])),
        outcomes.with_columns(pl.Series('request', number[requests.height :])),
    )


def _unique(requests: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Keeps the earliest row of each request, arm and unit; returns also those of requests that had several rows."""
    key = ('request', 'arm', 'timestamp')
    several = _several(requests['request'])
    repeated = requests.filter(several)
    # By all columns, so that rows with equal timestamps have a fixed order too.
    repeated = repeated.sort(*key, *(name for name in requests.columns if name not in key))
    repeated = repeated.unique(['request', 'arm', 'unit'], keep='first', maintain_order=True)
    return pl.concat([requests.filter(~several), repeated]), repeated


def _several(numbers: pl.Series) -> pl.Series:
    """Says of each row whether others have its number: what only they need is too slow for all."""
    return pl.Series(np.bincount(numbers)[numbers] > 1, dtype=pl.Boolean)


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


def _request_id_bytes(batch: pa.RecordBatch) -> pl.Series:
    """Returns the request ids as 16 bytes: less than half the size of the column that dominates the shuffle.

    They are read as the texts of uuids, all of 36 characters; decoding text by text takes ten times as long.
    """
    texts = batch.column(batch.schema.get_field_index('request_id'))
    if not len(texts):
        return pl.Series('request_id', [], pl.Binary)
    _, offsets, content = texts.buffers()
    start = np.frombuffer(offsets, np.int32)[texts.offset]
    digits = np.frombuffer(content, np.uint8, 36 * len(texts), start).reshape(-1, 36)[:, _DIGITS]  # (rows, 32)
    nibbles = (digits & 15) + 9 * (digits >> 6)  # of 0-9 the low bits; of a-f and A-F these and 9
    ids = (nibbles[:, ::2] << 4) | nibbles[:, 1::2]  # (rows, 16)
    return pl.Series(
        'request_id',
        pl.from_arrow(pa.Array.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(np.ascontiguousarray(ids))])),
    )


def _arm(design: Design) -> pl.Expr:
    """Returns the index of a request's arm; _UNATTRIBUTED if several arms match, null if none does."""
    index: pl.Expr = pl.when(pl.col('version').is_null()).then(pl.lit(_UNATTRIBUTED, pl.Int16))
    for i, arm in enumerate(design.arms):
        index = pl.when(_is_of(arm, design)).then(pl.lit(i, pl.Int16)).otherwise(index)
    of_experiment = pl.col('experiment_id').is_null() | (pl.col('experiment_id') == design.experiment_id)
    # Before the window there are no arms, and a request without a unit cannot be matched to one in the window.
    earlier: pl.Expr = pl.when(pl.col('unit').is_not_null()).then(pl.lit(_EARLIER, pl.Int16))
    earlier = (
        pl.when(pl.col('experiment_id') == design.experiment_id).then(pl.lit(_EXPOSED, pl.Int16)).otherwise(earlier)
    )
    return pl.when(pl.col('timestamp') < _start(design)).then(earlier).when(of_experiment).then(index)


def _start(design: Design) -> pl.Expr:
    return pl.lit(design.window.start.astimezone(datetime.timezone.utc)).cast(pl.Datetime('ms', 'UTC'))


def _is_of(arm: Arm, design: Design) -> pl.Expr:
    of_version = pl.col('version') == arm.version
    if sum(other.model_id == arm.model_id for other in design.arms) == 1:
        of_version = of_version | pl.col('version').is_null()
    return (pl.col('model_id') == arm.model_id) & of_version


def _with_outcomes(requests: pl.DataFrame, outcomes: pl.DataFrame, design: Design) -> pl.DataFrame:
    """Adds a column `outcome:NAME` for each outcome of the metrics, null where it was not known in time."""
    due = pl.col('timestamp') + design.outcome_delay
    due_before_window = pl.min_horizontal(due, _start(design))
    deadline = pl.when(pl.col('arm') == _EARLIER).then(due_before_window).otherwise(due)
    # Sorted, so that a rerun gives the same bits. Requests before and in the window may share an id.
    rows = requests.sort('request', 'arm', maintain_order=True).with_row_index('row')
    in_time = outcomes.join(
        rows.select('request', 'row', pl.col('timestamp').alias('requested'), deadline.alias('deadline')), on='request'
    ).filter(pl.col('timestamp').is_between(pl.col('requested') - CLOCK_SKEW, pl.col('deadline'), closed='left'))
    for index, name in enumerate(design.names_of(*OUTCOME_KINDS)):
        value = pl.col('value').alias(f'outcome:{name}')
        found = in_time.filter(pl.col('outcome') == index).select('row', 'timestamp', value)
        several = _several(found['row'])
        latest = (
            found.filter(several).sort('timestamp', f'outcome:{name}').unique('row', keep='last', maintain_order=True)
        )
        found = pl.concat([found.filter(~several), latest]).drop('timestamp')
        rows = rows.join(found, on='row', how='left', maintain_order='left')
    return rows


def _columns(metric: Metric) -> list[pl.Expr]:
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


def _with_features(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Replaces `features`, a list of maps in each row, by a column `feature:NAME` of each name.

    The first map of a row with the name gives the value; it is null if there is none.
    """
    if 'features' not in batch.schema.names:
        return batch
    index = batch.schema.get_field_index('features')
    maps = batch.column(index)
    rows = pc.list_parent_indices(maps).to_numpy()
    entries = pc.list_flatten(maps)
    ends = entries.offsets.to_numpy()
    # Keys and items are those of the unsliced array, which the offsets refer to.
    keys, values = (child.slice(ends[0], ends[-1] - ends[0]) for child in (entries.keys, entries.items))
    rows = np.repeat(rows, np.diff(ends))
    others = [i for i in range(batch.num_columns) if i != index]
    columns, fields = [batch.column(i) for i in others], [batch.schema.field(i) for i in others]
    for name in names:
        matches = pc.equal(keys, name).to_numpy(zero_copy_only=False)
        matching_rows, firsts = np.unique(rows[matches], return_index=True)
        entry_of_row = np.full(batch.num_rows, -1)
        entry_of_row[matching_rows] = np.flatnonzero(matches)[firsts]
        columns.append(values.take(pa.array(entry_of_row, mask=entry_of_row < 0)))
        fields.append(pa.field(f'feature:{name}', pa.float64()))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
