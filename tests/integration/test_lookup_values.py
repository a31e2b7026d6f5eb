"""A lookup by key gives what a scan gives, whatever Cassandra holds, and fails nobody else's reads."""

from __future__ import annotations

import pytest
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Session

from tfx_cassandra.components import FeatureView
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.driver.tables import describe
from tfx_cassandra.components.lookup.latest import plan_lookup
from tfx_cassandra.components.lookup.reader import Reader
from tfx_cassandra.components.scan import page
from tfx_cassandra.components.scan.page import RawHandler, raw_rows

pytestmark = pytest.mark.integration

ODD = {
    'at': ('timestamp', ['1700000000000000', '-9223372036854775808', '9223372036854775807', 'blobAsTimestamp(0x)']),
    'late': ('timestamp', ['64092211199123', '253402300799999', '-62135596800000']),  # years 4000, 9999 and 1
    'day': ('date', ['blobAsDate(0xffffffff)', 'blobAsDate(0x00000000)']),
    'noon': ('time', ['blobAsTime(0x7fffffffffffffff)', 'blobAsTime(0xffffffffffffffff)']),
    'amount': ('decimal', ['blobAsDecimal(0x7fffffff01)', 'blobAsDecimal(0x8000000001)', 'blobAsDecimal(0x)']),
    'number': ('double', ['NaN', 'Infinity', 'blobAsDouble(0x)']),
    'span': ('duration', ['-1mo2d3ns', '178956970y']),
    'name': ('text', ["'\U0001f600'", "''"]),
    'address': ('inet', ["'2001:DB8::1'", 'blobAsInet(0x)']),
    'moments': ('list<timestamp>', ['[1700000000000000, 0]', '[]']),
}


def test_a_lookup_gives_what_a_scan_gives(connection: CassandraConnection, session: Session) -> None:
    columns = ', '.join(f'{name} {kind}' for name, (kind, _) in ODD.items())
    table = f'{connection.keyspace}.odd'
    session.execute(f'CREATE TABLE {table} (id int PRIMARY KEY, {columns})')
    values = [(name, value) for name, (_, several) in ODD.items() for value in several]
    for number, (name, value) in enumerate(values):
        session.execute(f'INSERT INTO {table} (id, {name}) VALUES ({number}, {value})')
    with connections.session(connection, RawHandler) as raw:
        profile = raw.execution_profile_clone_update(EXEC_PROFILE_DEFAULT, row_factory=raw_rows)
        scanned = page.decode(raw.execute(f'SELECT * FROM {table}', execution_profile=profile).one()).content
        row_of = {number: row for row, number in enumerate(scanned.column(0).to_pylist())}
        for name in ODD:
            view = FeatureView('odd', 'odd', ('id',), None, (name,))
            reader = Reader(raw, plan_lookup(view, describe(session, connection.keyspace, 'odd'), False))
            for number, (of, value) in enumerate(values):
                if of == name:
                    (found,) = reader.read([(number, None)]).values()
                    expected = scanned.column(scanned.schema.get_field_index(name)).slice(row_of[number], 1)
                    # Compared as text, too, in which a NaN is a NaN.
                    assert found.type == expected.type
                    assert found.equals(expected) or str(found) == str(expected), f'{name}: {value}'
