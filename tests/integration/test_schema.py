"""apply, check and the commands on a real Cassandra; the oracle is system_schema, read by the driver."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import datetime
import json
from collections.abc import Callable, Iterator

import pytest
from cassandra.cluster import Session

from tfx_cassandra.components import schema
from tfx_cassandra.components.cli.main import top
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.feature_store.client import FeatureStore
from tfx_cassandra.components.schema import quorum

pytestmark = pytest.mark.integration

ONE_COPY = schema.SimpleReplication(1)
TABLES = {
    'entity_features',
    'feature_store',
    'inference_outcomes',
    'inference_results',
    'inference_results_bucketed',
    'layout_buckets',
    'model_aliases',
    'model_claims',
    'model_metrics',
    'model_versions',
    'schema_migrations',
}


def _names(session: Session, keyspace: str, kind: str) -> set[str]:
    name = {'tables': 'table_name', 'views': 'view_name', 'indexes': 'index_name'}[kind]
    rows = session.execute(f'SELECT {name} FROM system_schema.{kind} WHERE keyspace_name = %s', (keyspace,))
    return {row[0] for row in rows}


def _columns(session: Session, keyspace: str, table: str) -> dict[str, str]:
    query = 'SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s'
    return {row.column_name: row.type for row in session.execute(query, (keyspace, table))}


def _create(session: Session, connection: CassandraConnection, *tables: str) -> None:
    """Creates the keyspace with one copy and tables written as 'name (...) WITH ...'."""
    replication = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    session.execute(f'CREATE KEYSPACE {connection.keyspace} WITH replication = {replication}', timeout=120)
    for table in tables:
        session.execute(f'CREATE TABLE {connection.keyspace}.{table}', timeout=120)


@pytest.fixture
def absent(connection: CassandraConnection, session: Session) -> Iterator[CassandraConnection]:
    """A connection to a keyspace that does not exist, dropped afterwards."""
    mine = dataclasses.replace(connection, keyspace='test_schema_absent')
    session.execute(f'DROP KEYSPACE IF EXISTS {mine.keyspace}', timeout=120)
    yield mine
    session.execute(f'DROP KEYSPACE IF EXISTS {mine.keyspace}', timeout=120)


def test_apply_makes_what_check_finds_right(connection: CassandraConnection, session: Session) -> None:
    assert schema.check(connection, ONE_COPY) == []
    assert _names(session, connection.keyspace, 'tables') == TABLES
    assert _names(session, connection.keyspace, 'views') == {'feature_by_user'}
    assert _names(session, connection.keyspace, 'indexes') == set()


def test_apply_again_needs_nothing(connection: CassandraConnection, session: Session) -> None:
    ids = 'SELECT table_name, id FROM system_schema.tables WHERE keyspace_name = %s'
    before = session.execute(ids, (connection.keyspace,)).all()
    assert schema.apply(connection, ONE_COPY) == []
    assert session.execute(ids, (connection.keyspace,)).all() == before


@pytest.mark.usefixtures('cassandra_5')
def test_what_print_emits_makes_the_same_keyspace(absent: CassandraConnection, session: Session) -> None:
    for statement in schema.statements(absent.keyspace, ONE_COPY, sai=True):
        session.execute(statement, timeout=120)
    assert schema.check(absent, ONE_COPY, sai=True) == []
    assert schema.apply(absent, ONE_COPY, sai=True) == []


def test_applies_at_once_make_one_keyspace(absent: CassandraConnection, session: Session) -> None:
    # A different time-out is a different configuration, so each has a session of its own.
    several = [dataclasses.replace(absent, connect_timeout=10.0 + n) for n in range(3)]
    with concurrent.futures.ThreadPoolExecutor(len(several)) as pool:
        list(pool.map(lambda connection: schema.apply(connection, ONE_COPY), several))
    assert schema.check(absent, ONE_COPY) == []
    with FeatureStore(absent) as store:
        moment = datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc)
        store.write_feature('m', 'f', 1.0, moment)
        assert store.get_latest_feature('m', 'f').value == 1.0


def test_an_old_keyspace_gets_its_missing_columns(absent: CassandraConnection, session: Session) -> None:
    _create(
        session,
        absent,
        """feature_store (
        model_id text, feature_name text, timestamp timestamp, value double, metadata map<text, text>, note text,
        PRIMARY KEY ((model_id, feature_name), timestamp)
    ) WITH CLUSTERING ORDER BY (timestamp DESC) AND comment = 'ours' AND compaction = {
        'class': 'TimeWindowCompactionStrategy', 'compaction_window_size': '1', 'compaction_window_unit': 'DAYS'}""",
        """model_claims (
        experiment_id text, model_id text, digest text, version bigint, created_at timestamp,
        PRIMARY KEY ((experiment_id, model_id), digest))""",
        'own_table (a int PRIMARY KEY)',
    )
    session.execute(
        f'INSERT INTO {absent.keyspace}.feature_store (model_id, feature_name, timestamp, value, note) '
        "VALUES ('m', 'f', 0, 1.5, 'kept')"
    )
    applied = schema.apply(absent, ONE_COPY)
    assert [statement for statement in applied if statement.startswith('ALTER')] == [
        f'ALTER TABLE "{absent.keyspace}".feature_store ADD IF NOT EXISTS user_id text',
        f'ALTER TABLE "{absent.keyspace}".model_claims ADD IF NOT EXISTS last_version bigint static',
        f'ALTER TABLE "{absent.keyspace}".model_claims ADD IF NOT EXISTS attempted_at timestamp',
    ]
    assert schema.check(absent, ONE_COPY) == []
    assert _names(session, absent.keyspace, 'tables') == TABLES | {'own_table'}
    row = session.execute(f'SELECT value, note, user_id FROM {absent.keyspace}.feature_store').one()
    assert tuple(row) == (1.5, 'kept', None)


def test_check_names_each_difference(absent: CassandraConnection, session: Session) -> None:
    _create(
        session,
        absent,
        # user_id is missing; value, compaction, TTL and gc_grace_seconds are wrong; the order is the other one
        """feature_store (
        model_id text, feature_name text, timestamp timestamp, value float, metadata map<text, text>,
        PRIMARY KEY ((model_id, feature_name), timestamp)
    ) WITH compaction = {'class': 'SizeTieredCompactionStrategy'}
        AND default_time_to_live = 60 AND gc_grace_seconds = 1""",
        # the key: metric_name is not in the partition key, value is; the window is a day
        """model_metrics (
        model_id text, metric_name text, timestamp timestamp, value double, tags map<text, text>,
        PRIMARY KEY ((model_id, value), timestamp, metric_name)
    ) WITH CLUSTERING ORDER BY (timestamp DESC, metric_name ASC) AND default_time_to_live = 2592000 AND compaction = {
        'class': 'TimeWindowCompactionStrategy', 'compaction_window_size': '1', 'compaction_window_unit': 'DAYS'}""",
        # a column that should be static
        """model_claims (
        experiment_id text, model_id text, digest text, last_version bigint, version bigint, created_at timestamp,
        PRIMARY KEY ((experiment_id, model_id), digest))""",
        # a table where the view should be
        'feature_by_user (a int PRIMARY KEY)',
    )
    twcs = "{'class': 'TimeWindowCompactionStrategy', 'compaction_window_size': '1', 'compaction_window_unit': "
    assert [str(difference) for difference in schema.check(absent, schema.SimpleReplication(2), sai=True)] == [
        "test_schema_absent.replication: got {'class': 'SimpleStrategy', 'replication_factor': '1'}, "
        "declared {'class': 'SimpleStrategy', 'replication_factor': '2'}",
        'feature_store.timestamp: got clustering column 0, asc, declared clustering column 0, desc',
        'feature_store.value: got float, declared double',
        'feature_store.user_id: got nothing, declared text, regular column',
        'feature_store.default_time_to_live: got 60, declared 0',
        'feature_store.gc_grace_seconds: got 1, declared 864000',
        "feature_store.compaction: got {'class': 'SizeTieredCompactionStrategy'}, declared " + twcs + "'DAYS'}",
        'entity_features: got nothing, declared table',
        'model_metrics.metric_name: got clustering column 1, asc, declared partition key column 1',
        'model_metrics.value: got partition key column 1, declared regular column',
        f"model_metrics.compaction: got {twcs}'DAYS'}}, declared {twcs}'HOURS'}}",
        'inference_results: got nothing, declared table',
        'inference_results_bucketed: got nothing, declared table',
        'inference_outcomes: got nothing, declared table',
        'model_versions: got nothing, declared table',
        'model_claims.last_version: got regular column, declared static column',
        'model_claims.attempted_at: got nothing, declared timestamp, regular column',
        'model_aliases: got nothing, declared table',
        'layout_buckets: got nothing, declared table',
        'schema_migrations: got nothing, declared table',
        'feature_by_user: got table, declared view',
        'feature_store_metadata: got nothing, declared index',
    ]


def test_check_names_a_view_of_something_else(connection: CassandraConnection, session: Session) -> None:
    view = f'{connection.keyspace}.feature_by_user'
    session.execute(f'DROP MATERIALIZED VIEW {view}', timeout=120)
    try:
        session.execute(
            f'CREATE MATERIALIZED VIEW {view} AS SELECT user_id, model_id, feature_name, timestamp '
            f'FROM {connection.keyspace}.feature_store '
            "WHERE user_id IS NOT NULL AND model_id = 'm' AND feature_name IS NOT NULL AND timestamp IS NOT NULL "
            'PRIMARY KEY ((user_id), feature_name, model_id, timestamp)',
            timeout=120,
        )
        differences = [str(difference) for difference in schema.check(connection)]
        without = schema.check(connection, views=False)
    finally:
        session.execute(f'DROP MATERIALIZED VIEW IF EXISTS {view}', timeout=120)
        assert len(schema.apply(connection, ONE_COPY)) == 1
    rest = 'feature_name IS NOT NULL AND timestamp IS NOT NULL'
    assert differences == [
        'feature_by_user.model_id: got clustering column 1, asc, declared clustering column 0, asc',
        'feature_by_user.feature_name: got clustering column 0, asc, declared clustering column 1, asc',
        'feature_by_user.value: got nothing, declared double, regular column',
        f"feature_by_user: got feature_store where user_id IS NOT NULL AND model_id = 'm' AND {rest}, "
        f'declared feature_store where user_id IS NOT NULL AND model_id IS NOT NULL AND {rest}',
    ]
    assert without == []


def test_check_of_no_keyspace(absent: CassandraConnection) -> None:
    assert [str(difference) for difference in schema.check(absent)] == [
        'test_schema_absent: got no such keyspace, declared a keyspace'
    ]


def test_network_replication(absent: CassandraConnection, session: Session) -> None:
    there = schema.NetworkReplication({absent.local_datacenter: 1})
    schema.apply(absent, there, views=False)
    assert schema.check(absent, there, views=False) == []
    row = session.execute('SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s', [absent.keyspace])
    assert dict(row.one().replication) == {
        'class': 'org.apache.cassandra.locator.NetworkTopologyStrategy',
        absent.local_datacenter: '1',
    }
    # What exists keeps its replication, and check says so.
    assert schema.apply(absent, ONE_COPY, views=False) == []
    assert [difference.where for difference in schema.check(absent, ONE_COPY, views=False)] == [
        f'{absent.keyspace}.replication'
    ]


def test_a_data_center_the_cluster_lacks_is_one_line(
    absent: CassandraConnection, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quorum, '_PATIENCE', 0.0)
    with pytest.raises(SchemaError, match=r'^test_schema_absent: .*nowhere') as caught:
        schema.apply(absent, schema.NetworkReplication({'nowhere': 1}))
    assert '\n' not in str(caught.value)
    assert _names(session, absent.keyspace, 'tables') == set()


def test_more_copies_than_nodes_are_refused_before_anything_is_created(
    absent: CassandraConnection, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quorum, '_PATIENCE', 0.0)
    nodes = len(session.cluster.metadata.all_hosts())
    copies = 2 * nodes + 1
    expected = (
        f'test_schema_absent: got {copies} copies on {nodes} live nodes in {absent.local_datacenter}, {nodes} of '
        f'{nodes + 1} that are needed, rule: a majority of the copies live, since the lease of schema apply needs it: '
        'start nodes, or a --replication of fewer'
    )
    with pytest.raises(SchemaError) as caught:
        schema.apply(absent, schema.NetworkReplication({absent.local_datacenter: copies}))
    assert str(caught.value) == expected
    assert absent.keyspace not in session.cluster.metadata.keyspaces
    _create(session, absent, 'anything (k int PRIMARY KEY)')
    wide = f"{{'class': 'NetworkTopologyStrategy', '{absent.local_datacenter}': '{copies}'}}"
    session.execute(f'ALTER KEYSPACE {absent.keyspace} WITH replication = {wide}', timeout=120)
    with pytest.raises(SchemaError, match='or ALTER KEYSPACE "test_schema_absent" WITH replication of fewer'):
        schema.apply(absent, ONE_COPY)
    assert _names(session, absent.keyspace, 'tables') == {'anything'}


def test_a_view_the_server_refuses_is_one_line_naming_the_option(absent: CassandraConnection, session: Session) -> None:
    _create(
        session,
        absent,
        """feature_store (
        model_id text, feature_name text, timestamp timestamp, value double, metadata map<text, text>,
        user_id map<text, text>, PRIMARY KEY ((model_id, feature_name), timestamp))""",
    )
    with pytest.raises(SchemaError, match=r'^feature_by_user: InvalidRequest: .*apply with --no-views$') as caught:
        schema.apply(absent, ONE_COPY)
    assert '\n' not in str(caught.value)
    # The tables are there, and applying without the views goes on from there.
    assert schema.apply(absent, ONE_COPY, views=False) == []
    assert _names(session, absent.keyspace, 'tables') == TABLES


@pytest.mark.usefixtures('cassandra_5')
def test_the_index_finds_rows_by_metadata(connection: CassandraConnection, session: Session) -> None:
    assert len(schema.apply(connection, ONE_COPY, sai=True)) == 1
    try:
        assert schema.check(connection, ONE_COPY, sai=True) == []
        assert schema.apply(connection, ONE_COPY, sai=True) == []
        moment = datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc)
        with FeatureStore(connection) as store:
            for user in ('u1', 'u2', 'u3'):
                store.write_feature('index', f'of {user}', 1.0, moment, {'user_id': user})
        query = f"SELECT feature_name FROM {connection.keyspace}.feature_store WHERE metadata['user_id'] = 'u2'"
        assert [tuple(row) for row in session.execute(query)] == [('of u2',)]
    finally:
        session.execute(f'DROP INDEX {connection.keyspace}.feature_store_metadata', timeout=120)


@pytest.fixture
def command(absent: CassandraConnection) -> Callable[..., int]:
    """Runs `tfx-cassandra schema ...` on the absent keyspace as the command line does."""
    where = ['--contact-points', ','.join(absent.contact_points), '--port', str(absent.port)]
    where += ['--local-datacenter', absent.local_datacenter, '--keyspace', absent.keyspace]

    def run(*words: str) -> int:
        return top.main(['schema', *words, *where], 'tfx-cassandra', standalone_mode=False)

    return run


def test_the_commands(command: Callable[..., int], capsys: pytest.CaptureFixture[str], session: Session) -> None:
    assert command('check') == 1
    assert capsys.readouterr().out == 'test_schema_absent: got no such keyspace, declared a keyspace\n'

    assert command('apply', '--no-views') == 0
    shown = capsys.readouterr()
    assert shown.out == ''
    assert 'apply the schema to test_schema_absent: 12 statements were needed' in shown.err
    nodes = len(session.cluster.metadata.all_hosts())
    row = session.execute("SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'test_schema_absent'")
    assert row.one().replication['dc1'] == str(min(3, nodes))

    assert command('check', '--no-views', '--format', 'json') == 0
    assert json.loads(capsys.readouterr().out) == {'differences': []}

    assert command('check', '--no-views') == 0
    assert capsys.readouterr() == ('test_schema_absent is as declared\n', '')

    assert command('check') == 1
    assert capsys.readouterr().out == 'feature_by_user: got nothing, declared view\n'

    assert command('apply', '--no-views', '--replication', 'simple:1') == 0
    assert capsys.readouterr().out.startswith("left as it is: test_schema_absent.replication: got {'class': 'Network")
