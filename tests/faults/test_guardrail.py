"""A node whose guardrail forbids ALLOW FILTERING: a window is read all the same, and filtered by the workers."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf
from cassandra import InvalidRequest
from nodes import running
from scans import read_rows
from tfx.types import standard_artifacts

from tfx_cassandra.components import CassandraConnection, CassandraExampleGen, FeatureView, LabelSource
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.example_gen import executor

pytestmark = pytest.mark.integration

_WORKER = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))
START = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
WINDOW = '2020-01-01T02:00Z/2020-01-01T05:00Z'
EVENTS = LabelSource('events', ('who',), 'at', ('y',))
VIEW = FeatureView('known', 'known', ('who',), 'at', ('x',), ttl=3 * HOUR)


@pytest.fixture(scope='module')
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraConnection]:
    """A connection of an ordinary user: guardrails do not hold for superusers, and without logins everyone is one."""
    cluster = DevCluster(
        tmp_path_factory.mktemp('guarded'), subnet=f'127.0.{44 + _WORKER}', storage_port=7044, jmx_port=7581 + _WORKER,
        heap='512M', authenticated=True,
    )  # fmt: skip
    with (
        running(cluster, {'allow_filtering_enabled': False}, '-XX:TieredStopAtLevel=1'),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv('SUPER_PASSWORD', 'cassandra')
        patch.setenv('READER_PASSWORD', 'reading')
        superuser = CassandraConnection(
            cluster.contact_points, cluster.port, keyspace='k', username='cassandra', password_env='SUPER_PASSWORD'
        )
        with connections.session(superuser) as session:
            session.execute("CREATE ROLE reader WITH PASSWORD = 'reading' AND LOGIN = true")
            session.execute("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
            for name, value in (('events', 'y'), ('known', 'x')):
                session.execute(f'CREATE TABLE k.{name} (who text, at timestamp, {value} int, PRIMARY KEY (who, at))')
                insert = f'INSERT INTO k.{name} (who, at, {value}) VALUES (%s, %s, %s) USING TIMESTAMP 1'
                for hour in range(8):
                    session.execute(insert, (f'user {hour % 3}', START + hour * HOUR, hour))
        reader = dataclasses.replace(superuser, username='reader', password_env='READER_PASSWORD')
        with connections.session(reader) as session, pytest.raises(InvalidRequest, match=r'(?i)filtering'):
            session.execute('SELECT * FROM k.events WHERE at > 0 ALLOW FILTERING')
        yield reader


@pytest.mark.parametrize('window', [WINDOW, None])
def test_a_window_is_read(guarded: CassandraConnection, window: str | None) -> None:
    hours = range(2, 5) if window else range(8)
    expected = sorted((f'user {hour % 3}', hour) for hour in hours)
    assert read_rows(guarded, 'events', columns=('who', 'y'), window=window) == expected


@pytest.mark.parametrize('plan', ['scan', 'lookup', pytest.param('auto', marks=pytest.mark.slow)])
def test_examples_of_a_window_are_made(guarded: CassandraConnection, tmp_path: Path, plan: str) -> None:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(tmp_path)
    component = CassandraExampleGen(guarded, window=WINDOW, labels=EVENTS, views=VIEW, join_plan=plan)
    executor.Executor().Do({}, {'examples': [artifact]}, dict(component.exec_properties))
    made = []
    files = sorted(map(str, tmp_path.glob('Split-*/data_tfrecord-*.gz')))
    for record in tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        made.append(
            (features['who'].bytes_list.value[0], features['y'].int64_list.value[0], *features['x'].int64_list.value)
        )
    assert sorted(made) == [(f'user {hour % 3}'.encode(), hour, hour) for hour in (3, 4, 2)]
    assert json.loads((tmp_path / 'coverage.json').read_text())
