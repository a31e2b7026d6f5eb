"""Entities -> the few reads that find their features, and what was found -> columns of the examples.

A read is told by its whole key: the view, every entity column, the feature (long layout) and the moment. Equal keys are
read once.

    key       (entity values as the examples have them ..., milliseconds since 1970 or None for the newest there is)
    request   a key of a wide view; (key, feature) for each feature of a long one
    row       the values of `Lookup.sources`, or None where there is nothing

A value finds no entity but the one it exactly is: what no key of the table can be has no features, and what is no value
of the column's type at all is an error.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tfx_cassandra.components.cql import values
from tfx_cassandra.components.cql.parsers import OutOfRangeError
from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.cql.values import type_parts
from tfx_cassandra.components.dataset.files.examples import Kind, kind_of
from tfx_cassandra.components.dataset.join.join import with_default
from tfx_cassandra.components.dataset.join.unit import check_milliseconds
from tfx_cassandra.components.dataset.spec.view import FeatureView, Source
from tfx_cassandra.components.errors import DatasetError, SchemaError, shown

Key = tuple
Request = tuple[Key, str | None]

# Types of an entity that examples hold exactly.
_ENTITIES = (
    'ascii', 'text', 'varchar', 'uuid', 'timeuuid', 'tinyint', 'smallint', 'int', 'bigint', 'varint', 'timestamp',
    'blob', 'inet', 'boolean', 'date', 'time',
)  # fmt: skip
_MICROSECOND = datetime.timedelta(microseconds=1)
_EXACT_FLOATS = 2.0**24  # from here on a float of 32 bits, as in a tf.Example, stands for several whole numbers


@dataclasses.dataclass(frozen=True)
class Lookup:
    """How one view's features are looked up by key; made by `plan_lookup`.

    Attributes:
      view: The view.
      table: Its live table.
      by_time: Whether a read is about a moment, rather than the newest there is.
      where: (column, parsed value) that every row read has.
    """

    view: FeatureView
    table: Table
    by_time: bool
    where: tuple[tuple[str, Any], ...] = ()

    @property
    def selected(self) -> tuple[str, ...]:
        """The columns read."""
        return self.view.value_columns

    @functools.cached_property
    def _types(self) -> dict[str, str]:
        return dict(self.table.types)

    @functools.cached_property
    def sources(self) -> tuple[Source, ...]:
        """The columns and entries of maps that are features, in the order of a row's values."""
        return tuple(dict.fromkeys(map(self.view.source, self.view.full_features)))

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each feature, by its name in the examples."""
        kinds, field = {}, f'view {self.view.name}'
        for feature in self.view.full_features:
            source = self.view.source(feature)
            cql_type = self.table.type_of(field, source.column)
            if source.key is not None:
                kind, parts = type_parts(type_parts(cql_type)[1][0] if cql_type.startswith('frozen<') else cql_type)
                if kind != 'map':
                    raise SchemaError(f'{field}: got {feature.name} of type {cql_type}, rule: an entry of a map')
                cql_type = parts[1]
            kinds[self.view.example_name(feature)] = kind_of(field, source.column, cql_type)
        return kinds

    @property
    def cql(self) -> str:
        """The statement of a request, newest row first; its values are `bound`."""
        view = self.view
        equal = [*view.entity_columns, *(column for column, _ in self.where)]
        equal += [view.feature_name_column] if view.feature_name_column else []
        where = [f'{quoted(column)} = ?' for column in equal]
        order = ''
        if view.timestamp_column:
            time = quoted(view.timestamp_column)
            where += [f'{time} <= ?'] * self.by_time + [f'{time} > ?'] * (self.by_time and view.ttl is not None)
            order = f' ORDER BY {time} DESC'
        columns = ', '.join(map(quoted, self.selected))
        table = f'{quoted(self.table.keyspace)}.{quoted(self.table.name)}'
        return f'SELECT {columns} FROM {table} WHERE {" AND ".join(where)}{order}'

    def bound(self, request: Request) -> tuple | None:
        """Returns the values of a request's statement; None where no row can have such a key.

        Raises:
          DatasetError: A value is none of its column's type.
        """
        (*entity, moment), feature = request
        view = self.view
        named = zip(view.spine_columns, view.entity_columns, entity, strict=True)
        key = [_entity(name, self._types[column], value) for name, column, value in named]
        if None in key:
            return None
        key += [values.bound(self._types[column], value) for column, value in self.where]
        key += [values.parse(self._types[str(view.feature_name_column)], feature)] if feature is not None else []
        if self.by_time and view.timestamp_column:
            key.append(moment)
            if view.ttl is not None:
                # Of whole milliseconds those after moment - ttl are those after that rounded down.
                age = -(-(view.ttl // _MICROSECOND) // 1000)
                key.append(max(moment - age, -(2**63)))
        return tuple(key)

    def keys(self, batch: pa.RecordBatch, moments: Sequence[int | None]) -> list[Key | None]:
        """Returns the key of each example, None for one that lacks its entity or its moment.

        Args:
          batch: Examples as `decode` gives them: each feature a list of values.
          moments: Milliseconds since 1970 of each example; None of them is used unless the lookup is by time.

        Raises:
          DatasetError: An example has several values of an entity column.
        """
        columns = [_single(batch, column, self.view) for column in self.view.spine_columns]
        times = moments if self.by_time else [None] * batch.num_rows
        keys = zip(*columns, times, strict=True)
        return [None if None in (key if self.by_time else key[:-1]) else key for key in keys]

    def requests(self, key: Key) -> list[Request]:
        """Returns the reads that find all features of a key."""
        if self.view.value_column is None:
            return [(key, None)]
        return [(key, feature.name) for feature in self.view.full_features]

    def columns(
        self, keys: Sequence[Key | None], found: Mapping[Request, tuple | None], types: Mapping[Source, pa.DataType]
    ) -> dict[str, pa.Array]:
        """Returns the features of some examples.

        Args:
          keys: Key of each example; None gives nulls.
          found: Row of each request of the keys, or None.
          types: Arrow type of each of `sources`.

        Returns:
          An array of shape (examples) for each feature, by its name in the examples; its default, or null, where
          nothing was found.
        """
        columns = {}
        for feature in self.view.full_features:
            source, name = self.view.source(feature), self.view.example_name(feature)
            at, request = self.sources.index(source), feature.name if self.view.value_column else None
            rows = (None if key is None else found[key, request] for key in keys)
            cells = pa.array([None if row is None else row[at] for row in rows], types[source])
            columns[name] = with_default(cells, None, feature.default, name)
        return columns


def plan_lookup(view: FeatureView, table: Table, by_time: bool) -> Lookup:
    """Checks that a view's features can be looked up by its entity.

    Raises:
      SchemaError: The entity is not the partition key (with, in the long layout, the feature's name) and the clustering
        columns before the time, or is of a type that examples do not hold exactly; or a value in `where` is none of its
        column's type.
    """
    field = f'view {view.name}'
    for column in (*view.entity_columns, *view.value_columns):
        table.type_of(field, column)
    where = {c: values.parse_all(c, table.type_of(field, c), given) for c, given in view.filters}
    if len(where) < len(view.filters):
        raise SchemaError(
            f'{field}: got {[c for c, _ in view.filters]} in where, rule: each column once, to look up by key'
        )
    where.pop(str(view.feature_name_column), None)
    if several := [column for column, wanted in where.items() if len(wanted) > 1]:
        raise SchemaError(f'{field}: got several values of {several[0]!r} in where, rule: one, to look up by key')
    if vague := [column for column in where if not values.has_one_form(table.type_of(field, column))]:
        rule = 'a column whose equal values are stored alike, to look up by key'
        raise SchemaError(f'{field}: got {vague[0]!r} of type {dict(table.types)[vague[0]]} in where, rule: {rule}')
    if by_time and not view.timestamp_column:
        by_time = False  # what holds always holds at any moment
    given = {*view.entity_columns, *where}
    given |= {view.feature_name_column} if view.feature_name_column else set()
    times = [view.timestamp_column] if view.timestamp_column else []
    key = [*table.partition_key, *table.clustering]
    end = key.index(times[0]) if times and times[0] in table.clustering else len(key)
    if given != set(key[:end]) or key[end : end + 1] != times:
        rule = f'the columns of {table.name} before its time: {", ".join(key[:end])}'
        raise SchemaError(
            f'{field}: got entity {", ".join(sorted(map(str, given)))}, time {view.timestamp_column}, rule: {rule}'
        )
    if odd := [column for column in view.entity_columns if dict(table.types)[column] not in _ENTITIES]:
        kind, rule = dict(table.types)[odd[0]], f'of type {", ".join(_ENTITIES)}'
        raise SchemaError(f'{field}: got entity column {odd[0]!r} of type {kind}, rule: {rule}')
    return Lookup(view, table, by_time, tuple((column, wanted[0]) for column, wanted in where.items()))


def moments(batch: pa.RecordBatch, feature: str) -> list[int | None]:
    """Returns a feature that holds milliseconds since 1970, of each example.

    Raises:
      DatasetError: The feature is not there, is not of integers, or an example has several of them.
    """
    found = _values(batch, feature) if feature in batch.schema.names else None
    if found is None or not all(value is None or isinstance(value, int) for value in found):
        raise no_moments(feature)
    check_milliseconds(f'as_of feature {feature}', found)
    return found


def no_moments(feature: str) -> DatasetError:
    """Returns the error for a feature that does not say a moment."""
    return DatasetError(f'as_of: got {feature!r}, rule: a feature of the examples with milliseconds since 1970')


def _entity(name: str, cql_type: str, value: Any) -> Any:
    """Returns what the driver binds for a feature of an example; None where no column of the type can hold it."""
    try:
        given = value.decode() if isinstance(value, bytes) and cql_type != 'blob' else value
        if isinstance(value, float) and not abs(value) < _EXACT_FLOATS:
            raise ValueError('a float may stand for several whole numbers')
        if cql_type == 'boolean' and value in (0, 1):
            given = bool(value)
        return values.bound(cql_type, values.parse(cql_type, given))
    except OutOfRangeError:
        return None
    except ValueError as error:
        raise DatasetError(f'feature {name}: got {shown(value)}, rule: a {cql_type} ({error})') from error


def _single(batch: pa.RecordBatch, column: str, view: FeatureView) -> list:
    found = _values(batch, column)
    if found is None:
        raise DatasetError(f'view {view.name}: got entity column {column!r}, rule: one value of it in each example')
    return found


def _values(batch: pa.RecordBatch, name: str) -> list | None:
    """Returns the value of each example, None where it has none; None for all where one has several."""
    index = batch.schema.get_field_index(name)
    if index < 0:  # other batches may have it
        return [None] * batch.num_rows
    lists = batch.column(index).to_pylist()
    if any(some is not None and len(some) > 1 for some in lists):
        return None
    return [some[0] if some else None for some in lists]
