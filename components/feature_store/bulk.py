"""Frames of values -> record batches -> the table, by TableWriter.

A frame has the columns model_id, feature_name, timestamp and value, and may have metadata, written_at and entity_id.
"""

from __future__ import annotations

import datetime
import functools
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.driver.exchange import Exchange
from tfx_cassandra.components.driver.write_time import write_times as reserved_times
from tfx_cassandra.components.errors import WriteError, invalid
from tfx_cassandra.components.feature_store.tables import FeatureTable
from tfx_cassandra.components.write.columns import WRITE_TIME
from tfx_cassandra.components.write.statement import WriteOptions
from tfx_cassandra.components.write.writer import Failure, TableWriter

_ROWS = 50_000  # of one part; between two of them a write may be cancelled
_REQUIRED = ('model_id', 'feature_name', 'timestamp', 'value')
_OPTIONAL = ('metadata', 'written_at', 'entity_id', 'user_id')
_MAP = pa.map_(pa.string(), pa.string())


def is_frame(rows: object) -> bool:
    """Returns whether rows are a record batch, a table, or a frame of polars or pandas."""
    return isinstance(rows, (pa.RecordBatch, pa.Table, _class('polars'), _class('pandas')))


def arrow(frame: Any) -> pa.Table:
    """Returns a frame as a table with the columns that values have.

    Raises:
      ValueError: A column is missing, unknown or of a type that no value has.
    """
    if isinstance(frame, pa.RecordBatch):
        table = pa.Table.from_batches([frame])
    elif isinstance(frame, pa.Table):
        table = frame
    else:
        table = frame.to_arrow() if isinstance(frame, _class('polars')) else _from_pandas(frame)
    names = table.schema.names
    rule = f'the columns {", ".join(_REQUIRED)}, and any of {", ".join(_OPTIONAL)}'
    if not {*_REQUIRED} <= {*names} <= {*_REQUIRED, *_OPTIONAL} or len(names) > len({*names}):
        raise invalid('rows', names, rule)
    if 'entity_id' in names and 'user_id' in names:
        raise invalid('rows', names, 'without user_id where there is an entity_id')
    for name in ('timestamp', 'written_at'):
        if name in names and (not pa.types.is_timestamp(kind := table.schema.field(name).type) or kind.tz is None):
            raise invalid(name, str(kind), 'a column of timestamps with a time zone')
    return _with_map(table) if 'metadata' in names else table


