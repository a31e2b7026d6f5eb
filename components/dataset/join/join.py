"""The point-in-time join: for each row of the spine, each feature's value as it was known at the row's time.

The value is that of the newest fact, by event time, among those with

    event time <= the row's time                 (it had happened)
    event time >  the row's time - ttl           (it had not expired)
    created    <= the row's time                 (it was known: the availability cut-off; can be turned off)

and among facts of the same event time the one created last. The first and the last condition together say that a fact
is known from the later of its event time and its creation on. So sort an entity's facts by the time from which they are
known, and drop those whose event time is before that of an earlier fact: each remaining one is the result until the
next becomes known. This is an as-of join on the time from which a fact is known.

All features of a long view are in one column, so a view's facts are sorted once, by feature and entity. Then several
features are joined at a time, as many as memory allows (a part):

    group    a number for each (feature of a part, entity); the facts of a group are contiguous
    place    a number for each (feature of a part, row of the spine)

Frames contain only columns of this module, never those of a user.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tfx_cassandra.components.cql.values import plain
from tfx_cassandra.components.dataset.join import facts as facts_
from tfx_cassandra.components.dataset.join.facts import age_limit, created_name, value_name
from tfx_cassandra.components.dataset.join.sequence import last_values
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.errors import DatasetError

FOUND, MISSING, EXPIRED, CUT_OFF = range(4)
STATUSES = ('found', 'missing', 'expired', 'cut_off')
_MAX_CELLS = 1_000_000  # rows of the spine x features that are joined at once
_MIN_CREATED = -(2**63) + 1  # before every other creation: of facts whose write time is unknown


class FeatureOutcome(NamedTuple):
    """The outcome of the join for one feature: whether each row has a value, why not, and how old the values are.

    Attributes:
      name: The feature's name in the examples.
      status: int8 of shape (rows): FOUND; MISSING: no value up to the row's time; EXPIRED: only values older than the
        ttl; CUT_OFF: a value within the ttl, but it was written after the row's time.
      age: int64 of shape (rows found): microseconds from the value's event time to the row's time; empty if the view
        has no time.
    """

    name: str
    status: NDArray[np.int8]
    age: NDArray[np.int64]


def join(
    spine: pa.Table, timestamp_column: str, facts: pa.Table, view: FeatureView, cut_off: bool = True,
    history: int | None = None,
) -> tuple[pa.Table, list[FeatureOutcome]]:  # fmt: skip
    """Adds a view's features to the rows of a spine.

    Args:
      spine: Rows in any order, with `timestamp_column` and the view's `spine_columns`, without nulls in these.
      timestamp_column: The spine's event time, timestamp[ms].
      facts: The view's facts, as returned by facts.py; facts of other entities are ignored.
      view: The view.
      cut_off: Whether a value written after a row's time is unknown to the row.
      history: Instead of the newest value, join the list of the last so many values, oldest first, one per event time.
        Ignored for a view without time, which has one value only.

    Returns:
      (the spine's rows in their order, with a column added for each feature; the outcome of each feature's newest
      value)

    Raises:
      DatasetError: Entity columns of spine and view have different types.
    """
    rows, entity_facts = _numbered(spine, timestamp_column, facts, view)
    timed = view.timestamp_column is not None
    found: dict[str, tuple[pa.Array, FeatureOutcome]] = {}
    for part in _parts(rows, entity_facts, facts, view, cut_off):
        index, age, status = _newest_facts(part, view, cut_off)
        lists = None
        if history is not None and timed:
            numbered = part.candidates.with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias('row'))
            events = _as_of(part.rows, numbered, 'known').sort('place').select('time', pl.col('row').alias('at'))
            ttl = None if view.ttl is None else age_limit(view.ttl)
            lists = last_values(events, part.candidates.rename({'group': 'entity'}), part.values, history, ttl)
        for number, features in enumerate(part.features):
            cells = slice(number * len(spine), (number + 1) * len(spine))
            for feature in features:
                name = view.example_name(feature)
                ages = age[cells][status[cells] == FOUND] if timed else age[:0]
                outcome = FeatureOutcome(name, status[cells], ages)
                if lists is None:
                    column = with_default(part.values, _null_if_negative(index[cells]), feature.default, name)
                else:
                    column = lists[cells]
                found[name] = column, outcome
    columns, outcomes = zip(*(found[name] for name in view.example_names), strict=True)
    names = [*spine.schema.names, *view.example_names]
    return pa.Table.from_arrays([*spine.columns, *columns], names), list(outcomes)


def with_default(values: pa.Array, index: pa.Array | None, default: object, name: str) -> pa.Array:
    """Takes values by index and replaces nulls by the default.

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


