"""The point-in-time join: for each row of the spine, each feature's value as it was known at the row's time.

The value is that of the newest fact, by event time, among those with

    event time <= the row's time                 (it had happened)
    event time >  the row's time - ttl           (it had not expired)
    created    <= the row's time                 (it was known: the availability cut-off; can be turned off)

and among facts of the same event time the one created last. The first and the last condition together say that a fact
is known from the later of its event time and its creation on. So sort an entity's facts by the time from which they are
known, and drop those whose event time is before that of an earlier fact: each remaining one is the result until the
next becomes known. This is an as-of join on the time from which a fact is known.

Frames contain only columns of this module, never those of a user.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tfx_cassandra.components.dataset.join import facts as facts_
from tfx_cassandra.components.dataset.join.facts import age_limit, value_name
from tfx_cassandra.components.dataset.join.parts import Part, parts
from tfx_cassandra.components.dataset.join.sequence import last_values
from tfx_cassandra.components.dataset.spec.rows import column_of
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.errors import DatasetError

FOUND, MISSING, EXPIRED, CUT_OFF = range(4)
STATUSES = ('found', 'missing', 'expired', 'cut_off')


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
    for part in parts(rows, entity_facts, facts, view, cut_off):
        index, age, status = _newest_facts(part, view, cut_off)
        lists = _histories(part, view, history) if history is not None and timed else None
        for number, features in enumerate(part.features):
            cells = slice(number * len(spine), (number + 1) * len(spine))
            for feature in features:
                name, of = view.example_name(feature), value_name(view, feature)
                ages = age[cells][status[cells] == FOUND] if timed else age[:0]
                outcome = FeatureOutcome(name, status[cells], ages)
                if lists is None:
                    held = part.columns[of]
                    column = with_default(held.values, held.rows_of(index[cells]), feature.default, name)
                else:
                    column = lists[of][cells]
                found[name] = column, outcome
    columns, outcomes = zip(*(found[name] for name in view.example_names), strict=True)
    names = [*spine.schema.names, *view.example_names]
    return pa.Table.from_arrays([*spine.columns, *columns], names), list(outcomes)


def _histories(part: Part, view: FeatureView, history: int) -> dict[str, pa.ListArray]:
    """Returns for each column of a part's values the last so many of them at each place."""
    events = _as_of(part.rows, part.candidates, 'known').sort('place').select('time', pl.col('number').alias('at'))
    facts, ttl = part.candidates.rename({'group': 'entity'}), None if view.ttl is None else age_limit(view.ttl)
    return {
        name: last_values(events, facts.with_columns(pl.Series('row', column.rows)), column.values, history, ttl)
        for name, column in part.columns.items()
    }


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
    time = pl.Series('time', pl.from_arrow(facts_.microseconds(column_of(spine, timestamp_column))))
    rows = wanted.with_columns(time).with_row_index('place').join(numbers, on=keys, how='left', maintain_order='left')
    available = available.with_row_index('row').cast({key: wanted.schema[key] for key in keys})
    entity_facts = available.join(numbers, on=keys, how='inner').select('entity', 'event', 'row')
    return rows.select('entity', 'time', 'place').sort('time', maintain_order=True), entity_facts


def _newest_facts(
    part: Part, view: FeatureView, cut_off: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Returns for each place: the number of the newest fact or -1, its age if found, the status."""
    newest = part.candidates
    if cut_off:
        newest = newest.filter(pl.col('event') >= pl.col('event').cum_max().over('group'))
    alive = pl.lit(True) if view.ttl is None else pl.col('time') - pl.col('event') < age_limit(view.ttl)
    found = _as_of(part.rows, newest, 'known').with_columns(
        pl.when(pl.col('number').is_null()).then(MISSING).when(alive).then(FOUND).otherwise(EXPIRED)
        .cast(pl.Int8).alias('status')
    )  # fmt: skip
    if cut_off and (found['status'] != FOUND).any():
        # Find out whether there is a value that only the cut-off excludes.
        without = found.filter(pl.col('status') != FOUND).select('group', 'time', 'place')
        events = _as_of(without, part.candidates.sort('group', 'event', 'created'), 'event')
        reason = pl.when(pl.col('number').is_null()).then(MISSING).when(alive).then(CUT_OFF).otherwise(EXPIRED)
        events = events.select('place', reason.cast(pl.Int8).alias('reason'))
        found = found.join(events, on='place', how='left').with_columns(pl.coalesce('reason', 'status').alias('status'))
    found = found.sort('place')
    status = found['status'].to_numpy()
    index = np.where(status == FOUND, found['number'].fill_null(0).to_numpy().astype(np.int64), -1)
    return index, (found['time'] - found['event']).fill_null(0).to_numpy(), status


def _as_of(rows: pl.DataFrame, candidates: pl.DataFrame, on: str) -> pl.DataFrame:
    """Adds to each row (group, time, place) the last candidate of its group with `on` <= time, as event and number."""
    last = (pl.col('group') != pl.col('group').shift(-1)) | (pl.col(on) != pl.col(on).shift(-1))
    right = candidates.filter(last.fill_null(True)).select('group', pl.col(on).alias('from'), 'event', 'number')
    # They are sorted within each group, which polars cannot check.
    return rows.join_asof(
        right, left_on='time', right_on='from', by='group', strategy='backward', check_sortedness=False
    )


__all__ = ['STATUSES', 'FeatureOutcome', 'join', 'with_default']
