"""A real Prometheus scrapes real nodes under load: every recorded series and every panel of the dashboard has data."""

from __future__ import annotations

import contextlib
import datetime
import io
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import prometheus
import prometheus_client
import pytest
import tensorflow as tf
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.query import SimpleStatement
from prometheus import MONITORING, Prometheus, binaries, panel_queries, recorded

from tfx_cassandra.components import metrics, schema
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.devcluster import launch
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue
from tfx_cassandra.components.inference_log.logger import InferenceLogger
from tfx_cassandra.components.lookup.retrieve import RetrieveFeatures
from tfx_cassandra.components.monitoring.config import Monitoring, SkewCheck
from tfx_cassandra.components.monitoring.exporter import Exporter
from tfx_cassandra.components.progress import step
from tfx_cassandra.components.scan.read import ReadFromCassandra

pytestmark = pytest.mark.integration

NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
MINUTE = datetime.timedelta(minutes=1)
VIEW = FeatureView(
    'weather', 'feature_store', ('model_id',), 'timestamp', ('temp',), layout='long',
    feature_name_column='feature_name', value_column='value',
)  # fmt: skip


class Watched(NamedTuple):
    """A running cluster, a keyspace on it with the schema, and the Prometheus that scrapes it."""

    cluster: DevCluster
    connection: CassandraConnection
    session: Session
    prometheus: Prometheus


@contextlib.contextmanager
def watched(folder: Path, nodes: int, subnet: str, jmx_port: int) -> Iterator[Watched]:
    binaries()  # skips before anything is started
    cluster = DevCluster(folder / 'cluster', nodes, subnet, jmx_port=jmx_port, heap='512M', metrics_port=7070)
    quiet = partial(step, stream=io.StringIO())
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
        patch.setenv('JAVA_TOOL_OPTIONS', '-XX:TieredStopAtLevel=1')
        cluster.start(quiet)
        stack.callback(cluster.stop, quiet)
        connection = CassandraConnection(cluster.contact_points, cluster.port, keyspace='watched', request_timeout=60.0)
        schema.apply(connection, schema.SimpleReplication(nodes))
        session = stack.enter_context(connections.session(connection))
        server, thread = prometheus_client.start_http_server(0, f'{subnet}.1')
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        targets = {
            'cassandra': [f'{address}:7070' for address in cluster.contact_points],
            'tfx-cassandra': [f'{subnet}.1:{server.server_port}'],
        }
        running = prometheus.running(folder, f'{subnet}.1:9090', targets)
        yield Watched(cluster, connection, session, stack.enter_context(running))


def load(w: Watched) -> None:
    """Writes, reads, looks up, logs and deletes, by this package and by the driver."""
    values = [FeatureValue('JFK', 'temp', NOW - n * MINUTE, n % 9.0) for n in range(1, 240)]
    with FeatureStore(w.connection, consistency='ONE') as store:
        assert not [result for result in store.write_features(values) if result.error]
        store.get_latest_features('JFK', ['temp'])
    with InferenceLogger(w.connection) as log:
        for n in range(50):
            log.log('m', 0.5, unit='JFK', timestamp=NOW - n * MINUTE, features=[{'temp': float(n)}])
        assert log.flush()
    example = tf.train.Example()
    example.features.feature['model_id'].bytes_list.value.append(b'JFK')
    with beam.Pipeline() as pipeline:
        _ = pipeline | 'Scan' >> ReadFromCassandra(w.connection, 'feature_store', consistency='ONE')
        examples = pipeline | beam.Create([example.SerializeToString()])
        _ = examples | RetrieveFeatures(w.connection, VIEW, consistency='ONE')
    table = f'{w.connection.keyspace}.feature_store'
    for n in range(100, 200):
        w.session.execute(
            f"DELETE FROM {table} WHERE model_id = 'JFK' AND feature_name = 'temp' AND timestamp = %s",
            (NOW - n * MINUTE,),
        )
    for _ in range(20):
        query = f"SELECT * FROM {table} WHERE model_id = 'JFK' AND feature_name = 'temp'"
        w.session.execute(SimpleStatement(query, consistency_level=ConsistencyLevel.ONE)).all()


@contextlib.contextmanager
def under_load(w: Watched) -> Iterator[None]:
    """Repeats the load in a thread; fails if it failed."""
    stop, errors = threading.Event(), []

    def run() -> None:
        while not stop.is_set():
            try:
                load(w)
            except Exception as error:
                errors.append(error)
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not errors, errors[0]


@contextlib.contextmanager
def features_shown(w: Watched) -> Iterator[None]:
    """Shows a round of the monitor beside the process's own metrics."""
    settings = Monitoring((VIEW,), (SkewCheck('m', {'model_id': 'unit'}),), current=60 * MINUTE)
    exporter = Exporter(w.connection, settings)
    exporter.round()
    prometheus_client.REGISTRY.register(exporter.snapshot)
    try:
        yield
    finally:
        prometheus_client.REGISTRY.unregister(exporter.snapshot)


