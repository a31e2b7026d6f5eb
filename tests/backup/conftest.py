"""A backup of a few tables of the dev cluster."""

from __future__ import annotations

from collections.abc import Iterator

import backed_up
import pytest
from cassandra.cluster import Session
from snapshots import snapshots_of

from tfx_cassandra.components import CassandraBackup, CassandraConnection


@pytest.fixture(scope='module')
def backup(connection: CassandraConnection, session: Session, cassandra_5: None) -> Iterator[CassandraBackup]:
    snapshots, keyspace = snapshots_of(connection), connection.keyspace
    backed_up.write(session, snapshots, keyspace)
    yield backed_up.taken(snapshots, keyspace)
    snapshots.run('clearsnapshot', '--all', '--', keyspace)