def _numbered(
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
    available: pl.DataFrame = pl.from_arrow(facts.select([*keys, 'event']))  # type: ignore[assignment]
    if facts.num_rows and (differing := [k for k in keys if wanted.schema[k] != available.schema[k]]):
        pairs = [
            f'{view.entity_columns[keys.index(k)]}: {available.schema[k]} and {wanted.schema[k]}' for k in differing
        ]
        raise DatasetError(f'view {view.name}: got {"; ".join(pairs)}, rule: entities of the same type as the spine')
    numbers = wanted.unique(maintain_order=True).with_row_index('entity')
    time = pl.Series('time', pl.from_arrow(facts_.microseconds(_combined(spine.column(timestamp_column)))))
    rows = wanted.with_columns(time).with_row_index('place').join(numbers, on=keys, how='left', maintain_order='left')
    available = available.with_row_index('row').cast({key: wanted.schema[key] for key in keys})
    entity_facts = available.join(numbers, on=keys, how='inner').select('entity', 'event', 'row')
    return rows.select('entity', 'time', 'place').sort('time', maintain_order=True), entity_facts


class _Part(NamedTuple):
    """Features that are joined together; their values are in one column.

    Attributes:
      features: At each index, the features that have the same facts.
      rows: group, time, place; sorted by time within each group.
      candidates: The features' facts as group, event, created, known, row; of equal facts the last one is used.
      values: The facts' values, indexed by `row`.
    """

    features: list[list[Feature]]
    rows: pl.DataFrame
    candidates: pl.DataFrame
    values: pa.Array


def _parts(
    rows: pl.DataFrame, entity_facts: pl.DataFrame, facts: pa.Table, view: FeatureView, cut_off: bool
) -> Iterator[_Part]:
    """Yields parts that together contain every feature once."""
    entities = (rows.select(pl.col('entity').max()).item() or 0) + 1
    if view.feature_name_column is None:
        for feature in view.full_features:
            values = _combined(facts.column(value_name(view, feature)))
            candidates = _candidates(entity_facts, values, facts.column(created_name(view, feature)), cut_off)
            yield _Part([[feature]], rows.rename({'entity': 'group'}), candidates, values)
        return
    by_name: dict[str, list[Feature]] = {}
    for feature in view.full_features:
        by_name.setdefault(feature.name, []).append(feature)
    features = list(by_name.values())
    values = _combined(facts.column(value_name(view, features[0][0])))
    number = pl.Series(pl.from_arrow(pc.index_in(_combined(facts.column('name')), pa.array(list(by_name)))))
    number_of_fact = number.gather(entity_facts['row']).cast(pl.Int64).alias('number')
    numbered = entity_facts.with_columns(number_of_fact).drop_nulls('number')
    grouped = numbered.select((pl.col('number') * entities + pl.col('entity')).alias('entity'), 'event', 'row')
    candidates = _candidates(grouped, values, facts.column(created_name(view, features[0][0])), cut_off)
    count = max(1, _MAX_CELLS // max(1, len(rows)))
    for first in range(0, len(features), count):
        selected = features[first : first + count]
        ends = candidates['group'].search_sorted(pl.Series([first * entities, (first + len(selected)) * entities]))
        part_candidates = candidates.slice(ends[0], ends[1] - ends[0])
        numbers = pl.DataFrame({'number': pl.int_range(len(selected), eager=True)})
        # Sorted by feature, then like the spine's rows.
        part_rows = numbers.join(rows, how='cross', maintain_order='left_right').select(
            ((pl.col('number') + first) * entities + pl.col('entity')).alias('group'), 'time',
            (pl.col('number') * len(rows) + pl.col('place')).alias('place'),
        )  # fmt: skip
        yield _Part(selected, part_rows, part_candidates, values)


def _candidates(entity_facts: pl.DataFrame, values: pa.Array, created: pa.ChunkedArray, cut_off: bool) -> pl.DataFrame:
    """Returns the facts (entity, event, row) that have a value, as group, event, created, known, row (see _Part)."""
    present = pl.Series(pl.from_arrow(values.is_valid()))
    times = pl.Series(pl.from_arrow(_combined(created))).fill_null(_MIN_CREATED)
    candidates = entity_facts.filter(present.gather(entity_facts['row'])).rename({'entity': 'group'})
    candidates = candidates.with_columns(times.gather(candidates['row']).alias('created'))
    known = pl.max_horizontal('event', 'created') if cut_off else pl.col('event')
    order = ['group', 'known', 'event', 'created']
    ordered = candidates.with_columns(known.alias('known')).sort(order)
    equal = ordered.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in order).fill_null(False))
    after = equal.to_series()
    tied = ordered.filter(after | after.shift(-1, fill_value=False))
    if tied.height:
        # Ties in event time and creation are broken by the text of the value, so that the result is deterministic.
        texts = [str(value) for value in plain(values.take(pa.array(tied['row'].to_numpy()))).to_pylist()]
        ordered = ordered.join(tied.select('row', pl.Series('text', texts)), on='row', how='left')
        ordered = ordered.sort([*order, 'text'], nulls_last=False)
    return ordered


