"""The point-in-time join: for each row of the spine, each feature's value as it was known at the row's time.

The newest fact counts of those with

    event time <= the row's time                 (it had happened)
    event time >  the row's time - ttl           (it still counted)
    created    <= the row's time                 (it was known: the availability cut-off; can be turned off)

and of equally new ones the one created last. Both conditions on time are one: a fact is known from the later of its
event and its creation on. So of the facts of an entity, in the order in which they become known, each that is not older
than all before it is the one that counts until the next such one: an as-of join on the time from which it is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.dataset.join import facts as facts_
from tfx_cassandra.components.dataset.join.facts import ALWAYS, created_name, value_name
from tfx_cassandra.components.dataset.join.sequence import last_values
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.errors import DatasetError

FOUND, MISSING, EXPIRED, CUT_OFF = range(4)
STATUSES = ('found', 'missing', 'expired', 'cut_off')
_NEVER = -(2**63) + 1  # a creation before every other: of a fact that does not say when it was written


class Looked(NamedTuple):
    """What became of one feature of a shard.

    Attributes:
      name: The feature's name in the examples.
      status: int8 of shape (rows): FOUND; MISSING: there is no value up to the row's time; EXPIRED: there is, but only
        beyond the ttl; CUT_OFF: there is one within the ttl, but it was written after the row's time.
      age: int64 of shape (rows found): microseconds from the value's event time to the row's; empty where the view has
        no time.
    """

    name: str
    status: np.ndarray
    age: np.ndarray


def join(
    spine: pa.Table, timestamp_column: str, facts: pa.Table, view: FeatureView, cut_off: bool = True,
    history: int | None = None,
) -> tuple[pa.Table, list[Looked]]:  # fmt: skip
    """Adds a view's features to the rows of a spine.

    Args:
      spine: Rows of any number and order, with `timestamp_column` and the view's `spine_columns`, none of them null.
      timestamp_column: The spine's event time, timestamp[ms].
      facts: The view's facts, as facts.py makes them; those of other entities may be among them.
      view: The view.
      cut_off: Whether a value written after a row's time is unknown to the row.
      history: Instead of the newest value, the list of the last so many, oldest first, each of another event time: the
        one that counted if it were the newest. Not of a view without time, which has no other values.

    Returns:
      (the spine's rows, as they came, with a column for each feature behind their own; what became of each feature's
      newest value)

    Raises:
      DatasetError: Entity columns of spine and view have different types.
    """
    rows, held = _coded(spine, timestamp_column, facts, view)
    looked = []
    for feature in view.full_features:
        name = view.example_name(feature)
        values = _combined(facts.column(value_name(view, feature)))
        candidates = _candidates(held, facts, view, feature, cut_off)
        index, age, status = _looked_up(rows, candidates, values, view, cut_off)
        if history is None or view.timestamp_column is None:
            column = with_default(values, index, feature.default, name)
        else:
            numbered = candidates.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias('row'))
            events = _as_of(rows, numbered, 'known').sort('place').rename({'row': 'at'})
            ttl = None if view.ttl is None else _microseconds(view)
            column = last_values(events.drop('event'), candidates, values, history, ttl)
        spine = spine.append_column(name, column)
        looked.append(Looked(name, status, age if view.timestamp_column is not None else age[:0]))
    return spine, looked


def with_default(values: pa.Array, index: pa.Array | None, default: object, name: str) -> pa.Array:
    """Takes values by index; what is null then becomes the default.

    Raises:
      DatasetError: The default is not of the values' type.
    """
    taken = values if index is None else values.take(index)
    if default is None or not taken.null_count:
        return taken
    try:
        filling = pa.array([list(default) if isinstance(default, tuple) else default], values.type)
    except (pa.ArrowException, TypeError) as error:
        raise DatasetError(f'default of {name}: got {default!r}, rule: a value of type {values.type}') from error
    places = pa.array(np.arange(len(taken)))
    return pa.concat_arrays([taken, filling]).take(pc.if_else(taken.is_valid(), places, len(taken)))


def _coded(
    spine: pa.Table, timestamp_column: str, facts: pa.Table, view: FeatureView
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Numbers the spine's entities.

    Returns:
      (the spine as entity, time, place, sorted by time; the facts of these entities as entity, event, row)
    """
    keys = [f'entity {i}' for i in range(len(view.entity_columns))]
    wanted = pl.DataFrame(
        [pl.Series(key, pl.from_arrow(array)) for key, array in
         zip(keys, facts_.entity_arrays(spine, view.spine_columns), strict=True)]
    )  # fmt: skip
    have: pl.DataFrame = pl.from_arrow(facts.select([*keys, 'event']))  # type: ignore[assignment]
    if facts.num_rows and (differing := [k for k in keys if wanted.schema[k] != have.schema[k]]):
        pairs = [f'{view.entity_columns[keys.index(k)]}: {have.schema[k]} and {wanted.schema[k]}' for k in differing]
        raise DatasetError(f'view {view.name}: got {"; ".join(pairs)}, rule: entities of the same type as the spine')
    numbers = wanted.unique(maintain_order=True).with_row_index('entity')
    time = pl.Series('time', pl.from_arrow(facts_.microseconds(_combined(spine.column(timestamp_column)))))
    rows = wanted.with_columns(time).with_row_index('place').join(numbers, on=keys, how='left', maintain_order='left')
    have = have.with_row_index('row').cast({key: wanted.schema[key] for key in keys})
    held = have.join(numbers, on=keys, how='inner').select('entity', 'event', 'row')
    return rows.select('entity', 'time', 'place').sort('time', maintain_order=True), held


