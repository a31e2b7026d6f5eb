"""Rows of a view as read -> facts: entity, event time, write time and value, in one form for both layouts.

A batch of facts has the columns

    entity 0, entity 1, ...     integers as int64, times as int64 ms, everything else as it is
    event                       int64, microseconds since 1970; MIN_EVENT_TIME if the view has no time
    name                        long layout only: the feature that the row's value belongs to
    value:COLUMN                for each column or map entry that holds values, as read
    created:COLUMN              int64, microseconds since 1970: when that value was written; null if unknown

A null value is not a fact: a value that Cassandra does not hold is unknown.

The prefixes keep these names apart from any name of a user's column. In rows as read the table's columns come before
the write times. So if two columns have the same name, because a table's column is called "writetime(x)", the first one
is the table's.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.cql.table import writetime_name
from tfx_cassandra.components.dataset.spec.rows import column_of, described
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView, Source
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.window import MICROSECOND

# Cassandra's timestamps are 64-bit milliseconds. In 64-bit microseconds only a thousandth of their range fits: times
# within 2^62 microseconds of 1970 (146,000 years), so that the difference of any two fits into 64 bits as well.
_MAX_MILLISECONDS = 2**62 // 1000
MIN_EVENT_TIME = -(2**62)  # microseconds; before every other event time
MAX_AGE = 2**63 - 1  # microseconds; above every other age
_MICROSECONDS = 1000  # in a millisecond


def facts(batch: pa.RecordBatch, view: FeatureView) -> pa.RecordBatch:
    """Converts rows as read to facts: one for each row, with the columns above.

    Raises:
      DatasetError: A row's time is further from 1970 than microseconds can represent; the message shows the row.
    """
    arrays = [_comparable(cell(batch, source)) for source in view.entity]
    columns = {f'entity {i}': array for i, array in enumerate(arrays)}
    if view.timestamp_column is None:
        columns['event'] = pa.array([MIN_EVENT_TIME], pa.int64()).take(pa.array([0] * batch.num_rows, pa.int64()))
    else:
        columns['event'] = _time(batch, view, view.timestamp_column)
    if view.feature_name_column is not None:
        columns['name'] = column_of(batch, view.feature_name_column)
    # All features of a long view are in one column.
    for feature in view.full_features[: 1 if view.value_column else None]:
        source = view.source(feature)
        columns[value_name(view, feature)] = cell(batch, source)
        columns[created_name(view, feature)] = _created(batch, view, source)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def value_name(view: FeatureView, feature: Feature) -> str:
    """Returns the name of the facts' column that holds a feature's values."""
    return f'value:{view.value_column or feature.name}'


def created_name(view: FeatureView, feature: Feature) -> str:
    """Returns the name of the facts' column that holds the write times of a feature's values."""
    return f'created:{view.value_column or feature.name}'


class Written(NamedTuple):
    """Features of a view that have their values in the same facts.

    Attributes:
      present: Whether each fact has a value of them.
      created: When it was written; null if unknown.
      features: The features.
    """

    present: pa.Array
    created: pa.Array
    features: list[Feature]


def written_together(facts: pa.RecordBatch | pa.Table, view: FeatureView) -> list[Written]:
    """Groups a view's features by the facts that hold their values: one group of a long view, which has one column."""
    groups: list[Written] = []
    for feature in view.full_features:
        present = column_of(facts, value_name(view, feature)).is_valid()
        created = column_of(facts, created_name(view, feature))
        same = (each for each in groups if present.equals(each.present) and created.equals(each.created))
        if (group := next(same, None)) is None:
            groups.append(Written(present, created, [feature]))
        else:
            group.features.append(feature)
    return groups


def entity_arrays(spine: pa.RecordBatch | pa.Table, columns: tuple[str, ...]) -> list[pa.Array]:
    """Returns the columns of a spine's entity, with integers widened so that equal entities compare equal."""
    return [_comparable(column_of(spine, column)) for column in columns]


def microseconds(time: pa.Array, field: str = 'time', rows: Callable[[], pa.RecordBatch] | None = None) -> pa.Array:
    """Converts timestamps in milliseconds to int64 microseconds since 1970.

    Args:
      time: Timestamps in milliseconds.
      field: What the times are, for the message.
      rows: Returns the columns that identify a row, for the message.

    Raises:
      DatasetError: A time is further from 1970 than microseconds can represent; the message shows the row.
    """
    plain = time.cast(pa.int64())
    ends = pc.min_max(plain)
    if any(end.is_valid and abs(end.as_py()) > _MAX_MILLISECONDS for end in ends.values()):
        beyond = pc.or_(pc.greater(plain, _MAX_MILLISECONDS), pc.less(plain, -_MAX_MILLISECONDS))
        row = pc.index(beyond, True).as_py()
        where = '' if rows is None else f' in the row {described(rows(), row)}'
        rule = f'a time within {_MAX_MILLISECONDS} ms of 1970 (146,000 years)'
        raise DatasetError(f'{field}: got {plain[row].as_py()} ms since 1970{where}, rule: {rule}')
    return pc.multiply_checked(plain, _MICROSECONDS)


def age_limit(ttl: datetime.timedelta | None) -> int:
    """Returns the age in microseconds from which a value counts as expired; at most MAX_AGE, as without a ttl."""
    return MAX_AGE if ttl is None else min(ttl // MICROSECOND, MAX_AGE)


def cell(batch: pa.RecordBatch | pa.Table, source: Source) -> pa.Array:
    """Returns a column, or one entry of a map column: null where the map has no such key.

    Raises:
      DatasetError: The key is not of the type of the map's keys.
    """
    array = column_of(batch, source.column)
    if source.key is None or not pa.types.is_map(array.type):
        # The name of an ordinary column may look like an entry of a map.
        return array
    try:
        key = pa.array([source.key]).cast(array.type.key_type)[0]
    except pa.ArrowException as error:
        raise DatasetError(f'{source.column}: got key {source.key!r}, rule: a {array.type.key_type}') from error
    return pc.map_lookup(array, key, 'last')


def _created(batch: pa.RecordBatch, view: FeatureView, source: Source) -> pa.Array:
    if view.created_column is not None:
        return _time(batch, view, view.created_column)
    name = writetime_name(source.column)
    indexes = [index for index, column in enumerate(batch.schema.names) if column == name]
    if len(indexes) > (name in view.columns):
        return batch.column(indexes[-1])
    return pa.nulls(batch.num_rows, pa.int64())


def _time(batch: pa.RecordBatch, view: FeatureView, column: str) -> pa.Array:
    def key() -> pa.RecordBatch:
        names = [*view.entity_columns, *filter(None, [view.feature_name_column, view.timestamp_column])]
        return pa.RecordBatch.from_arrays([cell(batch, Source.parse(name)) for name in names], names)

    return microseconds(column_of(batch, column), f'{column} of view {view.name}', key)


def _comparable(array: pa.Array) -> pa.Array:
    if pa.types.is_integer(array.type) or pa.types.is_timestamp(array.type):
        return array.cast(pa.int64())
    return array
