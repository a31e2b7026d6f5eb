"""The doctor on a real Cassandra: bad tables that it finds, a clean keyspace in which it finds nothing."""

from __future__ import annotations

import dataclasses
import datetime
import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args

from tfx_cassandra.components import doctor
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.doctor import sampling
from tfx_cassandra.components.doctor.facts import Facts
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError

pytestmark = pytest.mark.integration

BAD, WRITTEN, CLEAN = 'test_doctor_bad', 'test_doctor_written', 'test_doctor_clean'
DEAD_ROWS = 1500
TIME = '(k text, at timestamp, v double, PRIMARY KEY (k, at))'
MINUTES = "{'class': 'TimeWindowCompactionStrategy', 'compaction_window_size': 1, 'compaction_window_unit': 'MINUTES'}"
DAYS = MINUTES.replace('MINUTES', 'DAYS')
TIERED = "{'class': 'SizeTieredCompactionStrategy'}"
TABLES = {
    BAD: {
        'endless': f'{TIME} WITH compaction = {MINUTES}',
        'many': f'{TIME} WITH default_time_to_live = 2592000 AND compaction = {MINUTES}',
        'graceless': f'{TIME} WITH gc_grace_seconds = 0',
        'tiered': f'{TIME} WITH default_time_to_live = 2592000 AND compaction = {TIERED}',
        'plain': f"{TIME} WITH compression = {{'enabled': 'false'}}",
        'timeless': f'(k text PRIMARY KEY, v double) WITH default_time_to_live = 2592000 AND compaction = {DAYS}',
    },
    WRITTEN: {
        'big': '(k text, n int, v blob, PRIMARY KEY (k, n))',
        'dead': '(k text, n int, v int, PRIMARY KEY (k, n))',
    },
    CLEAN: {
        'events': f'{TIME} WITH default_time_to_live = 2592000 AND compaction = {DAYS}',
        'entities': '(k text PRIMARY KEY, v double)',
    },
}


@pytest.fixture(scope='module')
def keyspaces(cluster_connection: CassandraConnection, session: Session) -> Iterator[None]:
    """The keyspace of bad tables has three copies on however few nodes; rows are in the other one."""
    for keyspace, tables in TABLES.items():
        session.execute(f'DROP KEYSPACE IF EXISTS {keyspace}', timeout=120)
        copies = 3 if keyspace == BAD else 1
        session.execute(
            f"CREATE KEYSPACE {keyspace} WITH replication = {{'class': 'NetworkTopologyStrategy', "
            f"'{cluster_connection.local_datacenter}': {copies}}}",
            timeout=120,
        )
        for table, definition in tables.items():
            session.execute(f'CREATE TABLE {keyspace}.{table} {definition}', timeout=120)
    yield
    for keyspace in TABLES:
        session.execute(f'DROP KEYSPACE {keyspace}', timeout=120)


Examined = Callable[..., Facts]


@pytest.fixture
def gathered(cluster_connection: CassandraConnection, keyspaces: None) -> Examined:
    def gather(keyspace: str, *tables: str, **options: object) -> Facts:
        return doctor.gather(dataclasses.replace(cluster_connection, keyspace=keyspace), tables, **options)

    return gather


def found(facts: Facts, check: str, **options: int) -> dict[str, str]:
    """Returns where a check found something, with its severity."""
    return {each.where: each.severity for each in doctor.examine(facts, **options) if each.check == check}


def of_this_cluster(facts: Facts) -> list[doctor.Finding]:
    """Returns the findings that are about the keyspace: the release and settings of the node are the machine's."""
    about = ('server-version', 'driver-version', 'throughput')
    return [finding for finding in doctor.examine(facts) if finding.check not in about]


def test_nothing_is_found_in_a_clean_keyspace(gathered: Examined) -> None:
    facts = gathered(CLEAN)
    assert [table.name for table in facts.tables] == ['entities', 'events']
    if len(facts.nodes) == 1:
        assert of_this_cluster(facts) == []
    assert facts.unread == ()


def test_every_fact_is_read(gathered: Examined, session: Session) -> None:
    before = datetime.datetime.now(datetime.timezone.utc)
    facts = gathered(CLEAN)
    assert {node.name for node in facts.nodes} == {str(host.endpoint) for host in session.cluster.metadata.all_hosts()}
    local = session.execute('SELECT release_version, schema_version FROM system.local').one()
    for node in facts.nodes:
        assert (node.down, node.release, node.schema_version) == ('', local.release_version, str(local.schema_version))
        assert node.clock is not None
        assert abs(node.clock.ahead) <= node.clock.error + 0.001  # the same machine
        assert set(node.settings) == {
            'compaction_throughput', 'internode_compression', 'max_hint_window', 'stream_throughput_outbound',
            'tombstone_failure_threshold', 'tombstone_warn_threshold',
        }  # fmt: skip
    assert facts.keyspace.copies == {facts.local_datacenter: 1}
    events = {table.name: table for table in facts.tables}['events']
    assert events.compaction['class'] == 'TimeWindowCompactionStrategy'
    assert events.compaction['compaction_window_unit'] == 'DAYS'
    assert (events.default_ttl, events.gc_grace) == (2592000, 864000)
    assert events.clustering == ('timestamp',)
    assert events.compression['class'].endswith('LZ4Compressor')
    assert events.created_at is not None
    assert before - datetime.timedelta(hours=1) < events.created_at < before + datetime.timedelta(seconds=1)
    for reading in facts.readings:
        assert (reading.max_partition, reading.reads, reading.writes) == (0, 0, 0)
        assert reading.tombstones is not None
        assert reading.rows is not None


