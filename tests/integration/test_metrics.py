"""What reads, writes, lookups and logs count on a real cluster, in Prometheus and in Beam, against known numbers."""

from __future__ import annotations

import datetime

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.metrics.metric import MetricsFilter
from cassandra.cluster import Session
from counted import Counts, counted

from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue
from tfx_cassandra.components.inference_log.logger import InferenceLogger
from tfx_cassandra.components.lookup.retrieve import RetrieveFeatures
from tfx_cassandra.components.scan.read import ReadFromCassandra
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.components.write.transform import WriteToCassandra

pytestmark = pytest.mark.integration

MIDNIGHT = datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
PARTITIONS, HOURS = 30, 70  # of which a batch takes 50


@pytest.fixture(scope='module')
def table(connection: CassandraConnection, session: Session) -> str:
    session.execute(f'CREATE TABLE {connection.keyspace}.t (id int, at timestamp, v double, PRIMARY KEY (id, at))')
    return f'{connection.keyspace}.t'


def ran(pipeline: beam.Pipeline) -> tuple[dict[str, int], dict[str, int]]:
    """Runs a pipeline; returns its counters, and the number of values of its distributions."""
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace('tfx_cassandra'))
    counters: dict[str, int] = {}
    for counter in found['counters']:
        name = counter.key.metric.name
        counters[name] = counters.get(name, 0) + counter.committed
    return counters, {d.key.metric.name: d.committed.count for d in found['distributions']}


def same(counters: dict[str, int], grown: Counts) -> bool:
    """Says whether Beam's counters are Prometheus's, summed over the labels."""
    sums: dict[str, float] = {}
    for (name, _), value in grown.items():
        if name.endswith('_total'):
            sums[name] = sums.get(name, 0) + value
    return sums == counters


def test_writes_and_reads(connection: CassandraConnection, table: str) -> None:
    rows = [{'id': i, 'at': MIDNIGHT + h * HOUR, 'v': 0.5} for i in range(PARTITIONS) for h in range(HOURS)]
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([*rows, {'id': 1}]) | WriteToCassandra(connection, 't', max_errors=None)
    with counted() as grown:
        counters, distributions = ran(pipeline)
    assert grown['tfx_cassandra_write_rows_total', (table,)] == len(rows)
    requests = grown['tfx_cassandra_write_seconds_count', ()]
    # A statement is its id and four values, with the write time; a request is its statements, and nine bytes.
    assert grown['tfx_cassandra_write_bytes_total', (table,)] == len(rows) * (21 + 4 * 4 + 28) + 9 * requests
    assert grown['tfx_cassandra_write_dead_letters_total', (table, 'invalid')] == 1
    assert requests >= PARTITIONS
    assert ('tfx_cassandra_write_in_flight', ()) not in grown
    assert same(counters, grown)
    assert distributions == {'tfx_cassandra_write_microseconds': requests}

    pipeline = beam.Pipeline()
    _ = pipeline | ReadFromCassandra(connection, 't', page_rows=50)
    with counted() as grown:
        counters, distributions = ran(pipeline)
    assert grown['tfx_cassandra_read_rows_total', (table,)] == len(rows)
    assert grown['tfx_cassandra_read_bytes_total', (table,)] > len(rows) * (4 + 8 + 8)
    pages = grown['tfx_cassandra_read_pages_total', (table,)]
    assert pages >= len(rows) / 50
    assert ('tfx_cassandra_read_in_flight', ()) not in grown
    assert same(counters, grown)
    assert distributions == {'tfx_cassandra_read_microseconds': pages}


def test_lookups(connection: CassandraConnection, session: Session, table: str) -> None:
    for i in (1, 2, 3):
        session.execute(f'INSERT INTO {table} (id, at, v) VALUES (%s, %s, 0.5)', (i, MIDNIGHT))
    view = FeatureView('v', 't', ('id',), 'at', ('v',))
    examples = []
    for i in [1, 2, 3, 3, 999]:
        example = tf.train.Example()
        example.features.feature['id'].int64_list.value.append(i)
        examples.append(example.SerializeToString())
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create(examples, reshuffle=False) | RetrieveFeatures(connection, view)
    with counted() as grown:
        counters, distributions = ran(pipeline)
    keys = grown['tfx_cassandra_lookup_keys_total', (table,)]
    assert 4 <= keys <= 5  # once in each batch, of which the runner may make several
    assert grown['tfx_cassandra_lookup_rows_total', (table,)] == keys - 1
    assert grown['tfx_cassandra_lookup_bytes_total', (table,)] > 0
    assert same(counters, grown)
    pages = grown['tfx_cassandra_lookup_pages_total', (table,)]
    assert distributions == {'tfx_cassandra_lookup_microseconds': pages}
    assert ('tfx_cassandra_lookup_in_flight', ()) not in grown


def test_a_feature_store(connection: CassandraConnection) -> None:
    name = f'{connection.keyspace}.feature_store'
    values = [FeatureValue('m', feature, MIDNIGHT + h * HOUR, 1.0) for feature in ('a', 'b') for h in range(9)]
    with FeatureStore(connection) as store, counted() as grown:
        store.write_features(values)
        assert set(store.get_latest_features('m', ['a', 'b', 'c'])) == {'a', 'b', 'c'}
        assert len(list(store.get_time_series('m', 'a', TimeWindow(MIDNIGHT, MIDNIGHT + 5 * HOUR)))) == 5
    pages = grown['tfx_cassandra_lookup_pages_total', (name,)]
    assert 1 <= pages <= 3  # one for each node with some of the features
    assert {key: value for key, value in grown.items() if key[0].endswith(('_total', '_count'))} == {
        ('tfx_cassandra_write_rows_total', (name,)): 18,
        ('tfx_cassandra_write_bytes_total', (name,)): 18 * (1 + 1 + 8 + 8),
        ('tfx_cassandra_write_seconds_count', ()): 18,
        ('tfx_cassandra_lookup_keys_total', (name,)): 4,
        ('tfx_cassandra_lookup_pages_total', (name,)): pages,
        ('tfx_cassandra_lookup_rows_total', (name,)): 7,
        ('tfx_cassandra_lookup_seconds_count', ()): pages + 1,
    }
    assert not [key for key in grown if key[0].endswith('_in_flight')]


def test_an_inference_log(connection: CassandraConnection) -> None:
    log = InferenceLogger(connection)
    with counted() as grown:
        log.log('m', 0.5)  # before it is open
        with log:
            for _ in range(120):
                log.log('m', 0.5)
            log.log('m', 'none')  # type: ignore[arg-type]
            with counted() as flushed:
                assert log.flush()
    assert grown['tfx_cassandra_log_rows_total', ()] == 120
    assert grown['tfx_cassandra_log_drops_total', ()] == 1
    assert grown['tfx_cassandra_log_dead_letters_total', ()] == 1
    assert grown['tfx_cassandra_log_seconds_count', ()] >= 3
    assert ('tfx_cassandra_log_in_flight', ()) not in grown
    assert ('tfx_cassandra_log_queue_rows', ()) not in grown
    assert -121 <= flushed.get(('tfx_cassandra_log_queue_rows', ()), 0) <= 0