def _candidates(
    held: pl.DataFrame, facts: pa.Table, view: FeatureView, feature: Feature, cut_off: bool
) -> pl.DataFrame:
    """Returns a feature's facts as entity, event, created, known, row, sorted so that the last of equals counts."""
    present = facts.column(value_name(view, feature)).is_valid()
    if view.feature_name_column is not None:
        present = pc.and_(present, pc.equal(facts.column('name'), feature.name))
    mask = pl.Series(pl.from_arrow(_combined(present))).fill_null(False)
    created = pl.Series(pl.from_arrow(_combined(facts.column(created_name(view, feature))))).fill_null(_NEVER)
    candidates = held.filter(mask.gather(held['row']))
    candidates = candidates.with_columns(created.gather(candidates['row']).alias('created'))
    known = pl.max_horizontal('event', 'created') if cut_off else pl.col('event')
    order = ['entity', 'known', 'event', 'created']
    ordered = candidates.with_columns(known.alias('known')).sort(order)
    equal = ordered.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in order).fill_null(False))
    after = equal.to_series()
    tied = ordered.filter(after | after.shift(-1, fill_value=False))
    if tied.height:
        # Not even the creation tells them apart: the text of the value does, so that it is the same one every time.
        values = _combined(facts.column(value_name(view, feature))).take(pa.array(tied['row'].to_numpy()))
        texts = tied.select('row', pl.Series('text', [str(value) for value in values.to_pylist()]))
        ordered = ordered.join(texts, on='row', how='left').sort([*order, 'text'], nulls_last=False)
    return ordered


def _looked_up(
    rows: pl.DataFrame, candidates: pl.DataFrame, values: pa.Array, view: FeatureView, cut_off: bool
) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Returns (row of the facts or null for each row of the spine, ages of those found, statuses), in spine order."""
    newest = candidates.filter(pl.col('event') >= pl.col('event').cum_max().over('entity')) if cut_off else candidates
    found = _as_of(rows, newest, 'known')
    alive = pl.lit(True) if view.ttl is None else pl.col('event') > pl.col('time') - _microseconds(view)
    found = found.with_columns(
        pl.when(pl.col('row').is_null()).then(MISSING).when(alive).then(FOUND).otherwise(EXPIRED)
        .cast(pl.Int8).alias('status')
    )  # fmt: skip
    if cut_off and (found['status'] != FOUND).any():
        # Was there a value that only the cut-off has taken away?
        lost = found.filter(pl.col('status') != FOUND).select('entity', 'time', 'place')
        events = _as_of(lost, candidates.sort('entity', 'event', 'created'), 'event')
        reason = pl.when(pl.col('row').is_null()).then(MISSING).when(alive).then(CUT_OFF).otherwise(EXPIRED)
        events = events.select('place', reason.cast(pl.Int8).alias('reason'))
        found = found.join(events, on='place', how='left').with_columns(pl.coalesce('reason', 'status').alias('status'))
    found = found.sort('place')
    is_found = (found['status'] == FOUND).to_numpy()
    index = pa.array(found['row'].fill_null(0).to_numpy().astype(np.int64), mask=~is_found)
    age = (found['time'] - found['event']).filter(found['status'] == FOUND).to_numpy()
    return index, age, found['status'].to_numpy()


def _as_of(rows: pl.DataFrame, candidates: pl.DataFrame, on: str) -> pl.DataFrame:
    """Adds to each row (entity, time, place) the last candidate of its entity with `on` <= time, as event and row."""
    last = (pl.col('entity') != pl.col('entity').shift(-1)) | (pl.col(on) != pl.col(on).shift(-1))
    right = candidates.filter(last.fill_null(True)).select('entity', pl.col(on).alias('from'), 'event', 'row')
    # Sorted within each entity, which polars cannot check.
    return rows.join_asof(
        right, left_on='time', right_on='from', by='entity', strategy='backward', check_sortedness=False
    )


def _microseconds(view: FeatureView) -> int:
    return 0 if view.ttl is None else round(view.ttl.total_seconds() * 1_000_000)


def _combined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


__all__ = ['ALWAYS', 'STATUSES', 'Looked', 'join', 'with_default']