def test_bad_tables_are_found(gathered: Examined) -> None:
    facts = gathered(BAD)
    assert found(facts, 'twcs-windows') == {f'{BAD}.endless': 'warning', f'{BAD}.many': 'warning'}
    assert found(facts, 'gc-grace') == {f'{BAD}.graceless': 'error'}
    assert found(facts, 'compaction') == {f'{BAD}.tiered': 'warning', f'{BAD}.timeless': 'info'}
    assert found(facts, 'compression') == {f'{BAD}.plain': 'warning'}
    assert found(facts, 'repair') == {}  # the tables are new
    old = dataclasses.replace(facts, now=facts.now + datetime.timedelta(days=11))
    assert set(found(old, 'repair')) == {f'{BAD}.{table}' for table in TABLES[BAD] if table != 'graceless'}
    if len(facts.nodes) < 2:
        assert found(facts, 'replication') == {BAD: 'error'}


def test_the_proposed_statements_are_valid_and_cure(
    gathered: Examined, session: Session, cluster_connection: CassandraConnection
) -> None:
    """Each first statement is executed on a copy of its table; then its check finds nothing."""
    copy = 'test_doctor_cured'
    session.execute(f'DROP KEYSPACE IF EXISTS {copy}', timeout=120)
    session.execute(
        f"CREATE KEYSPACE {copy} WITH replication = {{'class': 'NetworkTopologyStrategy', "
        f"'{cluster_connection.local_datacenter}': 3}}",
        timeout=120,
    )
    try:
        for table, definition in TABLES[BAD].items():
            session.execute(f'CREATE TABLE {copy}.{table} {definition}', timeout=120)
        statements = [
            finding.changes[0].partition(' -- ')[0]
            for finding in doctor.examine(gathered(copy))
            if finding.changes[0].startswith('ALTER ')
        ]
        assert len(statements) >= 6
        for statement in statements:
            session.execute(statement, timeout=120)
        left = [finding for finding in of_this_cluster(gathered(copy)) if finding.severity != 'info']
        assert [(finding.check, finding.where) for finding in left if len(gathered(copy).nodes) == 1] == []
    finally:
        session.execute(f'DROP KEYSPACE {copy}', timeout=120)


