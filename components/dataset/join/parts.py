"""Features that are joined together, and the facts that the point-in-time join takes them from.

All features of a long view are in one column, so its facts are sorted once, by feature and entity. Of a wide view the
columns that were written together have the same facts, which are sorted once for all of them. Then several features are
joined at a time, of a long view as many as memory allows (a part):

    group    a number for each (feature of a part, entity); the facts of a group are contiguous
    place    a number for each (feature of a part, row of the spine): the index in the part's rows
    key      a number for each (group, time), in the order of these; see keys.py
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.cql.values import plain
from tfx_cassandra.components.dataset.join.facts import created_name, value_name, written_together
from tfx_cassandra.components.dataset.join.keys import Integers, Keys, equal_neighbours, ordered
from tfx_cassandra.components.dataset.spec.rows import column_of
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView

_MAX_CELLS = 1_000_000  # rows of the spine x features that are joined at once
_MIN_CREATED = -(2**63) + 1  # before every other creation: of facts whose write time is unknown


class Rows(NamedTuple):
    """Rows of a spine: their groups, and their times in microseconds."""

    group: Integers
    time: Integers


class Facts(NamedTuple):
    """Facts: their groups, their event times, and their rows in the table of facts."""

    group: Integers
    event: Integers
    row: Integers


class Candidates(NamedTuple):
    """Facts that have a value, in the order of group, known, event and created.

    Attributes:
      group, event, created: Of each.
      key: Of its group and of the time from which it is known.
      keys: Makes such keys.
    """

    group: Integers
    event: Integers
    created: Integers
    key: Integers
    keys: Keys

    def between(self, first: int, end: int) -> Candidates:
        """Returns those from one index to before another."""
        group, event, created, key = (each[first:end] for each in self[:4])
        return Candidates(group, event, created, key, self.keys)


class Column(NamedTuple):
    """A column that holds values: the array, and the row of it that each candidate of a part has."""

    values: pa.Array
    rows: Integers

    def rows_of(self, numbers: Integers) -> pa.Array:
        """Returns the rows of some candidates, null for -1."""
        return pa.array(self.rows).take(pa.array(numbers, mask=numbers < 0))


class Part(NamedTuple):
    """Features that are joined together.

    Attributes:
      features: At each index, the features that have the same facts.
      rows: Of the spine, at each place.
      candidates: The features' facts; of equal ones the last is used.
      columns: The columns that hold their values, by name.
    """

    features: list[list[Feature]]
    rows: Rows
    candidates: Candidates
    columns: dict[str, Column]


def parts(rows: Rows, entity_facts: Facts, facts: pa.Table, view: FeatureView, cut_off: bool) -> Iterator[Part]:
    """Yields parts that together contain every feature once; the groups of rows and facts are the spine's entities."""
    entities = int(rows.group.max(initial=0)) + 1
    if view.feature_name_column is None:
        yield from _wide_parts(rows, entities, entity_facts, facts, view, cut_off)
        return
    by_name: dict[str, list[Feature]] = {}
    for feature in view.full_features:
        by_name.setdefault(feature.name, []).append(feature)
    features = list(by_name.values())
    column = value_name(view, features[0][0])
    values, created = column_of(facts, column), column_of(facts, created_name(view, features[0][0]))
    number_of_row = pc.index_in(column_of(facts, 'name'), pa.array(list(by_name))).fill_null(-1).to_numpy()
    number = number_of_row[entity_facts.row].astype(np.int64)
    grouped = entity_facts._replace(group=number * entities + entity_facts.group)
    named = Facts(*(each[number >= 0] for each in grouped))
    candidates, rows_of = _candidates(named, values.is_valid(), created, cut_off, len(features) * entities, rows.time)
    rows_of_values = _rows(candidates, rows_of, values)
    count = max(1, _MAX_CELLS // max(1, len(rows.time)))
    for first in range(0, len(features), count):
        selected = features[first : first + count]
        ends = np.searchsorted(candidates.group, [first * entities, (first + len(selected)) * entities])
        numbers = np.arange(first, first + len(selected))[:, None]  # (features, 1)
        part_rows = Rows((numbers * entities + rows.group).ravel(), np.tile(rows.time, len(selected)))
        held = Column(values, rows_of_values[ends[0] : ends[1]])
        yield Part(selected, part_rows, candidates.between(*ends), {column: held})


def _wide_parts(
    rows: Rows, entities: int, entity_facts: Facts, facts: pa.Table, view: FeatureView, cut_off: bool
) -> Iterator[Part]:
    """Yields the parts of a wide view; columns that were written together have the same facts, and are one part."""
    for present, created, features in written_together(facts, view):
        candidates, rows_of = _candidates(entity_facts, present, created, cut_off, entities, rows.time)
        columns = {}
        for name in (value_name(view, feature) for feature in features):
            values = column_of(facts, name)
            columns[name] = Column(values, _rows(candidates, rows_of, values))
        yield Part([features], rows, candidates, columns)


def _candidates(
    facts: Facts, present: pa.Array, created: pa.Array, cut_off: bool, groups: int, times: Integers
) -> tuple[Candidates, Integers]:
    """Selects and sorts the facts that have a value.

    Args:
      facts: Facts in any order.
      present, created: By row: whether it has a value, and when that was written.
      cut_off: Whether a value is known only from its creation on.
      groups: Number of groups.
      times: Of the spine.

    Returns:
      (candidates, the row of each)
    """
    group, event, row = (each[present.to_numpy(zero_copy_only=False)[facts.row]] for each in facts)
    made = created.fill_null(_MIN_CREATED).to_numpy()[row]
    known = np.maximum(event, made) if cut_off else event
    keys = Keys(groups, [times, event, known])
    key = keys.of(group, known)
    order = ordered(key, event, made)
    return Candidates(group[order], event[order], made[order], key[order], keys), row[order]


def _rows(candidates: Candidates, rows: Integers, values: pa.Array) -> Integers:
    """Returns the row of each candidate's value; those of equal candidates in the order of their texts."""
    equal = (candidates.key, candidates.event, candidates.created)
    tied = equal_neighbours(*equal)
    if tied.any():  # so that the result is deterministic
        rows = rows.copy()
        texts = [str(value) for value in plain(values.take(pa.array(rows[tied]))).to_pylist()]
        ranks = {text: rank for rank, text in enumerate(sorted(set(texts)))}
        by_text = np.lexsort([np.array([ranks[text] for text in texts]), *(each[tied] for each in reversed(equal))])
        rows[tied] = rows[tied][by_text]
    return rows


__all__ = ['Candidates', 'Column', 'Facts', 'Part', 'Rows', 'parts']
