"""Checks that a scan reads one and the same table: its id and column types, when the scan is planned and when it ends.

If a table or a column is dropped and created again while it is read, or a type is altered, the result would be a
mixture of both.
"""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Sequence
from typing import Any

from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session

from tfx_cassandra.components.cql import types
from tfx_cassandra.components.cql.table import Identity, Table, UserType
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import ReadError, SchemaError
from tfx_cassandra.components.scan import page
from tfx_cassandra.components.scan.page import Page
from tfx_cassandra.components.scan.query import Scan

_ATTEMPTS, _PAUSE = 3, 1.0  # attempts of a query at the end of a scan, and seconds between two of them


def identity(session: Session, scan: Scan) -> Identity:
    """Returns the identity of a scan's table as the cluster states it now; `session` has page.RawHandler.

    Raises:
      SchemaError: A column that is read has a type that Arrow cannot represent; the message names it.
      ReadError: No node answers.
    """
    columns = session.prepare(scan.cql()).result_metadata
    schema = types.schema_of([column[2] for column in columns], [column[3] for column in columns])
    return Identity(*_stored(session, scan.table), schema, _dropped(session, scan.table))


def check_unchanged(session: Session, table: Table) -> None:
    """Checks that a table is still the one that its scan was planned for; `session` has page.RawHandler.

    Raises:
      SchemaError: The table, a column that is read, or a type of its columns, has been replaced or altered.
      ReadError: No node answers.
    """
    before = table.identity
    if before is None:
        return
    now, user_types = _stored(session, table)
    if now is None:
        what = 'dropped'
    elif now != before.id:
        what = 'dropped and created again'
    elif user_types != before.user_types:
        changed = sorted({name for name, *_ in {*before.user_types} ^ {*user_types}})
        what = f'altered (type {", ".join(changed)})'
    else:
        # A column that was added again has none of its former values.
        dropped = {name for name, _ in {*before.dropped} ^ {*_dropped(session, table)}} & {*before.schema.names}
        if not dropped:
            return
        what = f'altered (column {", ".join(sorted(dropped))} dropped)'
    raise SchemaError(f'table: got {table} {what} while it was read, rule: the same table until a scan ends')


def check_page(found: Page, table: Table) -> None:
    """Raises SchemaError if a page's columns differ from those that the scan was planned for."""
    if table.identity is None:
        return
    before, now = table.identity.schema, types.schema_of(found.names, found.kinds)
    if not now.equals(before, check_metadata=True):
        names = [field.name for field in now if field not in list(before)] or list(now.names)
        rule = 'the same columns and types until a scan ends'
        raise SchemaError(f'table: got {table} with column {", ".join(names)} altered while it was read, rule: {rule}')


def _stored(session: Session, table: Table) -> tuple[str | None, tuple[UserType, ...]]:
    """Returns a table's id and the user-defined types of its columns, including those nested in other types."""
    ids = []
    for relation, column in (('tables', 'table_name'), ('views', 'view_name')):
        query = f'SELECT id FROM system_schema.{relation} WHERE keyspace_name = ? AND {column} = ?'
        ids += [row['id'] for row in _answer(session, query, (table.keyspace, table.name))]
    query = 'SELECT type_name, field_names, field_types FROM system_schema.types WHERE keyspace_name = ?'
    known = {
        row['type_name']: (row['type_name'], tuple(row['field_names']), tuple(row['field_types']))
        for row in _answer(session, query, (table.keyspace,))
    }
    used: set[str] = set()
    texts = [text for _, text in table.types]
    while texts:
        fresh = {name for name in _names(texts.pop()) if name in known and name not in used}
        used |= fresh
        texts += [text for name in fresh for text in known[name][2]]
    return (ids[0] if ids else None), tuple(known[name] for name in sorted(used))


def _dropped(session: Session, table: Table) -> tuple[tuple[str, datetime.datetime], ...]:
    """Returns a table's columns that were dropped, whether or not they were added again, and when."""
    query = (
        'SELECT column_name, dropped_time FROM system_schema.dropped_columns WHERE keyspace_name = ? AND table_name = ?'
    )
    found = _answer(session, query, (table.keyspace, table.name))
    return tuple(sorted((row['column_name'], row['dropped_time']) for row in found))


def _names(text: str) -> set[str]:
    """Returns the names that occur in a CQL type."""
    found = re.findall(r'"((?:[^"]|"")+)"|(\w+)', text)
    return {quoted.replace('""', '"') or plain for quoted, plain in found}


def _answer(session: Session, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
    profile = session.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=page.raw_rows)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            statement = session.prepare(query)
            statement.consistency_level = ConsistencyLevel.ONE
            (found,) = session.execute_async(statement, values, execution_profile=profile).result().current_rows
            rows: list[dict[str, Any]] = page.decode(found).content.to_pylist()
            return rows
        except DRIVER_ERRORS as error:
            if attempt == _ATTEMPTS:
                raise ReadError(f'system_schema: not read in {_ATTEMPTS} attempts ({one_line(error)})') from error
            time.sleep(_PAUSE)
    raise AssertionError('unreachable')