def test_a_partition_over_the_limit_is_found_with_its_size(gathered: Examined, session: Session) -> None:
    size = 3_000_000
    insert = session.prepare(f'INSERT INTO {WRITTEN}.big (k, n, v) VALUES (?, ?, ?)')
    rows = [('k', n, n.to_bytes(2, 'big') * 500) for n in range(size // 1000)]
    assert all(result.success for result in execute_concurrent_with_args(session, insert, rows, 32))
    # Flushed from now on: a partition that is flushed in parts is as large as its largest part.
    session.execute(f'ALTER TABLE {WRITTEN}.big WITH memtable_flush_period_in_ms = 1000', timeout=120)
    end = time.monotonic() + 60
    while True:
        facts = gathered(WRITTEN, 'big')
        largest = max(reading.max_partition or 0 for reading in facts.readings)
        if largest >= size:
            break
        assert time.monotonic() < end
        time.sleep(0.5)
    assert largest < 2 * size
    assert found(facts, 'partition-size', partition_limit=size // 2) == {f'{WRITTEN}.big': 'warning'}
    assert found(facts, 'partition-size', partition_limit=size // 40) == {f'{WRITTEN}.big': 'error'}
    assert found(facts, 'partition-size') == {}
    assert sum(reading.writes or 0 for reading in facts.readings) >= len(rows)


def test_the_widest_partitions_are_named(gathered: Examined, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many partitions the widest is found, whatever its key, and counted; with few rows it is counted in part."""
    table = f'{WRITTEN}.wide'
    session.execute(f'CREATE TABLE {table} (u uuid, at timestamp, n int, v text, PRIMARY KEY ((u, at), n))', timeout=60)
    insert = session.prepare(f'INSERT INTO {table} (u, at, n, v) VALUES (?, ?, ?, ?)')
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
    ids = [uuid.UUID(int=number) for number in range(200)]
    rows = [(each, moment, n, 'x' * 100) for each in ids for n in range(2500 if each == ids[77] else 3)]
    assert all(result.success for result in execute_concurrent_with_args(session, insert, rows, 32))
    facts = gathered(WRITTEN, 'wide')
    assert len(facts.partitions) == 3
    widest = facts.partitions[0]
    assert (widest.rows, widest.counted) == (2500, True)
    assert widest.key == f'u={ids[77]!r}, at={moment!r}'
    assert [partition.rows for partition in facts.partitions[1:]] == [3, 3]
    # uuid 16, timestamp 8, int 4 and text 100, each after four bytes of length.
    assert widest.row_bytes == 16 + 8 + 4 + 100 + 4 * 4
    (finding,) = [each for each in doctor.examine(facts, partition_limit=200_000) if each.check == 'partition-size']
    assert f'partition {widest.key} has about 0.4 MB: 2,500 rows of 144 bytes' in finding.seen
    monkeypatch.setattr(sampling, '_COUNTED', 2000)
    part = gathered(WRITTEN, 'wide').partitions[0]
    assert (part.rows, part.counted) == (2000, False)
    assert gathered(WRITTEN, 'wide', ranges=0).partitions == ()


def test_reads_of_tombstones_are_found(gathered: Examined, session: Session) -> None:
    delete = session.prepare(f'DELETE FROM {WRITTEN}.dead WHERE k = ? AND n = ?')
    rows = [('k', n) for n in range(DEAD_ROWS)]
    assert all(result.success for result in execute_concurrent_with_args(session, delete, rows, 32))
    session.execute(f"INSERT INTO {WRITTEN}.dead (k, n, v) VALUES ('k', {DEAD_ROWS}, 1)")
    for _ in range(3):
        assert len(session.execute(f"SELECT n FROM {WRITTEN}.dead WHERE k = 'k'").all()) == 1
    facts = gathered(f'{WRITTEN}', 'dead')
    (worst,) = [reading.tombstones for reading in facts.readings if reading.tombstones and reading.tombstones.count]
    assert DEAD_ROWS <= worst.max < 1.3 * DEAD_ROWS  # a histogram's buckets are a fifth apart
    assert found(facts, 'tombstones') == {f'{WRITTEN}.dead': 'warning'}


def test_a_clock_that_is_wrong_is_found(gathered: Examined) -> None:
    facts = gathered(CLEAN, clock=lambda: time.time() + 3)
    skews = [finding for finding in doctor.examine(facts) if finding.check == 'clock-skew']
    assert [finding.severity for finding in skews] == ['warning'] * len(facts.nodes)
    for node in facts.nodes:
        assert node.clock is not None
        assert abs(node.clock.ahead + 3) <= node.clock.error + 0.001
    assert 's behind the client' in skews[0].seen


def test_tables_and_keyspaces_that_are_not_there_are_one_line(gathered: Examined) -> None:
    with pytest.raises(
        SchemaError, match=r"^tables: got 'nothing', rule: a table or view of keyspace test_doctor_clean$"
    ):
        gathered(CLEAN, 'events', 'nothing')
    with pytest.raises(SchemaError, match=r"^keyspace: got 'test_doctor_none', rule: a keyspace of the cluster$"):
        gathered('test_doctor_none')
    assert [table.name for table in gathered('test_doctor_none', f'{CLEAN}.events').tables] == ['events']


def test_a_table_of_the_server_that_is_missing_is_told(gathered: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = 'SELECT * FROM system_views.no_{} WHERE keyspace_name = ? AND table_name = ?'
    monkeypatch.setattr(sys.modules[doctor.gather.__module__], '_VIEW', missing)
    facts = gathered(CLEAN, 'events')
    views = ('max_partition_size', 'local_read_latency', 'local_write_latency', 'tombstones_per_read', 'rows_per_read')
    assert {unread.what.partition(' on ')[0] for unread in facts.unread} == {
        f'system_views.no_{name}' for name in views
    }
    assert all(unread.needs == 'a release that has this table' for unread in facts.unread)
    if len(facts.nodes) == 1:
        assert of_this_cluster(facts) == []


def test_the_command(
    cluster_connection: CassandraConnection, keyspaces: None, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ['--contact-points', ','.join(cluster_connection.contact_points), '--port', str(cluster_connection.port)]
    where += ['--local-datacenter', cluster_connection.local_datacenter]
    assert cli.main(['doctor', *where, '--keyspace', BAD, '--tables', 'endless', '--format', 'json']) == 1
    document = json.loads(capsys.readouterr().out)
    assert document['tables'] == ['endless']
    assert 'twcs-windows' in {finding['check'] for finding in document['findings']}
    assert cli.main(['doctor', *where, '--keyspace', CLEAN, '--fail-on', 'error']) == 0
    assert cli.main(['doctor', *where, '--keyspace', 'test_doctor_none']) == 2
    assert 'error: keyspace: got' in capsys.readouterr().err
