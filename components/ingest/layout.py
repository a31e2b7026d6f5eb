"""Records -> rows of a table: fields become columns of its types; what does not fit is an error of its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping as Kinds
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from cassandra import cqltypes
from numpy.typing import NDArray

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.cql.types import declared_name
from tfx_cassandra.components.errors import SchemaError, shown
from tfx_cassandra.components.ingest.convert import Converted, check_type, convert
from tfx_cassandra.components.ingest.mapping import Mapping
from tfx_cassandra.components.ingest.records import Records
from tfx_cassandra.components.write.columns import plain

LARGEST_KEY = 65_535  # bytes of a value in a key
_KEY = f'at most {LARGEST_KEY:,} bytes in a column of the primary key'


class Wrong(NamedTuple):
    """A value that does not fit.

    Attributes:
      record: Index of its record among the Records.
      column: The column, or the feature of the long layout.
      error: `got VALUE, rule: RULE`.
    """

    record: int
    column: str
    error: str


class Rows(NamedTuple):
    """Rows to be written.

    Attributes:
      batch: Their values; the fields are columns of the table.
      records: Index of each row's record among the Records; shape (rows).
      wrong: The first value that does not fit of each record that has one; such records have no rows.
    """

    batch: pa.RecordBatch
    records: NDArray[Any]
    wrong: list[Wrong]


@dataclasses.dataclass(frozen=True)
class Target:
    """Where rows go.

    Attributes:
      table: The live table.
      kinds: Driver CQL type of each column.
      mapping: How records become rows.
      timestamp_column: The column, or another field of the input, with each row's write time; or None.
    """

    table: Table
    kinds: Kinds[str, Any]
    mapping: Mapping
    timestamp_column: str | None = None


class Layout:
    """Converts records of an input to rows.

    Args:
      target: Where they go.
      fields: The fields of the input; None if each record has its own.
      schema: Their Arrow types; None if they are texts, or each value has its own type.

    Raises:
      SchemaError: The table, the mapping and the input do not fit each other.
    """

    def __init__(self, target: Target, fields: Sequence[str] | None, schema: pa.Schema | None = None) -> None:
        self._target, self._mapping = target, target.mapping
        at = target.timestamp_column
        known = None if fields is None else [name for name in fields if name != at or name in target.kinds]
        self._fields = self._mapping.fields(target.table, known)
        self._kinds = {column: target.kinds[column] for column in self._fields}
        if at is not None:
            self._add_write_time(at, fields)
        self._keys = target.table.own_key
        self._constants = {name: self._constant(name, text) for name, text in self._mapping.constants}
        if schema is not None:
            self._check(schema)

    @property
    def wanted(self) -> list[str]:
        """The fields that are read."""
        return list(dict.fromkeys([*self._fields.values(), *(field for _, field in self._mapping.features)]))

    def kind_of(self, field: str) -> Any:
        """Returns the CQL type that a field is converted to."""
        for column, name in self._fields.items():
            if name == field:
                return self._kinds[column]
        return self._target.kinds[self._mapping.value_column]

    def _add_write_time(self, at: str, fields: Sequence[str] | None) -> None:
        if at in dict(self._mapping.constants):
            raise SchemaError(f'timestamp-column: got {at!r}, rule: no constant')
        if at in self._fields:
            if self._kinds[at].typename != 'timestamp':
                rule = f'a column of type timestamp, which it is not in {self._target.table}'
                raise SchemaError(f'timestamp-column: got {at!r}, rule: {rule}')
            return
        if at in self._target.kinds or (fields is not None and at not in fields):
            raise SchemaError(f'timestamp-column: got {at!r}, rule: a column that is loaded, or a field of the input')
        self._fields[at], self._kinds[at] = at, cqltypes.TimestampType

    def _constant(self, column: str, text: str) -> pa.Array:
        found = convert([text], self._target.kinds[column])
        if found.errors:
            raise SchemaError(f'mapping.constants: got {column}={text!r}, rule: {self._rule(column, found.errors[0])}')
        return found.values

    def _check(self, schema: pa.Schema) -> None:
        named = [*self._fields.items(), *((self._mapping.value_column, field) for _, field in self._mapping.features)]
        for column, field in named:
            try:
                check_type(schema.field(field).type, self._kinds.get(column) or self._target.kinds[column])
            except ValueError as error:
                rule = self._rule(column, str(error))
                raise SchemaError(
                    f'{column}: got field {field!r} of type {schema.field(field).type}, rule: {rule}'
                ) from error

    def _rule(self, column: str, reason: str) -> str:
        kind = self._kinds.get(column) or self._target.kinds[column]
        return f'a value of type {declared_name(kind)} ({reason})'

    def rows(self, records: Records) -> Rows:
        """Converts records to rows; with features, those of one feature stand together."""
        wrong: dict[int, Wrong] = {}
        columns = {
            column: self._column(records, column, column, field, wrong) for column, field in self._fields.items()
        }
        features = [
            (name, self._column(records, self._mapping.value_column, name, field, wrong))
            for name, field in self._mapping.features
        ]
        for column, values in columns.items():
            if column in self._keys or column == self._target.timestamp_column:
                self._check_key(column, values, wrong)
        count = len(records.numbers)
        right = np.ones(count, bool)
        right[list(wrong)] = False
        found = [wrong[record] for record in sorted(wrong)]
        if features:
            return self._long(columns, features, right, found)
        kept = np.flatnonzero(right)
        if found:
            columns = {column: values.filter(pa.array(right)) for column, values in columns.items()}
        return Rows(self._batch(columns, len(kept)), kept, found)

    def _column(self, records: Records, column: str, shown_as: str, field: str, wrong: dict[int, Wrong]) -> pa.Array:
        source = records.columns[field]
        kind = self._kinds.get(column) or self._target.kinds[column]
        found: Converted = convert(source, kind)
        for record, reason in found.errors.items():
            value = source[record] if isinstance(source, list) else plain(source[record])
            wrong.setdefault(record, Wrong(record, shown_as, f'got {shown(value)}, rule: {self._rule(column, reason)}'))
        return found.values

    def _check_key(self, column: str, values: pa.Array, wrong: dict[int, Wrong]) -> None:
        is_key = column in self._keys
        # A row without clustering columns writes static ones; TableWriter checks it.
        may_lack = self._target.table.static and column in self._target.table.clustering
        if values.null_count and not may_lack:
            rule = 'a value in every column of the primary key' if is_key else 'a write time of every row'
            for record in np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)):
                wrong.setdefault(int(record), Wrong(int(record), column, f'got nothing, rule: {rule}'))
        if not is_key or not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
            return
        sizes = np.asarray(pc.fill_null(pc.binary_length(values), 1))
        empty = sizes == 0 if self._target.table.partition_key == (column,) else np.zeros(len(sizes), bool)
        for record in np.flatnonzero((sizes > LARGEST_KEY) | empty):
            rule = 'a partition key of at least 1 byte' if empty[record] else _KEY
            wrong.setdefault(int(record), Wrong(int(record), column, f'got {sizes[record]:,} bytes, rule: {rule}'))

    def _batch(self, columns: dict[str, pa.Array], count: int) -> pa.RecordBatch:
        zeros = pa.array(np.zeros(count, np.int32))
        arrays = {**columns, **{name: value.take(zeros) for name, value in self._constants.items()}}
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))

    def _long(
        self,
        columns: dict[str, pa.Array],
        features: list[tuple[str, pa.Array]],
        right: NDArray[Any],
        wrong: list[Wrong],
    ) -> Rows:
        """Makes a row of each feature of each record that has a value of it."""
        # (records, features) -> (features x records with a value)
        present = [np.flatnonzero(right & ~values.is_null().to_numpy(zero_copy_only=False)) for _, values in features]
        records = np.concatenate(present)
        name_column, value_column = self._mapping.feature_name_column, self._mapping.value_column
        names = np.repeat(np.arange(len(features), dtype=np.int32), [len(kept) for kept in present])
        long = {column: values.take(pa.array(records)) for column, values in columns.items()}
        long[name_column] = pa.array([name for name, _ in features], pa.string()).take(pa.array(names))
        long[value_column] = pa.concat_arrays(
            [values.take(pa.array(kept)) for (_, values), kept in zip(features, present, strict=True)]
        )
        return Rows(self._batch(long, len(records)), records, wrong)


def message(path: str, records: Records, wrong: Wrong) -> str:
    """Returns the error of a value in one line: file, place, column, value and rule."""
    return f'{path}:{records.place(wrong.record)}: {wrong.column}: {wrong.error}'
