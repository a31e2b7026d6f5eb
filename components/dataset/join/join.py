"""The point-in-time join: for each row of the spine, each feature's value as it was known at the row's time.

The newest fact counts of those with

    event time <= the row's time                 (it had happened)
    event time >  the row's time - ttl           (it still counted)
    created    <= the row's time                 (it was known: the availability cut-off; can be turned off)

and of equally new ones the one created last. Both conditions on time are one: a fact is known from the later of its
event and its creation on. So of the facts of an entity, in the order in which they become known, each that is not older
than all before it is the one that counts until the next such one: an as-of join on the time from which it is known.

All features of a long view stand in one column, so a view's facts are sorted once, by feature and entity; then as many
features are joined together as keep the work in bounds:

    group    a number for each (feature of a part, entity): its facts stand together
    place    a number for each (feature of a part, row of the spine)

Frames have columns of these names and no others: a user's columns never stand in one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.cql.values import plain
from tfx_cassandra.components.dataset.join import facts as facts_
from tfx_cassandra.components.dataset.join.facts import age_limit, created_name, value_name
from tfx_cassandra.components.dataset.join.sequence import last_values
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.errors import DatasetError

FOUND, MISSING, EXPIRED, CUT_OFF = range(4)
STATUSES = ('found', 'missing', 'expired', 'cut_off')
_CELLS = 1_000_000  # rows of the spine x features that are looked up at once
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
    timed = view.timestamp_column is not None
    found: dict[str, tuple[pa.Array, Looked]] = {}
    for part in _parts(rows, held, facts, view, cut_off):
        index, age, status = _looked_up(part, view, cut_off)
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
                looked = Looked(name, status[cells], age[cells][status[cells] == FOUND] if timed else age[:0])
                if lists is None:
                    column = with_default(part.values, _null_if_below_0(index[cells]), feature.default, name)
                else:
                    column = lists[cells]
                found[name] = column, looked
    columns, looked_up = zip(*(found[name] for name in view.example_names), strict=True)
    names = [*spine.schema.names, *view.example_names]
    return pa.Table.from_arrays([*spine.columns, *columns], names), list(looked_up)


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


class _Part(NamedTuple):
    """What is looked up together: some features whose values stand in one column.

    Attributes:
      features: At each place the features that have the same values.
      rows: group, time, place; by time within each group.
      candidates: The features' facts as group, event, created, known, row, sorted so that the last of equals counts.
      values: The facts' values, which `row` counts in.
    """

    features: list[list[Feature]]
    rows: pl.DataFrame
    candidates: pl.DataFrame
    values: pa.Array


def _parts(
    rows: pl.DataFrame, held: pl.DataFrame, facts: pa.Table, view: FeatureView, cut_off: bool
) -> Iterator[_Part]:
    """Yields every feature in one part."""
    entities = (rows.select(pl.col('entity').max()).item() or 0) + 1
    if view.feature_name_column is None:
        for feature in view.full_features:
            values = _combined(facts.column(value_name(view, feature)))
            candidates = _candidates(held, values, facts.column(created_name(view, feature)), cut_off)
            yield _Part([[feature]], rows.rename({'entity': 'group'}), candidates, values)
        return
    of_name: dict[str, list[Feature]] = {}
    for feature in view.full_features:
        of_name.setdefault(feature.name, []).append(feature)
    features = list(of_name.values())
    values = _combined(facts.column(value_name(view, features[0][0])))
    number = pl.Series(pl.from_arrow(pc.index_in(_combined(facts.column('name')), pa.array(list(of_name)))))
    of_feature = held.with_columns(number.gather(held['row']).cast(pl.Int64).alias('number')).drop_nulls('number')
    grouped = of_feature.select((pl.col('number') * entities + pl.col('entity')).alias('entity'), 'event', 'row')
    candidates = _candidates(grouped, values, facts.column(created_name(view, features[0][0])), cut_off)
    together = max(1, _CELLS // max(1, len(rows)))
    for first in range(0, len(features), together):
        some = features[first : first + together]
        ends = candidates['group'].search_sorted(pl.Series([first * entities, (first + len(some)) * entities]))
        own = candidates.slice(ends[0], ends[1] - ends[0])
        numbers = pl.DataFrame({'number': pl.int_range(len(some), eager=True)})
        # By feature, then as the spine's rows are sorted.
        every = numbers.join(rows, how='cross', maintain_order='left_right').select(
            ((pl.col('number') + first) * entities + pl.col('entity')).alias('group'), 'time',
            (pl.col('number') * len(rows) + pl.col('place')).alias('place'),
        )  # fmt: skip
        yield _Part(some, every, own, values)


def _candidates(held: pl.DataFrame, values: pa.Array, created: pa.ChunkedArray, cut_off: bool) -> pl.DataFrame:
    """Returns the facts (entity, event, row) that have a value as group, event, created, known, row: see _Part."""
    present = pl.Series(pl.from_arrow(values.is_valid()))
    times = pl.Series(pl.from_arrow(_combined(created))).fill_null(_NEVER)
    candidates = held.filter(present.gather(held['row'])).rename({'entity': 'group'})
    candidates = candidates.with_columns(times.gather(candidates['row']).alias('created'))
    known = pl.max_horizontal('event', 'created') if cut_off else pl.col('event')
    order = ['group', 'known', 'event', 'created']
    ordered = candidates.with_columns(known.alias('known')).sort(order)
    equal = ordered.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in order).fill_null(False))
    after = equal.to_series()
    tied = ordered.filter(after | after.shift(-1, fill_value=False))
    if tied.height:
        # Not even the creation tells them apart: the text of the value does, so that it is the same one every time.
        texts = [str(value) for value in plain(values.take(pa.array(tied['row'].to_numpy()))).to_pylist()]
        ordered = ordered.join(tied.select('row', pl.Series('text', texts)), on='row', how='left')
        ordered = ordered.sort([*order, 'text'], nulls_last=False)
    return ordered


def _looked_up(part: _Part, view: FeatureView, cut_off: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns by place: the row of the facts or -1, the age where found, the status."""
    newest = part.candidates
    if cut_off:
        newest = newest.filter(pl.col('event') >= pl.col('event').cum_max().over('group'))
    alive = pl.lit(True) if view.ttl is None else pl.col('time') - pl.col('event') < age_limit(view.ttl)
    found = _as_of(part.rows, newest, 'known').with_columns(
        pl.when(pl.col('row').is_null()).then(MISSING).when(alive).then(FOUND).otherwise(EXPIRED)
        .cast(pl.Int8).alias('status')
    )  # fmt: skip
    if cut_off and (found['status'] != FOUND).any():
        # Was there a value that only the cut-off has taken away?
        lost = found.filter(pl.col('status') != FOUND).select('group', 'time', 'place')
        events = _as_of(lost, part.candidates.sort('group', 'event', 'created'), 'event')
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
    # Sorted within each group, which polars cannot check.
    return rows.join_asof(
        right, left_on='time', right_on='from', by='group', strategy='backward', check_sortedness=False
    )


def _null_if_below_0(index: np.ndarray) -> pa.Array:
    return pa.array(index, mask=index < 0)


def _combined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


__all__ = ['STATUSES', 'Looked', 'join', 'with_default']
