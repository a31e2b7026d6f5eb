"""Rows of a view as read -> facts: whose value, which event time, when written, in one form for both layouts.

A batch of facts has the columns

    entity 0, entity 1, ...     integers as int64, times as int64 ms, everything else as it is
    event                       int64, microseconds since 1970; ALWAYS where the view has no time
    name                        long layout only: which feature the row's value is of
    value:COLUMN                for each column or map entry that holds values, as read
    created:COLUMN              int64, microseconds since 1970, when that value was written; null for unknown

A null value is no fact: what Cassandra does not hold is not known.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.cql.table import writetime_name
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView, Source
from tfx_cassandra.components.errors import DatasetError

ALWAYS = -(2**62)  # an event time before every other
_MICROSECONDS = 1000  # in a millisecond, the unit of Cassandra's timestamps


def facts(batch: pa.RecordBatch, view: FeatureView) -> pa.RecordBatch:
    """Brings rows as read into the one form; as many rows, with the columns above."""
    arrays = entity_arrays(batch, view.entity_columns)
    named = {f'entity {i}': array for i, array in enumerate(arrays)}
    if view.timestamp_column is None:
        named['event'] = pa.array([ALWAYS], pa.int64()).take(pa.array([0] * batch.num_rows, pa.int64()))
    else:
        named['event'] = microseconds(_column(batch, view.timestamp_column))
    if view.feature_name_column is not None:
        named['name'] = _column(batch, view.feature_name_column)
    for feature in view.full_features:
        source = view.source(feature)
        named[value_name(view, feature)] = cell(batch, source)
        named[created_name(view, feature)] = _created(batch, view, source)
    return pa.RecordBatch.from_arrays(list(named.values()), names=list(named))


def value_name(view: FeatureView, feature: Feature) -> str:
    """Returns the name of the facts' column that holds a feature's values."""
    return f'value:{view.value_column or feature.name}'


def created_name(view: FeatureView, feature: Feature) -> str:
    """Returns the name of the facts' column that tells when a feature's values were written."""
    return f'created:{view.value_column or feature.name}'


def entity_arrays(batch: pa.RecordBatch | pa.Table, columns: tuple[str, ...]) -> list[pa.Array]:
    """Returns the parts of the entity, so that equal entities are equal whatever width their numbers have."""
    return [_comparable(cell(batch, Source.parse(column))) for column in columns]


def microseconds(time: pa.Array) -> pa.Array:
    """Converts timestamps in milliseconds to int64 microseconds since 1970."""
    return pc.multiply(time.cast(pa.int64()), _MICROSECONDS)


def cell(batch: pa.RecordBatch | pa.Table, source: Source) -> pa.Array:
    """Returns a column, or one entry of a map column: null where there is no such key.

    Raises:
      DatasetError: The key is not of the type of the map's keys.
    """
    array = _column(batch, source.column)
    if source.key is None or not pa.types.is_map(array.type):
        # A name that looks like a map's entry may be that of an extracted column.
        return array
    try:
        key = pa.array([source.key]).cast(array.type.key_type)[0]
    except pa.ArrowException as error:
        raise DatasetError(f'{source.column}: got key {source.key!r}, rule: a {array.type.key_type}') from error
    return pc.map_lookup(array, key, 'last')


def _created(batch: pa.RecordBatch, view: FeatureView, source: Source) -> pa.Array:
    if view.created_column is not None:
        return microseconds(_column(batch, view.created_column))
    if writetime_name(source.column) in batch.schema.names:
        return _column(batch, writetime_name(source.column))
    return pa.nulls(batch.num_rows, pa.int64())


def _comparable(array: pa.Array) -> pa.Array:
    if pa.types.is_integer(array.type) or pa.types.is_timestamp(array.type):
        return array.cast(pa.int64())
    return array


def _column(batch: pa.RecordBatch | pa.Table, name: str) -> pa.Array:
    column = batch.column(batch.schema.get_field_index(name))
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
