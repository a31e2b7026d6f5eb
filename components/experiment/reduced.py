"""Rows of the inference logs, reduced to what the metrics of an A/B test need before they are shuffled."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.experiment.design import OUTCOME_KINDS, Arm, Design, parse_value

OUTCOME_COLUMNS = ('request_id', 'outcome', 'timestamp', 'value')
UNATTRIBUTED, EARLIER, EXPOSED = -1, -2, -3  # in column `arm`
_IDENTITY = ('model_id', 'version', 'experiment_id', 'request_id', 'timestamp', 'unit')
_DIGITS = [place for place in range(36) if place not in (8, 13, 18, 23)]  # of a uuid's text, without its dashes


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
    """Returns the index of a request's arm; UNATTRIBUTED if several arms match, null if none does."""
    index: pl.Expr = pl.when(pl.col('version').is_null()).then(pl.lit(UNATTRIBUTED, pl.Int16))
    for i, arm in enumerate(design.arms):
        index = pl.when(_is_of(arm, design)).then(pl.lit(i, pl.Int16)).otherwise(index)
    of_experiment = pl.col('experiment_id').is_null() | (pl.col('experiment_id') == design.experiment_id)
    # Before the window there are no arms, and a request without a unit cannot be matched to one in the window.
    earlier: pl.Expr = pl.when(pl.col('unit').is_not_null()).then(pl.lit(EARLIER, pl.Int16))
    earlier = (
        pl.when(pl.col('experiment_id') == design.experiment_id).then(pl.lit(EXPOSED, pl.Int16)).otherwise(earlier)
    )
    return pl.when(pl.col('timestamp') < start_of(design)).then(earlier).when(of_experiment).then(index)


def _is_of(arm: Arm, design: Design) -> pl.Expr:
    of_version = pl.col('version') == arm.version
    if sum(other.model_id == arm.model_id for other in design.arms) == 1:
        of_version = of_version | pl.col('version').is_null()
    return (pl.col('model_id') == arm.model_id) & of_version


def start_of(design: Design) -> pl.Expr:
    """Returns the start of a design's window."""
    return pl.lit(design.window.start.astimezone(datetime.timezone.utc)).cast(pl.Datetime('ms', 'UTC'))


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
