"""Examples -> record batches of the table's types, their number and checksum, and the examples that do not fit."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from cassandra import cqltypes
from cassandra.cluster import Session

from tfx_cassandra.components.cql.rows import cells
from tfx_cassandra.components.dataset.files.decode import records
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.feature_writer.config import FeatureWriterConfig
from tfx_cassandra.components.ingest.layout import Layout, message
from tfx_cassandra.components.ingest.load import target_of
from tfx_cassandra.components.ingest.mapping import Mapping
from tfx_cassandra.components.ingest.options import LoadOptions
from tfx_cassandra.components.ingest.records import Broken, Position, Records, place
from tfx_cassandra.components.ingest.tfrecords import decoded
from tfx_cassandra.components.ingest.values import scalar_name
from tfx_cassandra.components.write.columns import Column
from tfx_cassandra.components.write.encode import Values, packed
from tfx_cassandra.components.write.statement import is_counter
from tfx_cassandra.components.write.transform import FailedRow

TALLIES = 'tallies'


class Tally(NamedTuple):
    """What was done to some examples.

    Attributes:
      rows: Rows written.
      checksum: Sum over them of a 64-bit hash of the row's serialized values, modulo 2^64; a scan of the same columns,
        in the same order, has the same.
      failed: Examples that were not written.
      error: The error of one of them.
    """

    rows: int = 0
    checksum: int = 0
    failed: int = 0
    error: str = ''


def write_time_field(config: FeatureWriterConfig) -> str | None:
    """Returns the field of the rows that holds their write times, under a name unlike a column's; None for no such."""
    return None if config.write_time_feature is None else f'write_time_feature {config.write_time_feature}'


def total(tallies: Any) -> Tally:
    """Returns the sum of tallies."""
    summed = Tally()
    for tally in tallies:
        summed = Tally(
            summed.rows + tally.rows, (summed.checksum + tally.checksum) % 2**64, summed.failed + tally.failed,
            summed.error or tally.error,
        )  # fmt: skip
    return summed


class TableRows:
    """The rows of a live table that examples become.

    Args:
      session: The driver's session.
      config: Which feature goes where.

    Attributes:
      table: The table.

    Raises:
      SchemaError: The table lacks a column, or the type of one has no form in an example.
    """

    def __init__(self, session: Session, config: FeatureWriterConfig) -> None:
        self.table = tables.describe(session, config.connection.keyspace, config.table)
        if is_counter(self.table):
            rule = 'a table without counters: a repeated run would count twice'
            raise SchemaError(f'table: got {str(self.table)!r}, rule: {rule}')
        features = tuple((source.column, source.feature) for source in config.columns if source.feature is not None)
        constants = tuple((source.column, source.constant) for source in config.columns if source.constant is not None)
        at = write_time_field(config)
        target = target_of(session, self.table, LoadOptions(Mapping(features, constants), timestamp_column=at))
        for column, _ in (*features, *constants):
            self.table.type_of('columns', column)
        for column, _ in features:
            if not _has_form(target.kinds[column]):
                rule = 'a column whose values examples can hold'
                raise SchemaError(f'columns: got {column!r} of type {self.table.type_of("", column)}, rule: {rule}')
        self._layout = Layout(target, None)
        # (field of the rows, feature of the examples): the write time may come from the feature of a column, too.
        self._features = [
            (name, str(config.write_time_feature) if name == at else name) for name in self._layout.wanted
        ]
        self._columns = [Column(source.column, target.kinds[source.column]) for source in config.columns]

    def of_examples(self, path: str, examples: list[bytes], before: int) -> tuple[pa.RecordBatch, list[str]]:
        """Converts serialized examples to rows.

        Args:
          path: The file of the examples, for errors.
          examples: The examples.
          before: The number of examples before them in the file.

        Returns:
          (rows, errors): the rows, and an error for each example that does not fit.
        """
        numbers = before + 1 + np.arange(len(examples))
        columns, broken = decoded(examples, numbers, [feature for _, feature in self._features], others=True)
        named = {name: columns[feature] for name, feature in self._features}
        fits = ~np.isin(numbers, [record.record for record in broken])
        found = Records(named, numbers[fits], None, broken, Position())
        rows = self._layout.rows(found)
        errors = [_message(path, record) for record in broken] + [message(path, found, wrong) for wrong in rows.wrong]
        return rows.batch, errors

    def checksum(self, rows: pa.RecordBatch) -> int:
        """Returns the checksum of rows that `of_examples` has made; see Tally."""
        values = [
            _serialized(column, rows.column(rows.schema.get_field_index(column.name))) for column in self._columns
        ]
        return cells(packed(values), 0, rows.num_rows, len(values))[1]

    def checksum_of(self, failed: FailedRow) -> int:
        """Returns the checksum of a row that was not written."""
        arrays = [column.array([failed.row[column.name]])[0] for column in self._columns]
        return self.checksum(pa.RecordBatch.from_arrays(arrays, names=[column.name for column in self._columns]))


def _has_form(kind: Any) -> bool:
    """Says whether a feature of an example can hold a value of a CQL type: one scalar, or several."""
    if kind.typename == 'frozen' and not issubclass(kind, cqltypes.TupleType):
        return _has_form(kind.subtypes[0])
    if issubclass(kind, cqltypes.VectorType):
        kind = kind.subtype
    elif kind.typename in ('list', 'set') and not issubclass(kind, cqltypes.TupleType):
        kind = kind.subtypes[0]
    return scalar_name(kind) not in ('', 'duration')


def _message(path: str, record: Broken) -> str:
    return f'{path}:{place(record.record, None)}: {record.error}'


def _serialized(column: Column, array: pa.Array) -> Values:
    """Serializes an array; a value that cannot be serialized, whose row fails, is a null."""
    values, errors = column.encoded(array)
    if values is None:
        wrong = np.zeros(len(array), bool)
        wrong[list(errors)] = True
        kept = pa.array(np.arange(len(array)), mask=wrong)
        values, _ = column.encoded(array.take(kept))
    if values is None:
        raise AssertionError('unreachable')
    return values


class _OfTable(beam.DoFn):
    """Knows the rows of the table."""

    def __init__(self, config: FeatureWriterConfig) -> None:
        self._config = config

    def setup(self) -> None:
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(connections.session(self._config.connection, keep=True))
            self._rows = TableRows(session, self._config)
            self._held = stack.pop_all()

    def teardown(self) -> None:
        self._held.close()


class ReadRows(_OfTable):
    """The path of a TFRecord file -> the record batches of its rows; and their Tally, as `tallies`."""

    def process(self, path: str) -> Iterator[Any]:
        before = 0
        for examples in records(path):
            rows, errors = self._rows.of_examples(path, examples, before)
            before += len(examples)
            if rows.num_rows:
                yield rows
            tally = Tally(rows.num_rows, self._rows.checksum(rows), len(errors), errors[0] if errors else '')
            yield beam.pvalue.TaggedOutput(TALLIES, tally)


class Failures(_OfTable):
    """A row that was not written -> the Tally that takes it back."""

    def process(self, failed: FailedRow) -> Iterator[Tally]:
        yield Tally(-1, -self._rows.checksum_of(failed), 1, failed.error)