def wait_for_everything(w: Watched, hints: bool) -> None:
    """Waits until every recorded series and every query of a panel has data; hints only exist in a ring."""
    lacking = {'cassandra:hints_handed_off:rate5m'} if not hints else set()
    for name in recorded():
        if name not in lacking:
            series = w.prometheus.wait(name)
            nodes = {labels['instance'] for labels, _ in series}
            assert nodes <= {f'{address}:7070' for address in w.cluster.contact_points}
    for title, queries in panel_queries().items():
        for query in queries:
            if query not in lacking:
                assert w.prometheus.wait(query), title


def flush(w: Watched) -> None:
    for node in range(1, w.cluster.nodes + 1):
        assert w.cluster.nodetool(['flush', w.connection.keyspace], node) == 0


def test_one_node(tmp_path: Path) -> None:
    with watched(tmp_path, 1, '127.0.47', 7471) as w:
        load(w)
        flush(w)
        with under_load(w), features_shown(w):
            wait_for_everything(w, hints=False)
        rows = w.prometheus.query('sum(tfx_cassandra_write_rows_total{table="watched.feature_store"})')
        assert rows[0][1] >= 239
        (memtables,) = w.prometheus.query('cassandra:memtable_bytes')
        assert memtables[1] > 0
        # Latencies are in seconds, and of requests that took less than the load.
        for name in ('read_latency_seconds', 'write_latency_seconds'):
            found = w.prometheus.query(f'cassandra:{name}:p99')
            assert all(1e-6 < value < 60 for _, value in found)
        assert {labels['request'] for labels, _ in w.prometheus.query('cassandra:read_latency_seconds:p99')} == {
            'Read', 'RangeSlice',
        }  # fmt: skip
        state = w.prometheus.get('targets')['activeTargets']
        assert [target['health'] for target in state] == ['up', 'up']
        assert not w.prometheus.query('ALERTS{alertname="CassandraNodeDown"}')


@pytest.mark.slow
def test_a_ring_one_of_whose_nodes_is_away_for_a_while(tmp_path: Path) -> None:
    with watched(tmp_path, 3, '127.0.48', 7481) as w:
        load(w)
        flush(w)
        away = w.cluster.ring[2]
        launch.stop([away])
        load(w)  # hints are stored for it
        hinted = 'cassandra:hints_stored:rate5m > 0'
        w.prometheus.wait(hinted)
        w.prometheus.wait('ALERTS{alertname="CassandraNodeDown", alertstate="pending"}')
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
            w.cluster.start(partial(step, stream=io.StringIO()))
        with under_load(w), features_shown(w):
            wait_for_everything(w, hints=True)
            w.prometheus.wait('cassandra:hints_handed_off:rate5m > 0', 120)
            for name in recorded():
                if name != 'cassandra:hints_handed_off:rate5m':  # a node that was never away hands nothing to itself
                    w.prometheus.wait(f'count(count by (instance) ({name})) == 3', 120)


def test_every_metric_of_the_dashboard_exists() -> None:
    """Names of other metrics than ours are checked by the tests above."""
    names = {metric.name for metric in metrics.declared()}
    used = {
        word.removesuffix('_bucket')
        for queries in panel_queries().values() for query in queries
        for word in query.replace('(', ' ').replace('{', ' ').replace('[', ' ').replace(')', ' ').split()
        if word.startswith('tfx_cassandra_')
    }  # fmt: skip
    assert used
    assert used <= names


def test_the_rules_pass_their_unit_tests(tmp_path: Path) -> None:
    promtool = binaries() / 'promtool'
    done = subprocess.run([promtool, 'test', 'rules', 'rules-test.yml'], cwd=MONITORING, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    # Each alert is tested: without its rule, a test fails.
    names = [line.split()[2] for line in (MONITORING / 'rules.yml').read_text().splitlines() if '- alert:' in line]
    tested = (MONITORING / 'rules-test.yml').read_text()
    assert names
    assert [name for name in names if f'alertname: {name}' not in tested] == []
    for name in ('rules.yml', 'rules-test.yml'):
        shutil.copy(MONITORING / name, tmp_path / name)
    broken = (tmp_path / 'rules.yml').read_text().replace('> 100e6', '> 100e9')
    (tmp_path / 'rules.yml').write_text(broken)
    done = subprocess.run([promtool, 'test', 'rules', 'rules-test.yml'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0


def test_the_configuration_of_prometheus_is_valid() -> None:
    command = [binaries() / 'promtool', 'check', 'config', 'prometheus.yml']
    done = subprocess.run(command, cwd=MONITORING, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
