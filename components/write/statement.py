"""The prepared statement that writes the rows of a table, and what it binds."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Annotated, Literal

from cassandra.cluster import Session

from tfx_cassandra.components.checks import Name, Rate, Rule, check_fields
from tfx_cassandra.components.cql.table import Table, quoted
from tfx_cassandra.components.driver.connection import Consistency
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.write.columns import Column
from tfx_cassandra.components.write.encode import DELETED, UNSET

TTL, TIMESTAMP = '[ttl]', '[timestamp]'  # as the server names what USING binds

_SECOND = datetime.timedelta(seconds=1)
_MAX_TTL = 20 * 365 * 86400 * _SECOND  # Cassandra's own limit
_COLLECTIONS = ('set<', 'map<')

Ttl = Annotated[
    datetime.timedelta,
    Rule(
        'whole seconds, at least one and at most 20 years', lambda ttl: _SECOND <= ttl <= _MAX_TTL and not ttl % _SECOND
    ),
]
Nulls = Literal['unset', 'delete']
Collections = Literal['replace', 'append']


@dataclasses.dataclass(frozen=True)
class WriteOptions:
    """How rows are written.

    Attributes:
      consistency: Consistency level of every write.
      ttl: How long the rows live, in whole seconds; None for the table's default.
      ttl_column: The field with each row's own time to live, in whole seconds as an integer; null for the table's
        default. It need not be a column of the table.
      timestamp_column: The field (aware datetime) with each row's write time: of two writes to one cell the one with
        the later write time wins, in whatever order they arrive; with equal times, the greater value. None for the
        column that the table declares by `event_time=COLUMN` in its comment; without one, for the time of the write,
        which is unique within a process: of two rows with one key, the later one wins.
      nulls: Whether a null leaves the stored value as it is ('unset'), or deletes it ('delete'), which leaves a
        tombstone. A column that no row of a batch has is left as it is.
      collections: Whether a collection takes the place of the stored one ('replace'), or its elements are added to it
        ('append'). Lists cannot be appended to: a retried write would append twice.
      rows_per_second: Rows that a writer sends a second at most, or None.
    """

    consistency: Consistency = 'LOCAL_QUORUM'
    ttl: Ttl | None = None
    ttl_column: Name | None = None
    timestamp_column: Name | None = None
    nulls: Nulls = 'unset'
    collections: Collections = 'replace'
    rows_per_second: Rate | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.ttl is not None and self.ttl_column is not None:
            raise invalid('ttl_column', self.ttl_column, 'without ttl')

    def check(self, table: Table) -> None:
        """Raises ValueError if a table cannot be written so."""
        if is_counter(table):
            for field in ('ttl', 'ttl_column', 'timestamp_column'):
                if getattr(self, field) is not None:
                    raise invalid(field, getattr(self, field), f'None: counters, as {table} has, have no {field[:4]}')
        for name, kind in table.types if self.collections == 'append' else ():
            if kind.startswith('list<'):
                rule = f"'replace': {table} has a list ({name}), to which a retried write would append twice"
                raise invalid('collections', 'append', rule)


def is_counter(table: Table) -> bool:
    """Returns whether a table's values are counters."""
    return any(kind == 'counter' for _, kind in table.types)


class Statement:
    """A prepared statement for the rows of a table.

    Args:
      session: The driver's session.
      table: The table.
      options: How it is written.
      static: Whether it writes the static columns alone, of rows without clustering columns.

    Attributes:
      prepared: The driver's prepared statement.
      columns: The columns that it binds, in order.
    """

    def __init__(self, session: Session, table: Table, options: WriteOptions, static: bool = False) -> None:
        keys = table.partition_key if static else (*table.partition_key, *table.clustering)
        others = [name for name in (table.static if static else table.readable) if name not in keys]
        self.prepared = session.prepare(_cql(table, options, keys, others))
        self.prepared.is_idempotent = not is_counter(table)
        self.columns = [Column(column.name, column.type) for column in self.prepared.column_metadata]
        self.keys = keys
        self._deletes = options.nulls == 'delete'
        self._appended = {
            name for name, kind in table.types if options.collections == 'append' and kind.startswith(_COLLECTIONS)
        }

    def absent(self, written: set[str]) -> list[int]:
        """Returns for each column what a null is sent as, given the columns that some row has."""
        kept = {TTL, TIMESTAMP, *self._appended}
        return [DELETED if self._deletes and column.name in written - kept else UNSET for column in self.columns]


def _cql(table: Table, options: WriteOptions, keys: tuple[str, ...], others: list[str]) -> str:
    name = f'{quoted(table.keyspace)}.{quoted(table.name)}'
    where = ' AND '.join(f'{quoted(key)} = ?' for key in keys)
    if is_counter(table):
        return f'UPDATE {name} SET {", ".join(f"{quoted(c)} = {quoted(c)} + ?" for c in others)} WHERE {where}'
    with_ttl = options.ttl is not None or options.ttl_column is not None
    using = f'USING {"TTL ? AND " if with_ttl else ""}TIMESTAMP ?'
    if options.collections == 'append':
        types = dict(table.types)
        sets = [_set(column, types[column]) for column in others]
        return f'UPDATE {name} {using} SET {", ".join(sets)} WHERE {where}'
    columns = [*keys, *others]
    places = ', '.join('?' * len(columns))
    return f'INSERT INTO {name} ({", ".join(map(quoted, columns))}) VALUES ({places}) {using}'


def _set(column: str, kind: str) -> str:
    added = f'{quoted(column)} + ' if kind.startswith(_COLLECTIONS) else ''
    return f'{quoted(column)} = {added}?'