def _newest_facts(
    part: _Part, view: FeatureView, cut_off: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Returns for each place: the row of the newest fact or -1, its age if found, the status."""
    newest = part.candidates
    if cut_off:
        newest = newest.filter(pl.col('event') >= pl.col('event').cum_max().over('group'))
    alive = pl.lit(True) if view.ttl is None else pl.col('time') - pl.col('event') < age_limit(view.ttl)
    found = _as_of(part.rows, newest, 'known').with_columns(
        pl.when(pl.col('row').is_null()).then(MISSING).when(alive).then(FOUND).otherwise(EXPIRED)
        .cast(pl.Int8).alias('status')
    )  # fmt: skip
    if cut_off and (found['status'] != FOUND).any():
        # Find out whether there is a value that only the cut-off excludes.
        without = found.filter(pl.col('status') != FOUND).select('group', 'time', 'place')
        events = _as_of(without, part.candidates.sort('group', 'event', 'created'), 'event')
        reason = pl.when(pl.col('row').is_null()).then(MISSING).when(alive).then(CUT_OFF).otherwise(EXPIRED)
        events = events.select('place', reason.cast(pl.Int8).alias('reason'))
        found = found.join(events, on='place', how='left').with_columns(pl.coalesce('reason', 'status').alias('status'))
    found = found.sort('place')
    status = found['status'].to_numpy()
    index = np.where(status == FOUND, found['row'].fill_null(0).to_numpy().astype(np.int64), -1)
    return index, (found['time'] - found['event']).fill_null(0).to_numpy(), status


def _as_of(rows: pl.DataFrame, candidates: pl.DataFrame, on: str) -> pl.DataFrame:
    """Adds to each row (group, time, place) the last candidate of its group with `on` <= time, as event and row."""
    last = (pl.col('group') != pl.col('group').shift(-1)) | (pl.col(on) != pl.col(on).shift(-1))
    right = candidates.filter(last.fill_null(True)).select('group', pl.col(on).alias('from'), 'event', 'row')
    # They are sorted within each group, which polars cannot check.
    return rows.join_asof(
        right, left_on='time', right_on='from', by='group', strategy='backward', check_sortedness=False
    )


def _null_if_negative(index: NDArray[np.int64]) -> pa.Array:
    return pa.array(index, mask=index < 0)


def _combined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


__all__ = ['STATUSES', 'FeatureOutcome', 'join', 'with_default']