class Bulk:
    """Writes the parts of one frame.

    Args:
      exchange: Sends the writes.
      table: The table.
      consistency: The consistency level.
      ttl: Seconds until the rows expire, or None.
      written_at: The write time in microseconds since 1970 of rows that have none, or None for the time of the write.
    """

    def __init__(
        self, exchange: Exchange, table: FeatureTable, consistency: str, ttl: int | None, written_at: int | None
    ) -> None:
        self._exchange, self._table, self._written_at = exchange, table, written_at
        self._options: dict[str, Any] = {
            'consistency': consistency,
            'ttl': None if ttl is None else datetime.timedelta(seconds=ttl),
            'timestamp_column': 'written_at',
        }
        self._writers: dict[str, TableWriter] = {}

    async def write(self, frame: pa.Table) -> tuple[int, dict[int, WriteError]]:
        """Returns the number of rows, and the errors of those that were not written."""
        errors: dict[int, WriteError] = {}
        start = 0
        for batch in frame.combine_chunks().to_batches(max_chunksize=_ROWS):
            try:
                found = await self._exchange.call(functools.partial(self._written, batch))
            except DRIVER_ERRORS as error:
                raise WriteError(f'{self._table.name}: cannot write ({one_line(error)})') from error
            for failure in found:
                place = start + failure.row
                message = f'{self._table.name}: cannot write row {place} of the frame ({failure.message})'
                errors.setdefault(place, WriteError(message))
            start += batch.num_rows
        return start, errors

    def _written(self, batch: pa.RecordBatch) -> list[Failure]:
        """Writes a part; returns its failures."""
        batch = self._timed(batch)
        empty = _empty_keys(batch, self._table.owner)
        failures = list(empty.values())
        if empty:
            places = np.setdiff1d(np.arange(batch.num_rows), list(empty))
            batch = batch.take(pa.array(places))
        else:
            places = np.arange(batch.num_rows)
        found = self._writer('unset').write(batch)
        # A null value is one that is known to be missing, unlike absent metadata: it replaces what is stored.
        missing = np.setdiff1d(np.flatnonzero(_nulls(batch, 'value')), [failure.row for failure in found])
        if len(missing):
            part = pa.RecordBatch.from_pydict(
                {
                    name: batch.column(place).take(pa.array(missing))
                    for place, name in enumerate(batch.schema.names)
                    if name not in ('metadata', 'user_id')
                }
            )
            again = self._writer('delete').write(part)
            found += [failure._replace(row=int(missing[failure.row])) for failure in again]
        failures += [failure._replace(row=int(places[failure.row])) for failure in found]
        return failures

    def _writer(self, nulls: Any) -> TableWriter:
        if nulls not in self._writers:
            options = WriteOptions(nulls=nulls, **self._options)
            self._writers[nulls] = TableWriter(self._exchange.session, self._table.table, options)
        return self._writers[nulls]

    def _timed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Returns a batch in which each row has its write time: both requests of a row have the same."""
        if self._written_at is None:
            first = reserved_times(batch.num_rows)
            times = pa.array(np.arange(first, first + batch.num_rows))
        else:
            times = pa.array(np.full(batch.num_rows, self._written_at, np.int64))
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        given = columns.get('written_at')
        times = times.cast(WRITE_TIME)
        if given is not None:
            # Finer than a microsecond is cut off: it cannot decide which of two writes counts.
            times = pc.coalesce(given.cast(WRITE_TIME, safe=False), times)
        return pa.RecordBatch.from_pydict({**columns, 'written_at': times})


def _empty_keys(batch: pa.RecordBatch, owner: tuple[str, ...]) -> dict[int, Failure]:
    """Returns the failures of rows with an empty text in their key, which Cassandra would take."""
    failures = {}
    for name in (*owner, 'feature_name'):
        column = batch.column(batch.schema.get_field_index(name))
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            for row in pc.indices_nonzero(pc.fill_null(pc.equal(column, ''), False)).to_pylist():
                failures[row] = Failure(row, 'ValueError', f"{name}: got '', rule: a text of 1 to 65535 bytes of UTF-8")
    return failures


def _nulls(batch: pa.RecordBatch, name: str) -> Any:
    return batch.column(batch.schema.get_field_index(name)).is_null().to_numpy(zero_copy_only=False)


def _class(package: str) -> Any:
    """Returns a package's class of frames; an empty tuple, of which nothing is an instance, if it is not loaded."""
    return getattr(sys.modules.get(package), 'DataFrame', ())


def _from_pandas(frame: Any) -> pa.Table:
    columns = {}
    for name in frame.columns:
        if name == 'metadata':
            columns[name] = pa.array([_pairs(value) for value in frame[name]], _MAP)
        else:
            # A NaN is a value; in other columns pandas means a null by it.
            columns[str(name)] = pa.array(frame[name], from_pandas=name != 'value')
    return pa.table(columns)


def _pairs(metadata: Any) -> list[tuple[Any, Any]] | None:
    if isinstance(metadata, Mapping):
        return list(metadata.items())
    return list(metadata) if isinstance(metadata, (list, tuple)) else None


def _with_map(table: pa.Table) -> pa.Table:
    """Returns a table whose metadata are maps, where they are lists of pairs, as polars has them."""
    place = table.schema.get_field_index('metadata')
    kind = table.schema.field(place).type
    if pa.types.is_map(kind) or pa.types.is_null(kind):
        return table
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not is_list or not pa.types.is_struct(kind.value_type) or kind.value_type.num_fields != 2:
        raise invalid('metadata', str(kind), 'a column of maps, or of lists of (name, text)')
    pairs = [row if row is None else [tuple(entry.values()) for entry in row] for row in table['metadata'].to_pylist()]
    return table.set_column(place, 'metadata', pa.array(pairs, _MAP))
