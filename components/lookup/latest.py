"""Entities -> the reads that find their features, and the rows read -> columns of the examples.

A read is identified by its whole key: the view, every entity column, the feature (long layout) and the time. Equal keys
are read once.

    key       (entity values as in the examples ..., milliseconds since 1970 or None for the newest values)
    request   (key, None) for a wide view; (key, feature) for each feature of a long view
    row       the values of `Lookup.sources`; None if nothing was found

An entity matches only exactly: a value that no key of the table can have has no features, and a value that is not of
the column's type is an error.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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

Key = tuple[Any, ...]
Request = tuple[Key, str | None]
Row = tuple[Any, ...]

# Types of entity columns that examples represent exactly.
_ENTITIES = (
    'ascii', 'text', 'varchar', 'uuid', 'timeuuid', 'tinyint', 'smallint', 'int', 'bigint', 'varint', 'timestamp',
    'blob', 'inet', 'boolean', 'date', 'time',
)  # fmt: skip
_MICROSECOND = datetime.timedelta(microseconds=1)
_MAX_EXACT_FLOAT = 2.0**24  # from here on a 32-bit float, as in a tf.Example, may stand for several integers


class Bound(NamedTuple):
    """The values of a request's statement.

    Attributes:
      given: The parsed values of the key, by column.
      key: The same as the driver binds them; behind them come those of the table's layout.
      times: The values behind those.
      start, end: The window of the rows in milliseconds since 1970, `[start, end)`; None for no bound.
    """

    given: Mapping[str, Any]
    key: Row
    times: Row
    start: int | None
    end: int | None


@dataclasses.dataclass(frozen=True)
class Lookup:
    """How one view's features are looked up by key; made by `plan_lookup`.

    Attributes:
      view: The view.
      table: Its live table.
      by_time: Whether values are read as of a time, rather than the newest ones.
      where: (column, parsed value) restrictions of every read.
    """

    view: FeatureView
    table: Table
    by_time: bool
    where: tuple[tuple[str, Any], ...] = ()

    @property
    def selected(self) -> tuple[str, ...]:
        """The columns read; of a view with a time the last is the time, if the rows of a key have several salts."""
        time = self.view.timestamp_column
        return (*self.view.value_columns, *[time] * self.is_spread) if time else self.view.value_columns

    @functools.cached_property
    def is_spread(self) -> bool:
        """Whether the newest rows of a key may have any salt."""
        salt = self.table.layout.salt
        return salt is not None and not {*self._equal} >= {*salt.columns}

    @property
    def _equal(self) -> tuple[str, ...]:
        """The columns of which a request gives the values."""
        named = [self.view.feature_name_column] if self.view.feature_name_column else []
        return (*self.view.entity_columns, *(column for column, _ in self.where), *named)

    @functools.cached_property
    def _types(self) -> dict[str, str]:
        return dict(self.table.types)

    @functools.cached_property
    def sources(self) -> tuple[Source, ...]:
        """The columns and map entries that hold features, in the order of a row's values."""
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
        """The statement of a request, newest row first; `bind` returns its values."""
        view = self.view
        where = [f'{quoted(column)} = ?' for column in (*self._equal, *self.table.layout.columns)]
        order = ''
        if view.timestamp_column:
            time = quoted(view.timestamp_column)
            where += [f'{time} <= ?'] * self.by_time + [f'{time} > ?'] * (self.by_time and view.ttl is not None)
            order = f' ORDER BY {time} DESC'
        columns = ', '.join(map(quoted, self.selected))
        table = f'{quoted(self.table.keyspace)}.{quoted(self.table.name)}'
        return f'SELECT {columns} FROM {table} WHERE {" AND ".join(where)}{order}'

    def entity(self, key: Key) -> Row | None:
        """Returns the parsed values of a key's entity columns, or None if no row can have such a key.

        Raises:
          DatasetError: A value is not of its column's type.
        """
        columns = zip(self.view.spine_columns, self.view.entity_columns, key[:-1], strict=True)
        parsed = tuple(_parse_entity(name, self._types[column], value) for name, column, value in columns)
        return None if None in parsed else parsed

    def bind(self, request: Request) -> Bound | None:
        """Returns the values of a request's statement, or None if no row can have such a key.

        Raises:
          DatasetError: A value is not of its column's type.
        """
        (*_, time), feature = request
        view, entity = self.view, self.entity(request[0])
        if entity is None:
            return None
        parsed = [*entity, *(value for _, value in self.where)]
        parsed += [values.parse(self._types[str(view.feature_name_column)], feature)] if feature is not None else []
        equal = list(zip(self._equal, parsed, strict=True))
        given, key = dict(equal), tuple(values.bound(self._types[column], value) for column, value in equal)
        if not (self.by_time and view.timestamp_column):
            return Bound(given, key, (), None, None)
        if view.ttl is None:
            return Bound(given, key, (time,), None, time + 1)
        # A time in whole milliseconds is after time - ttl if it is after this difference rounded down.
        age = -(-(view.ttl // _MICROSECOND) // 1000)
        oldest = max(time - age, -(2**63))
        return Bound(given, key, (time, oldest), oldest, time + 1)

    def keys(self, batch: pa.RecordBatch, times: Sequence[int | None]) -> list[Key | None]:
        """Returns the key of each example; None for an example that lacks its entity or its time.

        Args:
          batch: Examples as returned by `decode`: each feature is a list of values.
          times: Milliseconds since 1970 of each example; unused unless the lookup is by time.

        Raises:
          DatasetError: An example has several values of an entity column.
        """
        columns = [_single(batch, column, self.view) for column in self.view.spine_columns]
        times = times if self.by_time else [None] * batch.num_rows
        keys = zip(*columns, times, strict=True)
        return [None if None in (key if self.by_time else key[:-1]) else key for key in keys]

    def requests(self, key: Key) -> list[Request]:
        """Returns the reads that find all features of a key."""
        if self.view.value_column is None:
            return [(key, None)]
        return [(key, feature.name) for feature in self.view.full_features]

    def columns(
        self, keys: Sequence[Key | None], rows: Mapping[Request, Row | None], types: Mapping[Source, pa.DataType]
    ) -> dict[str, pa.Array]:
        """Returns the features of some examples.

        Args:
          keys: Key of each example; None for nulls.
          rows: Row of each request of the keys; None if nothing was found.
          types: Arrow type of each of `sources`.

        Returns:
          For each feature, by its name in the examples, an array of shape (examples); where nothing was found, the
          default or null.
        """
        columns = {}
        for feature in self.view.full_features:
            source, name = self.view.source(feature), self.view.example_name(feature)
            index, request = self.sources.index(source), feature.name if self.view.value_column else None
            found = (None if key is None else rows[key, request] for key in keys)
            cells = pa.array([None if row is None else row[index] for row in found], types[source])
            columns[name] = with_default(cells, None, feature.default, name)
        return columns


def plan_lookup(view: FeatureView, table: Table, by_time: bool) -> Lookup:
    """Plans the lookup of a view's features by its entity.

    Raises:
      SchemaError: The entity (with, in the long layout, the feature's name) is not exactly the partition key and the
        clustering columns before the time, or is of a type that examples do not represent exactly; or a value in
        `where` is not of its column's type.
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
    if ambiguous := [column for column in where if not values.has_one_form(table.type_of(field, column))]:
        rule = 'a column whose equal values are stored as equal bytes, to look up by key'
        raise SchemaError(
            f'{field}: got {ambiguous[0]!r} of type {dict(table.types)[ambiguous[0]]} in where, rule: {rule}'
        )
    if by_time and not view.timestamp_column:
        by_time = False  # values without a time are valid at any time
    given = {*view.entity_columns, *where}
    given |= {view.feature_name_column} if view.feature_name_column else set()
    times = [view.timestamp_column] if view.timestamp_column else []
    key = [*table.own_partition_key, *table.clustering]
    bucket = table.layout.bucket
    if bucket is not None and bucket.time_column != view.timestamp_column:
        rule = f'{bucket.time_column}, of which {table.name} has buckets'
        raise SchemaError(f'{field}: got time {view.timestamp_column}, rule: {rule}')
    end = key.index(times[0]) if times and times[0] in table.clustering else len(key)
    if given != set(key[:end]) or key[end : end + 1] != times:
        rule = f'the columns of {table.name} before its time: {", ".join(key[:end])}'
        raise SchemaError(
            f'{field}: got entity {", ".join(sorted(map(str, given)))}, time {view.timestamp_column}, rule: {rule}'
        )
    if unsupported := [column for column in view.entity_columns if dict(table.types)[column] not in _ENTITIES]:
        kind, rule = dict(table.types)[unsupported[0]], f'of type {", ".join(_ENTITIES)}'
        raise SchemaError(f'{field}: got entity column {unsupported[0]!r} of type {kind}, rule: {rule}')
    return Lookup(view, table, by_time, tuple((column, wanted[0]) for column, wanted in where.items()))


def moments(batch: pa.RecordBatch, feature: str) -> list[int | None]:
    """Returns the value of each example of a feature that holds milliseconds since 1970.

    Raises:
      DatasetError: The feature does not exist, does not hold integers, or has several values in an example.
    """
    found = _values(batch, feature) if feature in batch.schema.names else None
    if found is None or not all(value is None or isinstance(value, int) for value in found):
        raise no_moments(feature)
    check_milliseconds(f'as_of feature {feature}', found)
    return found


def no_moments(feature: str) -> DatasetError:
    """Returns the error for a feature that does not hold times."""
    return DatasetError(f'as_of: got {feature!r}, rule: a feature of the examples with milliseconds since 1970')


def _parse_entity(name: str, cql_type: str, value: Any) -> Any:
    """Returns the parsed value of a feature of an example; None if no column of the type can hold it."""
    try:
        given = value.decode() if isinstance(value, bytes) and cql_type != 'blob' else value
        if isinstance(value, float) and not abs(value) < _MAX_EXACT_FLOAT:
            raise ValueError('a float may stand for several integers')
        if cql_type == 'boolean' and value in (0, 1):
            given = bool(value)
        return values.parse(cql_type, given)
    except OutOfRangeError:
        return None
    except ValueError as error:
        raise DatasetError(f'feature {name}: got {shown(value)}, rule: a {cql_type} ({error})') from error


def _single(batch: pa.RecordBatch, column: str, view: FeatureView) -> list[Any]:
    found = _values(batch, column)
    if found is None:
        raise DatasetError(f'view {view.name}: got entity column {column!r}, rule: one value of it in each example')
    return found


def _values(batch: pa.RecordBatch, name: str) -> list[Any] | None:
    """Returns the value of each example, None for one without; returns None if an example has several values."""
    index = batch.schema.get_field_index(name)
    if index < 0:  # other batches may have the feature
        return [None] * batch.num_rows
    lists = batch.column(index).to_pylist()
    if any(items is not None and len(items) > 1 for items in lists):
        return None
    return [items[0] if items else None for items in lists]
