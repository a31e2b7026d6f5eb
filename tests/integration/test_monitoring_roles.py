"""The monitor as users with few rights: SELECT, and MODIFY on model_metrics alone."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterator

import pytest
from nodes import running

from tfx_cassandra.components import schema
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue
from tfx_cassandra.components.inference_log.logger import InferenceLogger
from tfx_cassandra.components.monitoring.config import Monitoring, SkewCheck
from tfx_cassandra.components.monitoring.exporter import Exporter

pytestmark = pytest.mark.integration

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
MINUTE = datetime.timedelta(minutes=1)
SETTINGS = Monitoring(skew=(SkewCheck('served', {'model_id': 'unit'}),))


@pytest.fixture(scope='module')
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CassandraConnection]:
    """A connection as superuser to a node with roles, whose keyspace holds features and logs."""
    cluster = DevCluster(
        tmp_path_factory.mktemp('guarded'), subnet='127.0.49', jmx_port=7491, heap='512M', authenticated=True
    )
    settings = {'authorizer': 'CassandraAuthorizer', 'permissions_validity': '100ms'}
    with pytest.MonkeyPatch.context() as patch, running(cluster, settings, '-XX:TieredStopAtLevel=1'):
        patch.setenv('GUARDED_PASSWORD', 'cassandra')
        patch.setenv('MONITOR_PASSWORD', 'look')
        connection = CassandraConnection(
            cluster.contact_points, keyspace='watched', username='cassandra', password_env='GUARDED_PASSWORD'
        )
        schema.apply(connection, schema.SimpleReplication(1))
        with FeatureStore(connection) as store:
            values = [FeatureValue('JFK', 'temp', NOW - n * MINUTE, n % 7.0) for n in range(1, 200)]
            assert not [result for result in store.write_features(values) if result.error]
        with InferenceLogger(connection) as log:
            for n in range(30):
                log.log('served', 0.5, unit='JFK', timestamp=NOW - n * MINUTE, features=[{'temp': float(n)}])
            assert log.flush()
        with connections.session(connection) as session:
            for name in ('reader', 'monitor'):
                session.execute(f"CREATE ROLE {name} WITH PASSWORD = 'look' AND LOGIN = true")
                session.execute(f'GRANT SELECT ON KEYSPACE watched TO {name}')
            session.execute('GRANT MODIFY ON TABLE watched.model_metrics TO monitor')
        yield connection


def as_role(connection: CassandraConnection, name: str) -> CassandraConnection:
    return dataclasses.replace(connection, username=name, password_env='MONITOR_PASSWORD')


def measured(exporter: Exporter) -> set[str]:
    return {family.name for family in exporter.snapshot.collect() if family.samples}


COMPLETE = {
    'tfx_cassandra_feature_age_seconds', 'tfx_cassandra_feature_missing_ratio', 'tfx_cassandra_feature_drift_psi',
    'tfx_cassandra_skew_ratio',
}  # fmt: skip


def test_a_reader_measures_everything_and_writes_nothing(guarded: CassandraConnection) -> None:
    exporter = Exporter(as_role(guarded, 'reader'), SETTINGS, write=False)
    exporter.round()
    assert measured(exporter) >= COMPLETE
    with connections.session(guarded) as session:
        assert session.execute('SELECT count(*) FROM watched.model_metrics').one()[0] == 0


def test_a_reader_that_should_write_is_one_line(guarded: CassandraConnection) -> None:
    exporter = Exporter(as_role(guarded, 'reader'), SETTINGS)
    with pytest.raises(WriteError, match=r'^model_metrics: .*reader has no MODIFY permission') as caught:
        exporter.round()
    assert '\n' not in str(caught.value)
    assert measured(exporter) >= COMPLETE  # what was measured is shown all the same


def test_a_monitor_writes_model_metrics(guarded: CassandraConnection) -> None:
    exporter = Exporter(as_role(guarded, 'monitor'), SETTINGS)
    exporter.round()
    with connections.session(guarded) as session:
        rows = session.execute('SELECT model_id, metric_name FROM watched.model_metrics').all()
    assert ('served', 'skew_ratio{feature=temp}') in [tuple(row) for row in rows]
    assert ('JFK', 'feature_drift_ks{feature=temp}') in [tuple(row) for row in rows]
