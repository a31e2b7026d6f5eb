"""The facts of a view in the order in which they become known: what the point-in-time join takes features from.

All features of a long view are in one column, so its facts are sorted once, by feature and entity. Of a wide view the
columns that were written together have the same facts, which are sorted once for all of them. Then several features are
joined at a time, of a long view as many as memory allows (a part):

    group    a number for each (feature of a part, entity); the facts of a group are contiguous
    place    a number for each (feature of a part, row of the spine)
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
from tfx_cassandra.components.dataset.join.facts import created_name, value_name, written_together
from tfx_cassandra.components.dataset.spec.rows import column_of
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView

_MAX_CELLS = 1_000_000  # rows of the spine x features that are joined at once
_MIN_CREATED = -(2**63) + 1  # before every other creation: of facts whose write time is unknown
_ORDER = ['group', 'known', 'event', 'created']


class Column(NamedTuple):
    """A column that holds values: the array, and the row of it that each candidate of a part has."""

    values: pa.Array
    rows: NDArray[np.int64]

    def rows_of(self, numbers: NDArray[np.int64]) -> pa.Array:
        """Returns the rows of some candidates, null for -1."""
        return pa.array(self.rows).take(pa.array(numbers, mask=numbers < 0))


class Part(NamedTuple):
    """Features that are joined together.

    Attributes:
      features: At each index, the features that have the same facts.
      rows: group, time, place; sorted by time within each group.
      candidates: The features' facts as group, event, created, known, number; of equal facts the last one is used.
      columns: The columns that hold their values, by name.
    """

    features: list[list[Feature]]
    rows: pl.DataFrame
    candidates: pl.DataFrame
    columns: dict[str, Column]


def parts(
    rows: pl.DataFrame, entity_facts: pl.DataFrame, facts: pa.Table, view: FeatureView, cut_off: bool
) -> Iterator[Part]:
    """Yields parts that together contain every feature once."""
    entities = (rows.select(pl.col('entity').max()).item() or 0) + 1
    if view.feature_name_column is None:
        yield from _wide_parts(rows.rename({'entity': 'group'}), entity_facts, facts, view, cut_off)
        return
    by_name: dict[str, list[Feature]] = {}
    for feature in view.full_features:
        by_name.setdefault(feature.name, []).append(feature)
    features = list(by_name.values())
    column = value_name(view, features[0][0])
    values = column_of(facts, column)
    number = pl.Series(pl.from_arrow(pc.index_in(column_of(facts, 'name'), pa.array(list(by_name)))))
    number_of_fact = number.gather(entity_facts['row']).cast(pl.Int64).alias('number')
    numbered = entity_facts.with_columns(number_of_fact).drop_nulls('number')
    grouped = numbered.select((pl.col('number') * entities + pl.col('entity')).alias('entity'), 'event', 'row')
    created = column_of(facts, created_name(view, features[0][0]))
    candidates, tied = _candidates(grouped, values.is_valid(), created, cut_off)
    rows_of_values = _rows(candidates, tied, values)
    count = max(1, _MAX_CELLS // max(1, len(rows)))
    for first in range(0, len(features), count):
        selected = features[first : first + count]
        ends = candidates['group'].search_sorted(pl.Series([first * entities, (first + len(selected)) * entities]))
        part_candidates = candidates.slice(ends[0], ends[1] - ends[0]).with_columns(pl.col('number') - ends[0])
        numbers = pl.DataFrame({'number': pl.int_range(len(selected), eager=True)})
        # Sorted by feature, then like the spine's rows.
        part_rows = numbers.join(rows, how='cross', maintain_order='left_right').select(
            ((pl.col('number') + first) * entities + pl.col('entity')).alias('group'), 'time',
            (pl.col('number') * len(rows) + pl.col('place')).alias('place'),
        )  # fmt: skip
        yield Part(selected, part_rows, part_candidates, {column: Column(values, rows_of_values[ends[0] : ends[1]])})


def _wide_parts(
    rows: pl.DataFrame, entity_facts: pl.DataFrame, facts: pa.Table, view: FeatureView, cut_off: bool
) -> Iterator[Part]:
    """Yields the parts of a wide view; columns that were written together have the same facts, and are one part."""
    for present, created, features in written_together(facts, view):
        candidates, tied = _candidates(entity_facts, present, created, cut_off)
        columns = {}
        for name in (value_name(view, feature) for feature in features):
            values = column_of(facts, name)
            columns[name] = Column(values, _rows(candidates, tied, values))
        yield Part([features], rows, candidates, columns)


def _candidates(
    entity_facts: pl.DataFrame, present: pa.Array, created: pa.Array, cut_off: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Selects the facts (entity, event, row) that have a value.

    Returns:
      (group, event, created, known, row, number, sorted; of these, the facts that have an equal neighbour)
    """
    times = pl.Series(pl.from_arrow(created)).fill_null(_MIN_CREATED)
    candidates = entity_facts.filter(pl.Series(pl.from_arrow(present)).gather(entity_facts['row']))
    candidates = candidates.rename({'entity': 'group'}).with_columns(times.gather(candidates['row']).alias('created'))
    known = pl.max_horizontal('event', 'created') if cut_off else pl.col('event')
    ordered = candidates.with_columns(known.alias('known')).sort(_ORDER).with_row_index('number')
    equal = ordered.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in _ORDER).fill_null(False))
    after = equal.to_series()
    return ordered, ordered.filter(after | after.shift(-1, fill_value=False))


def _rows(candidates: pl.DataFrame, tied: pl.DataFrame, values: pa.Array) -> NDArray[np.int64]:
    """Returns the row of each candidate's value; those of equal candidates in the order of their texts."""
    rows = candidates['row'].to_numpy().astype(np.int64)
    if tied.height:  # so that the result is deterministic
        texts = [str(value) for value in plain(values.take(pa.array(tied['row'].to_numpy()))).to_pylist()]
        by_text = tied.with_columns(pl.Series('text', texts)).sort([*_ORDER, 'text'])
        rows[tied['number'].to_numpy()] = by_text['row'].to_numpy()
    return rows


__all__ = ['Column', 'Part', 'parts']
