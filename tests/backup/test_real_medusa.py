"""Backups that Cassandra Medusa itself has made of the dev cluster's node, against CQL."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from real_medusa import Medusa
from snapshots import in_cql, snapshots_of, values_of

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.opening import BackupTable, open_table
from tfx_cassandra.components.cli.cluster import default_directory
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = [pytest.mark.integration, pytest.mark.slow]
KEYSPACE = 'medusa_backups'


@pytest.fixture(scope='module')
def connection(cluster_connection: CassandraConnection, cassandra_5: None) -> Iterator[CassandraConnection]:
    snapshots_of(cluster_connection)
    with connections.session(cluster_connection) as session:
        session.execute(f'DROP KEYSPACE IF EXISTS {KEYSPACE}')
        session.execute(
            f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'NetworkTopologyStrategy', 'dc1': 1}}"
        )
        session.execute(f'CREATE TYPE {KEYSPACE}.point (x int, y text)')
        session.execute(
            f'CREATE TABLE {KEYSPACE}.t (k int, c text, v int, gone text, back int, p frozen<point>, s set<int>, '
            'PRIMARY KEY (k, c))'
        )
        session.execute(f'CREATE INDEX ON {KEYSPACE}.t (v)')
        for n in range(50):
            session.execute(
                f'INSERT INTO {KEYSPACE}.t (k, c, v, gone, back, p, s) VALUES '
                f"({n}, 'c{n % 3}', {n}, 'x', {n}, {{x: {n}, y: 'y'}}, {{{n}, 7}})"
            )
        session.execute(f'ALTER TABLE {KEYSPACE}.t DROP gone')
        session.execute(f'ALTER TABLE {KEYSPACE}.t DROP back')
        session.execute(f'ALTER TABLE {KEYSPACE}.t ADD back int')
        session.execute(f"UPDATE {KEYSPACE}.t SET back = 5 WHERE k = 9 AND c = 'c0'")
        yield cluster_connection
        session.execute(f'DROP KEYSPACE {KEYSPACE}')


@pytest.fixture(scope='module')
def medusa(connection: CassandraConnection, tmp_path_factory: pytest.TempPathFactory) -> Medusa:
    cluster = DevCluster.saved(default_directory())
    assert cluster is not None
    return Medusa(cluster, tmp_path_factory.mktemp('medusa'))


@pytest.mark.parametrize('mode', ['full', 'differential'])
def test_backups_equal_cql(connection: CassandraConnection, medusa: Medusa, mode: str) -> None:
    own = dataclasses.replace(connection, keyspace=KEYSPACE)
    seen = {}
    with connections.session(connection) as session:
        for stage in range(2):
            session.execute(f'DELETE FROM {KEYSPACE}.t WHERE k = {stage}')
            session.execute(f"UPDATE {KEYSPACE}.t SET v = -1 WHERE k = {stage + 7} AND c = 'c1'")
            name = f'{mode}{stage}'
            medusa.back_up(name, mode)
            seen[name] = in_cql(own, 't')
    for name, cql in seen.items():
        backup = CassandraBackup(str(medusa.root), name, layout='medusa', keyspace=KEYSPACE)
        table = open_table(backup, 't')
        assert values_of(table.schema, table.sstables, table.created_at, owned=table.owned) == cql
    last = CassandraBackup(str(medusa.root), layout='medusa', keyspace=KEYSPACE)
    assert open_table(last, 't').name == f'{mode}1'
    check_columns(open_table(last, 't'))


def check_columns(table: BackupTable) -> None:
    assert set(table.schema.dropped) == {'gone', 'back'}
    assert 'gone' not in table.schema.table.readable
