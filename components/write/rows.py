"""The rows of one write: the arrays that a statement binds, and the rows that cannot be bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver.write_time import write_times as reserved_times
from tfx_cassandra.components.errors import shown
from tfx_cassandra.components.write.columns import Column, Errors, write_times
from tfx_cassandra.components.write.encode import Keys, Values
from tfx_cassandra.components.write.placing import placed
from tfx_cassandra.components.write.statement import TIMESTAMP, TTL, Statement, WriteOptions


class Source:
    """Rows as they are given: mappings, or a record batch.

    Attributes:
      count: Number of rows.
      names: The fields that some row has.
      errors: Rows that are no mappings.
    """

    def __init__(self, rows: pa.RecordBatch | Sequence[Mapping[str, Any]]) -> None:
        self.errors: Errors = {}
        self._batch = rows if isinstance(rows, pa.RecordBatch) else None
        if self._batch is not None:
            self.count, self.names = self._batch.num_rows, set(self._batch.schema.names)
            return
        self._rows: list[Mapping[str, Any]] = list(rows)
        for number, row in enumerate(self._rows):
            if not isinstance(row, Mapping):
                self.errors[number] = f'row: got {shown(row)}, rule: a mapping from columns to values'
                self._rows[number] = {}
        self.count, self.names = len(self._rows), set().union(*self._rows)

    def values(self, name: str) -> pa.Array | list[Any]:
        """Returns the values of a field: an array, or a list with None where a row lacks it."""
        if self._batch is not None:
            return self._batch.column(self._batch.schema.get_field_index(name))
        return [row.get(name) for row in self._rows]

    def with_fields_beyond(self, known: set[str]) -> Errors:
        """Returns the rows with fields that are not known."""
        if self.names <= known:
            return {}
        rule = f'columns of the table ({", ".join(sorted(known))})'
        if self._batch is not None:
            message = f'row: got fields {sorted(self.names - known)}, rule: {rule}'
            return dict.fromkeys(range(self.count), message)
        beyond = {number: sorted(map(str, set(row) - known)) for number, row in enumerate(self._rows)}
        return {number: f'row: got fields {names}, rule: {rule}' for number, names in beyond.items() if names}


class Arrays:
    """The rows of a source as arrays for a table's columns.

    Attributes:
      columns: The arrays by column; of a column that no row has there is none.
      errors: The rows that cannot be written.
    """

    def __init__(self, source: Source, table: Table, statement: Statement, options: WriteOptions) -> None:
        self.count, self.errors, self._options, self._table = source.count, dict(source.errors), options, table
        self._timestamp = options.timestamp_column or table.event_time
        fields = {column.name: column for column in statement.columns if column.name not in (TTL, TIMESTAMP)}
        extra = {name for name in (self._timestamp, options.ttl_column) if name}
        self._add(source.with_fields_beyond({*fields, *extra}))
        self.columns = {
            name: self._checked(column.array(source.values(name)))
            for name, column in fields.items()
            if name in source.names
        }
        self._fill_user()
        made, wrong = placed(table.layout, self.columns, fields, self.errors, self.count)
        self.columns |= made
        self._add(wrong)
        self.times = self._times(source)
        self.ttls = self._ttls(source, statement)

    def _checked(self, made: tuple[pa.Array, Errors]) -> pa.Array:
        self._add(made[1])
        return made[0]

    def _add(self, errors: Errors) -> None:
        for row, message in errors.items():
            self.errors.setdefault(row, message)

    def _times(self, source: Source) -> pa.Array:
        if self._timestamp is None:
            return None
        if self._timestamp not in source.names:
            message = f'row: got no [{self._timestamp!r}], rule: the write time of every row'
            self._add(dict.fromkeys(range(self.count), message))
            return pa.array(np.zeros(self.count, np.int64))
        return self._checked(write_times(self._timestamp, source.values(self._timestamp)))

    def _ttls(self, source: Source, statement: Statement) -> pa.Array | None:
        options = self._options
        if options.ttl is not None:
            return pa.array(np.full(self.count, options.ttl.total_seconds(), np.int32))
        if options.ttl_column is None or options.ttl_column not in source.names:
            return None
        column = next(column for column in statement.columns if column.name == TTL)
        ttls = self._checked(Column(options.ttl_column, column.kind).array(source.values(options.ttl_column)))
        bad = pc.indices_nonzero(pc.fill_null(pc.or_(pc.less(ttls, 1), pc.greater(ttls, 20 * 365 * 86400)), False))
        rule = 'whole seconds, at least one and at most 20 years'
        self._add({row: f'{options.ttl_column}: got {ttls[row]}, rule: {rule}' for row in bad.to_pylist()})
        return ttls

    def _fill_user(self) -> None:
        """Fills `user_id` of feature_store from the metadata, for the view that has it in its key."""
        metadata, users = self.columns.get('metadata'), self.columns.get('user_id')
        if self._table.name != 'feature_store' or metadata is None or not pa.types.is_map(metadata.type):
            return
        if 'user_id' not in dict(self._table.types):
            return
        found = pc.map_lookup(metadata, pa.scalar('user_id'), 'last')
        found = pc.if_else(pc.equal(found, ''), pa.scalar(None, pa.string()), found)
        self.columns['user_id'] = found if users is None else pc.coalesce(users, found)

    def lacking(self, keys: Sequence[str]) -> NDArray[Any]:
        """Returns of each row whether it lacks any of some columns."""
        lacks = np.zeros(self.count, bool)
        for key in keys:
            array = self.columns.get(key)
            lacks |= True if array is None else array.is_null().to_numpy(zero_copy_only=False)
        return lacks

    def check_keys(self, rows: NDArray[Any], keys: Sequence[str]) -> None:
        """Adds an error for those of some rows that lack a key column."""
        lacks = {key: self.lacking([key]) for key in keys}
        for row in rows[self.lacking(keys)[rows]].tolist():
            missing = [key for key in keys if lacks[key][row]]
            self._add({row: f'row: got no {missing}, rule: every column of the primary key has a value'})

    def check_static(self, static: NDArray[Any], statement: Statement) -> None:
        """Adds an error for rows of static columns that have other columns, too."""
        bound = {column.name for column in statement.columns}
        for name, array in self.columns.items():
            if name not in bound:
                beyond = static & array.is_valid().to_numpy(zero_copy_only=False)
                rule = 'the whole primary key, or static columns'
                self._add(
                    dict.fromkeys(
                        np.flatnonzero(beyond).tolist(), f'row: got {name} without the clustering columns, rule: {rule}'
                    )
                )


class Bound:
    """Rows that a statement can bind, serialized.

    Attributes:
      rows: Their numbers in the source.
      values: The values of each column, in the statement's order.
      keys: Their partition keys.
      written: The columns that some row has.
    """

    def __init__(self, arrays: Arrays, rows: NDArray[Any], table: Table, statement: Statement) -> None:
        self._arrays, self._table, self._statement = arrays, table, statement
        self.rows, self.written = rows, set(arrays.columns)
        self.values: list[Values] = []
        while not self._bind():
            self.rows = np.setdiff1d(self.rows, list(arrays.errors))

    def _bind(self) -> bool:
        """Serializes the rows; returns False, with errors for some of them, if they have to be left out."""
        errors = len(self._arrays.errors)
        self.values = [self._values(column) for column in self._statement.columns]
        if len(self._arrays.errors) > errors:
            return False
        names = [column.name for column in self._statement.columns]
        parts = [self.values[names.index(key)] for key in self._table.partition_key]
        try:
            self.keys = Keys(parts)
        except ValueError:
            for place, row in enumerate(self.rows.tolist()):
                self._check_key(place, row, names)
            return False
        return True

    def _check_key(self, place: int, row: int, names: list[str]) -> None:
        columns = [self._statement.columns[names.index(key)] for key in self._table.partition_key]
        arrays = [self._array(column) for column in columns]
        values = [column.encoded(array.slice(place, 1))[0] for column, array in zip(columns, arrays, strict=True)]
        try:
            Keys([value for value in values if value is not None])
        except ValueError as error:
            self._arrays.errors.setdefault(row, str(error))

    def _array(self, column: Column) -> Any:
        """Returns the values that the rows bind for a column; None where none has one."""
        if column.name == TIMESTAMP:
            times = self._arrays.times
            if times is None:
                first = reserved_times(len(self.rows))
                return pa.array(np.arange(first, first + len(self.rows)))
            return times.take(pa.array(self.rows))
        array = self._arrays.ttls if column.name == TTL else self._arrays.columns.get(column.name)
        if array is None or len(self.rows) == self._arrays.count:
            return array
        return array.take(pa.array(self.rows))

    def _values(self, column: Column) -> Values:
        array = self._array(column)
        if array is None:
            return Values.nulls(len(self.rows))
        values, errors = column.encoded(array)
        for place, message in errors.items():
            self._arrays.errors.setdefault(int(self.rows[place]), message)
        return Values.nulls(len(self.rows)) if values is None else values
