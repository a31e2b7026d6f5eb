"""Migrations on a real Cassandra: what is added and refused, the recorded version, several appliers, a killed one."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest
from cassandra.cluster import Session

from tfx_cassandra.components import schema
from tfx_cassandra.components.cli.main import top
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.schema import applied as applied_module
from tfx_cassandra.components.schema.applied import Applied, Lease

pytestmark = pytest.mark.integration

ONE_COPY = schema.SimpleReplication(1)
VISITS = schema.table(
    'visits', 'A visit.', {'shop': 'text', 'at': 'timestamp', 'spent': 'double'}, ('shop',), {'at': 'desc'}
)
PLACE = schema.user_type('place', 'Where.', {'city': 'text'})
FIRST = [PLACE, VISITS]

WIDER = schema.table(
    'visits', 'A visit.',
    {'shop': 'text', 'at': 'timestamp', 'spent': 'double', 'place': 'frozen<place>', 'owner': 'text static'},
    ('shop',), {'at': 'desc'},
)  # fmt: skip
SECOND = [
    schema.user_type('place', 'Where.', {'city': 'text', 'zip': 'int'}),
    WIDER,
    schema.table('shops', 'A shop.', {'shop': 'text', 'opened': 'date'}, ('shop',), {}),
    schema.view('visits_by_time', 'By time.', WIDER, ('at', 'shop', 'spent'), ('at',), {'shop': 'asc'}),
]


@pytest.fixture
def absent(connection: CassandraConnection, session: Session) -> Iterator[CassandraConnection]:
    """A connection to a keyspace that does not exist, dropped afterwards."""
    mine = dataclasses.replace(connection, keyspace='test_migrations_absent')
    session.execute(f'DROP KEYSPACE IF EXISTS {mine.keyspace}', timeout=120)
    yield mine
    session.execute(f'DROP KEYSPACE IF EXISTS {mine.keyspace}', timeout=120)


@pytest.fixture
def applied(absent: CassandraConnection, session: Session) -> Applied:
    """The record of a keyspace with nothing else in it."""
    schema.apply(absent, ONE_COPY, relations=[])
    return Applied(session, absent.keyspace)


def test_additions_are_applied_to_a_table_with_rows(absent: CassandraConnection, session: Session) -> None:
    assert len(schema.apply(absent, ONE_COPY, relations=FIRST)) == 4  # the keyspace and the record, too
    session.execute(f"INSERT INTO {absent.keyspace}.visits (shop, at, spent) VALUES ('s', 0, 1.5)")
    preview = schema.migration(absent, ONE_COPY, relations=SECOND)
    assert (preview.refused, preview.left) == ((), ())
    assert schema.apply(absent, ONE_COPY, relations=SECOND) == list(preview.statements)
    assert [statement.partition(f'"{absent.keyspace}".')[2].split()[0] for statement in preview.statements] == [
        'place', 'visits', 'visits', 'shops', 'visits_by_time',
    ]  # fmt: skip
    session.execute(
        f'INSERT INTO {absent.keyspace}.visits (shop, at, spent, place, owner) '
        "VALUES ('s', 1, 2.5, {city: 'Rome', zip: 7}, 'o')"
    )
    rows = session.execute(f'SELECT spent, owner, place.zip FROM {absent.keyspace}.visits').all()
    assert [tuple(row) for row in rows] == [(2.5, 'o', 7), (1.5, 'o', None)]
    # An older release that applies its own declaration takes nothing away.
    assert schema.apply(absent, ONE_COPY, relations=FIRST) == []
    versions = schema.history(absent)
    assert [(version.number, version.statements) for version in versions] == [(2, 5), (1, 2)]


def test_what_cannot_be_added_is_refused_and_the_rest_applied(absent: CassandraConnection, session: Session) -> None:
    schema.apply(absent, ONE_COPY, relations=FIRST)
    session.execute(f"INSERT INTO {absent.keyspace}.visits (shop, at, spent) VALUES ('s', 0, 1.5)")
    other = schema.table(
        'visits', 'A visit.', {'shop': 'text', 'at': 'timestamp', 'spent': 'text', 'note': 'text'}, ('shop',),
        {'at': 'asc'}, {'gc_grace_seconds': 3600},
    )  # fmt: skip
    before = schema.history(absent)
    applied = schema.apply(absent, ONE_COPY, relations=[PLACE, other])
    assert applied == [f'ALTER TABLE "{absent.keyspace}".visits ADD IF NOT EXISTS note text']
    left = schema.migration(absent, ONE_COPY, relations=[PLACE, other])
    assert left.statements == ()
    assert [str(refusal.difference) for refusal in left.refused] == [
        'visits.at: got clustering column 0, desc, declared clustering column 0, asc',
        'visits.spent: got double, declared text',
    ]
    assert [refusal.steps for refusal in left.left] == [
        (f'ALTER TABLE "{absent.keyspace}".visits WITH gc_grace_seconds = 3600',)
    ]
    assert schema.history(absent) == before  # the keyspace is not at that version
    assert session.execute(f'SELECT spent, note FROM {absent.keyspace}.visits').one() == (1.5, None)
    # The statement of an option is CQL that the server takes.
    session.execute(left.left[0].steps[0])
    assert schema.migration(absent, ONE_COPY, relations=[PLACE, other]).left == ()


def test_the_version_of_the_package_is_recorded_once(connection: CassandraConnection) -> None:
    (version,) = schema.history(connection)
    assert (version.number, version.statements, len(version.digest)) == (1, 11, 64)
    assert '@' in version.applied_by
    assert schema.apply(connection, ONE_COPY) == []
    assert schema.history(connection) == [version]


@pytest.mark.usefixtures('cassandra_5')
def test_another_choice_of_relations_is_another_version(connection: CassandraConnection, session: Session) -> None:
    schema.apply(connection, ONE_COPY, sai=True)
    try:
        assert [version.number for version in schema.history(connection)] == [2, 1]
        assert schema.apply(connection, ONE_COPY) == []
        assert [version.number for version in schema.history(connection)] == [2, 1]
    finally:
        session.execute(f'DROP INDEX {connection.keyspace}.feature_store_metadata', timeout=120)
        session.execute(f"DELETE FROM {connection.keyspace}.schema_migrations WHERE scope = 'keyspace' AND number = 2")


def test_no_keyspace_and_an_older_keyspace_have_no_history(absent: CassandraConnection, session: Session) -> None:
    assert schema.history(absent) == []
    schema.apply(absent, ONE_COPY, views=False)
    session.execute(f'DROP TABLE {absent.keyspace}.schema_migrations', timeout=120)
    assert schema.history(absent) == []
    assert len(schema.apply(absent, ONE_COPY, views=False)) == 1
    assert [(version.number, version.statements) for version in schema.history(absent)] == [(1, 0)]


APPLIER = """
import os, signal, sys
from tfx_cassandra.components import schema
from tfx_cassandra.components.driver.connection import CassandraConnection

