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

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.cql.values import plain
from tfx_cassandra.components.dataset.join.facts import created_name, value_name, written_together
from tfx_cassandra.components.dataset.spec.rows import column_of
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView

_MAX_CELLS = 1_000_000  # rows of the spine x features that are joined at once
_MIN_CREATED = -(2**63) + 1  # before every other creation: of facts whose write time is unknown
_ORDER = ['group', 'known', 'event', 'created']


class Part(NamedTuple):
    """Features that are joined together.

    Attributes:
      features: At each index, the features that have the same facts.
      rows: group, time, place; sorted by time within each group.
      candidates: The features' facts as group, event, created, known, row; of equal facts the last one is used.
      values: The columns that hold their values, by name, indexed by `row`.
    """

    features: list[list[Feature]]
    rows: pl.DataFrame
    candidates: pl.DataFrame
    values: dict[str, pa.Array]


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
    candidates = _ordered_by_text(candidates, tied, values)
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
        yield Part(selected, part_rows, part_candidates, {column: values})


def _wide_parts(
    rows: pl.DataFrame, entity_facts: pl.DataFrame, facts: pa.Table, view: FeatureView, cut_off: bool
) -> Iterator[Part]:
    """Yields the parts of a wide view; columns that were written together have the same facts, and are one part."""
    for present, created, features in written_together(facts, view):
        columns = {value_name(view, feature): column_of(facts, value_name(view, feature)) for feature in features}
        candidates, tied = _candidates(entity_facts, present, created, cut_off)
        if not tied.height:
            yield Part([features], rows, candidates, columns)
            continue
        for feature in features:
            name = value_name(view, feature)
            own = _ordered_by_text(candidates, tied, columns[name])
            yield Part([[feature]], rows, own, {name: columns[name]})


def _candidates(
    entity_facts: pl.DataFrame, present: pa.Array, created: pa.Array, cut_off: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Selects the facts (entity, event, row) that have a value.

    Returns:
      (group, event, created, known, row, sorted; of these, the facts that have an equal neighbour)
    """
    times = pl.Series(pl.from_arrow(created)).fill_null(_MIN_CREATED)
    candidates = entity_facts.filter(pl.Series(pl.from_arrow(present)).gather(entity_facts['row']))
    candidates = candidates.rename({'entity': 'group'}).with_columns(times.gather(candidates['row']).alias('created'))
    known = pl.max_horizontal('event', 'created') if cut_off else pl.col('event')
    ordered = candidates.with_columns(known.alias('known')).sort(_ORDER)
    equal = ordered.select(pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in _ORDER).fill_null(False))
    after = equal.to_series()
    return ordered, ordered.filter(after | after.shift(-1, fill_value=False))


def _ordered_by_text(candidates: pl.DataFrame, tied: pl.DataFrame, values: pa.Array) -> pl.DataFrame:
    """Orders facts of equal event time and creation by the text of the value, so that the result is deterministic."""
    if not tied.height:
        return candidates
    texts = [str(value) for value in plain(values.take(pa.array(tied['row'].to_numpy()))).to_pylist()]
    candidates = candidates.join(tied.select('row', pl.Series('text', texts)), on='row', how='left')
    return candidates.sort([*_ORDER, 'text'], nulls_last=False)


__all__ = ['Part', 'parts']
