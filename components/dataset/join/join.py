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
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tfx_cassandra.components.dataset.join.facts import age_limit, entity_arrays, microseconds, value_name
from tfx_cassandra.components.dataset.join.keys import Keys, numbered
from tfx_cassandra.components.dataset.join.parts import Facts, Part, Rows, parts
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
    rows, entity_facts = _entities(spine, timestamp_column, facts, view)
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
    facts, ttl = part.candidates, None if view.ttl is None else age_limit(view.ttl)
    at = _as_of(part.rows, facts.keys, facts.key, facts.group)
    return {name: last_values(at, part.rows.time, facts, column, history, ttl) for name, column in part.columns.items()}


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


def _entities(spine: pa.Table, timestamp_column: str, facts: pa.Table, view: FeatureView) -> tuple[Rows, Facts]:
    """Numbers the spine's entities.

    Returns:
      (the spine's rows; the facts of their entities: the groups of both are the entities' numbers)
    """
    wanted = entity_arrays(spine, view.spine_columns)
    available = [column_of(facts, f'entity {i}') for i in range(len(wanted))]
    if not facts.num_rows:
        available = [array.slice(0, 0) for array in wanted]
    pairs = zip(view.entity_columns, available, wanted, strict=True)
    if differing := [f'{name}: {of.type} and {to.type}' for name, of, to in pairs if of.type != to.type]:
        rule = 'entities of the same type as the spine'
        raise DatasetError(f'view {view.name}: got {"; ".join(differing)}, rule: {rule}')
    entity = numbered([pa.concat_arrays(both) for both in zip(wanted, available, strict=True)])
    entity, of_facts = entity[: len(spine)], entity[len(spine) :]
    # The spine's entities come first, so that greater numbers are of entities that it does not have.
    row = np.flatnonzero(of_facts <= entity.max(initial=-1))
    time = microseconds(column_of(spine, timestamp_column)).to_numpy()
    return Rows(entity, time), Facts(of_facts[row], column_of(facts, 'event').to_numpy()[row], row)


def _newest_facts(
    part: Part, view: FeatureView, cut_off: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int8]]:
    """Returns for each place: the number of the newest fact or -1, its age if found, the status."""
    rows, facts = part.rows, part.candidates
    limit = age_limit(view.ttl)
    by_event = facts.keys.of(facts.group, facts.event)
    # Facts that are older than one known before them are never the newest. Keys of later groups are all greater.
    newest = np.flatnonzero(by_event >= np.maximum.accumulate(by_event))
    last = _as_of(rows, facts.keys, facts.key[newest], facts.group[newest])
    number = np.append(newest, -1)[last]
    age = rows.time - np.append(facts.event, 0)[number]
    status = np.where(number < 0, MISSING, np.where(age < limit, FOUND, EXPIRED)).astype(np.int8)
    others = np.flatnonzero(status != FOUND)
    if cut_off and len(others):
        # Find out whether there is a value that only the cut-off excludes.
        without, order = Rows(*(each[others] for each in rows)), np.argsort(by_event)
        last = _as_of(without, facts.keys, by_event[order], facts.group[order])
        since = without.time - np.append(facts.event[order], 0)[last]
        status[others] = np.where(last < 0, MISSING, np.where(since < limit, CUT_OFF, EXPIRED))
    number[others] = -1
    return number, age, status


def _as_of(rows: Rows, keys: Keys, key: NDArray[np.int64], group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns for each row the index of the last of its group's facts up to its time, or -1.

    Args:
      rows: Groups and times.
      keys: Of both sides.
      key, group: Of the facts, in the order of their keys.
    """
    last = np.searchsorted(key, keys.of(rows.group, rows.time), side='right') - 1
    last[np.append(group, -1)[last] != rows.group] = -1
    return last


__all__ = ['STATUSES', 'FeatureOutcome', 'join', 'with_default']