connection = CassandraConnection({points!r}, {port}, {datacenter!r}, {keyspace!r})
columns = {{'k': 'int', 'v': 'int'}}
relations = [schema.table(f't{{n}}', 'One of many.', columns, ('k',), {{}}) for n in range({tables})]
run, count = schema._Applier._run, 0

def counted(applier, cql):
    global count
    run(applier, cql)
    count += '.t' in cql
    if 0 < count == {killed_after}:
        os.kill(os.getpid(), signal.SIGKILL)

schema._Applier._run = counted
print('ready', flush=True)
sys.stdin.readline()
print(len([cql for cql in schema.apply(connection, schema.SimpleReplication(1), relations=relations)
    if '.t' in cql]), flush=True)
"""


def applier(connection: CassandraConnection, tables: int, killed_after: int = 0) -> subprocess.Popen[str]:
    """Starts a process that applies a declaration of its own when it gets a line, and prints how much it did."""
    code = textwrap.dedent(APPLIER).format(
        points=connection.contact_points, port=connection.port, datacenter=connection.local_datacenter,
        keyspace=connection.keyspace, tables=tables, killed_after=killed_after,
    )  # fmt: skip
    command = [sys.executable, '-c', code]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == 'ready\n'
    return process


def test_several_processes_apply_each_statement_once(absent: CassandraConnection, session: Session) -> None:
    processes = [applier(absent, 6) for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write('\n')
        process.stdin.flush()
    done = [int(process.communicate(timeout=300)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    # Whoever waits for the lease finds nothing to do; without it, several create the same tables.
    assert sorted(done) == [0, 0, 0, 6]
    assert [(version.number, version.statements) for version in schema.history(absent)] == [(1, 6)]
    assert Applied(session, absent.keyspace).holder() is None


def test_a_killed_applier_blocks_the_next_one_for_a_while_only(absent: CassandraConnection, session: Session) -> None:
    process = applier(absent, 6, killed_after=3)
    process.communicate('\n', timeout=300)
    assert process.returncode == -signal.SIGKILL
    holder = Applied(session, absent.keyspace).holder()
    assert holder is not None
    assert f' pid {process.pid} ' in holder
    assert schema.history(absent) == []
    next_one = applier(absent, 6)
    assert next_one.communicate('\n', timeout=300)[0] == '3\n'  # the rest
    assert [(version.number, version.statements) for version in schema.history(absent)] == [(1, 3)]


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_lease_outlives_its_time_while_its_holder_works(applied: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied_module, 'LEASE_SECONDS', 2)
    with Lease(applied) as lease:
        end = time.monotonic() + 5
        while time.monotonic() < end:
            lease.check()
            assert not applied.hold('another', None)
            time.sleep(0.2)
    assert applied.hold('another', None)


def test_an_applier_that_lost_its_lease_stops_and_records_nothing(
    applied: Applied, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applied_module, 'LEASE_SECONDS', 2)
    before = applied.versions()
    with Lease(applied) as lease:
        assert applied.hold('another', lease.owner)
        with pytest.raises(SchemaError, match='owner: got another, rule: the applier holds the lease'):
            applied.record(lease.owner, 'd' * 64, 1)

        def lost() -> bool:
            try:
                lease.check()
            except SchemaError:
                return True
            return False

        until(lost)
    assert applied.versions() == before


def test_a_lease_that_is_never_free_is_one_line(applied: Applied, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied_module, 'WAIT_SECONDS', 1)
    assert applied.hold('somebody@host pid 1 abc', None)
    with pytest.raises(SchemaError, match=r'owner: got somebody@host pid 1 abc, rule: the lease is free within 1 s$'):
        Lease(applied).__enter__()
    applied.release('somebody@host pid 1 abc')


@pytest.fixture
def command(absent: CassandraConnection) -> Callable[..., int]:
    """Runs `tfx-cassandra schema ...` on the absent keyspace as the command line does."""
    where = ['--contact-points', ','.join(absent.contact_points), '--port', str(absent.port)]
    where += ['--local-datacenter', absent.local_datacenter, '--keyspace', absent.keyspace]

    def run(*words: str) -> int:
        return top.main(['schema', *words, *where], 'tfx-cassandra', standalone_mode=False)

    return run


def test_the_commands(
    command: Callable[..., int], absent: CassandraConnection, session: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command('apply', '--dry-run', '--no-views', '--replication', 'simple:1') == 0
    text = capsys.readouterr().out
    assert absent.keyspace not in session.cluster.metadata.keyspaces
    assert command('history') == 0
    assert capsys.readouterr().out.split() == ['number', 'applied_at', 'applied_by', 'package', 'statements', 'digest']

    for statement in filter(str.strip, text.split(';\n')):  # what it prints is what it would do
        session.execute(statement, timeout=120)
    assert command('apply', '--no-views', '--replication', 'simple:1') == 0
    assert '0 statements were needed' in capsys.readouterr().err
    assert command('history', '--format', 'json') == 0
    (version,) = json.loads(capsys.readouterr().out)
    assert (version['number'], version['statements']) == (1, 0)

    session.execute(f'ALTER TABLE {absent.keyspace}.model_metrics DROP value')
    session.execute(f'DROP TABLE {absent.keyspace}.inference_outcomes', timeout=120)
    session.execute(f'CREATE TABLE {absent.keyspace}.inference_outcomes (model_id text PRIMARY KEY)', timeout=120)
    assert command('apply', '--dry-run', '--no-views', '--replication', 'simple:2') == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f'ALTER TABLE "{absent.keyspace}".model_metrics ADD IF NOT EXISTS value double;'
    assert f'--   1. ALTER KEYSPACE "{absent.keyspace}" WITH replication = ' in '\n'.join(lines)
    assert '-- refused: inference_outcomes.bucket: got nothing, declared text, partition key column 1' in lines
    assert command('apply', '--no-views', '--replication', 'simple:1') == 1
    assert 'refused: inference_outcomes.bucket' in capsys.readouterr().out
