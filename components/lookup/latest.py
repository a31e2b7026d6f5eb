"""Entities -> the few reads that find their features, and what was found -> columns of the examples.

A read is told by its whole key: the view, every entity column, the feature (long layout) and the moment. Equal keys are
read once.

    key       (entity values ..., milliseconds since 1970 or None for the newest there is)
    request   a key of a wide view; (key, feature) for each feature of a long one
    row       the values of `Lookup.selected`, or None where there is nothing
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from cassandra.util import Date, Time

from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.dataset.files.examples import Kind, kind_of
from tfx_cassandra.components.dataset.join.join import with_default
from tfx_cassandra.components.dataset.spec.view import FeatureView, restrictions
from tfx_cassandra.components.errors import DatasetError, SchemaError

_MAP = re.compile(r'(?:frozen<)?map<.+, *(.+?)>+')
Key = tuple
Request = tuple[Key, str | None]

# CQL type -> what the driver binds, from what a tf.Example holds.
_BINDS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(['ascii', 'text', 'varchar'], bytes.decode),
    **dict.fromkeys(['uuid', 'timeuuid'], lambda value: uuid.UUID(value.decode())),
    **dict.fromkeys(['tinyint', 'smallint', 'int', 'bigint', 'varint', 'timestamp'], int),
    'blob': bytes,
    'inet': lambda value: str(ipaddress.ip_address(value.decode())),
    'boolean': bool,
    'date': Date,
    'time': Time,
}


@dataclasses.dataclass(frozen=True)
class Lookup:
    """How one view's features are looked up by key; made by `plan_lookup`.

    Attributes:
      view: The view.
      table: Its live table.
      by_time: Whether a read is about a moment, rather than the newest there is.
    """

    view: FeatureView
    table: Table
    by_time: bool

    @property
    def selected(self) -> tuple[str, ...]:
        """The columns read, in the order of a row's values."""
        return self.view.value_columns

    @property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each feature, by its name in the examples."""
        kinds, field = {}, f'view {self.view.name}'
        for feature in self.view.full_features:
            source = self.view.source(feature)
            cql_type = self.table.type_of(field, source.column)
            if source.key is not None:
                entry = _MAP.fullmatch(cql_type)
                if entry is None:
                    raise SchemaError(f'{field}: got {feature.name} of type {cql_type}, rule: an entry of a map')
                cql_type = entry[1]
            kinds[self.view.example_name(feature)] = kind_of(field, source.column, cql_type)
        return kinds

    @property
    def cql(self) -> str:
        """The statement of a request, newest row first; its values are `bound`."""
        view = self.view
        equal = [*view.entity_columns, *(column for column, _ in restrictions(view.where))]
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

    def bound(self, request: Request) -> tuple:
        """Returns the values of a request's statement.

        Raises:
          DatasetError: A value is none of its column's type.
        """
        (*entity, moment), feature = request
        values = []
        for column, value in zip(self.view.entity_columns, entity, strict=True):
            cql_type = dict(self.table.types)[column]
            try:
                values.append(_BINDS[cql_type](value))
            except (TypeError, ValueError) as error:
                raise DatasetError(f'feature {column}: got {value!r}, rule: a {cql_type} ({error})') from error
        values += [value for _, (value,) in restrictions(self.view.where)]
        values += [feature] if feature is not None else []
        if self.by_time and self.view.timestamp_column:
            values.append(moment)
            if self.view.ttl is not None:
                values.append(moment - int(self.view.ttl.total_seconds() * 1000))
        return tuple(values)

    def keys(self, batch: pa.RecordBatch, moments: Sequence[int | None]) -> list[Key | None]:
        """Returns the key of each example, None for one that lacks its entity or its moment.

        Args:
          batch: Examples as `decode` gives them: each feature a list of values.
          moments: Milliseconds since 1970 of each example; None of them is used unless the lookup is by time.

        Raises:
          DatasetError: No example of the batch has some entity column, or one has several values of it.
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
        self, keys: Sequence[Key | None], found: Mapping[Request, tuple | None], types: Mapping[str, pa.DataType]
    ) -> dict[str, pa.Array]:
        """Returns the features of some examples.

        Args:
          keys: Key of each example; None gives nulls.
          found: Row of each request of the keys, or None.
          types: Arrow type of each of `selected`.

        Returns:
          An array of shape (examples) for each feature, by its name in the examples; its default, or null, where
          nothing was found.
        """
        columns = {}
        for feature in self.view.full_features:
            source, name = self.view.source(feature), self.view.example_name(feature)
            at, request = self.selected.index(source.column), feature.name if self.view.value_column else None
            rows = (None if key is None else found[key, request] for key in keys)
            values = [None if row is None else row[at] for row in rows]
            kind = types[source.column]
            if source.key is not None:
                values = [None if value is None else dict(value).get(source.key) for value in values]
                kind = kind.item_type
            columns[name] = with_default(pa.array(values, kind), None, feature.default, name)
        return columns


def plan_lookup(view: FeatureView, table: Table, by_time: bool) -> Lookup:
    """Checks that a view's features can be looked up by its entity.

    Raises:
      SchemaError: The entity is not the partition key (with, in the long layout, the feature's name) and the clustering
        columns before the time, or is of a type that examples do not hold exactly.
    """
    field = f'view {view.name}'
    if several := [column for column, values in restrictions(view.where) if len(values) > 1]:
        raise SchemaError(f'{field}: got several values of {several[0]!r} in where, rule: one, to look up by key')
    for column in (*view.entity_columns, *Lookup(view, table, by_time).selected):
        table.type_of(field, column)
    if by_time and not view.timestamp_column:
        by_time = False  # what holds always holds at any moment
    given = {*view.entity_columns, *(column for column, values in restrictions(view.where) if len(values) == 1)}
    given |= {view.feature_name_column} if view.feature_name_column else set()
    times = [view.timestamp_column] if view.timestamp_column else []
    key = [*table.partition_key, *table.clustering]
    end = key.index(times[0]) if times and times[0] in table.clustering else len(key)
    if given != set(key[:end]) or key[end : end + 1] != times:
        rule = f'the columns of {table.name} before its time: {", ".join(key[:end])}'
        raise SchemaError(
            f'{field}: got entity {", ".join(sorted(map(str, given)))}, time {view.timestamp_column}, rule: {rule}'
        )
    if odd := [column for column in view.entity_columns if dict(table.types)[column] not in _BINDS]:
        raise SchemaError(f'{field}: got entity column {odd[0]!r} of type {dict(table.types)[odd[0]]}, rule: no such')
    return Lookup(view, table, by_time)


def moments(batch: pa.RecordBatch, feature: str) -> list[int | None]:
    """Returns a feature that holds milliseconds since 1970, of each example.

    Raises:
      DatasetError: The feature is not there, is not of integers, or an example has several of them.
    """
    values = _values(batch, feature)
    if values is None or not all(value is None or isinstance(value, int) for value in values):
        raise DatasetError(f'as_of: got {feature!r}, rule: a feature of the examples with milliseconds since 1970')
    return values


def _single(batch: pa.RecordBatch, column: str, view: FeatureView) -> list:
    values = _values(batch, column)
    if values is None:
        raise DatasetError(f'view {view.name}: got entity column {column!r}, rule: one value of it in the examples')
    return values


def _values(batch: pa.RecordBatch, name: str) -> list | None:
    index = batch.schema.get_field_index(name)
    if index < 0:
        return None
    lists = batch.column(index).to_pylist()
    if any(some is not None and len(some) > 1 for some in lists):
        return None
    return [some[0] if some else None for some in lists]
