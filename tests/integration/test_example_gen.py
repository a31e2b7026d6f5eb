"""CassandraExampleGen against a real cluster: the examples are the table's rows, and bad input stops before Beam."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from pathlib import Path

import pytest
import tensorflow as tf
from cassandra.cluster import Session
from tfx import types
from tfx.components import StatisticsGen
from tfx.components.example_gen import base_example_gen_executor
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts

from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError, UnavailableError
from tfx_cassandra.components.example_gen import executor
from tfx_cassandra.components.example_gen.component import CassandraExampleGen
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue
from tfx_cassandra.components.scan import ring

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2013, 1, 1, tzinfo=UTC)
WINDOW = '2013-01-01T00:00Z/2013-01-02T00:00Z'
AIRPORTS, FEATURES, HOURS = ('JFK', 'LGA', 'EWR'), ('temp', 'wind', 'visib'), 30
WEATHER = FeatureView(
    'weather', 'feature_store', ('model_id',), 'timestamp', ('temp', 'wind', 'gust'), layout='long',
    feature_name_column='feature_name', value_column='value', prefix='w_',
)  # fmt: skip
TRIPS = FeatureView('trips', 'trips', ('id',), 'left', ('km', 'late', 'stops', 'note'))


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    values = [
        FeatureValue(airport, feature, START + datetime.timedelta(hours=h), 10.0 * h + len(feature))
        for airport in AIRPORTS
        for feature in FEATURES
        for h in range(HOURS)
        if (h + len(feature)) % 5  # gaps: not every feature is known at every hour
    ]
    with FeatureStore(connection) as store:
        assert not [result for result in store.write_features(values) if result.error]
    session.execute(
        f'CREATE TABLE {connection.keyspace}.trips '
        '(id text, left timestamp, km double, late boolean, stops set<text>, note text, PRIMARY KEY ((id), left))'
    )
    insert = session.prepare(
        f'INSERT INTO {connection.keyspace}.trips (id, left, km, late, stops, note) VALUES (?, ?, ?, ?, ?, ?)'
    )
    for i in range(500):
        stops = {'a', 'b'} if i % 2 else None
        moment = START + datetime.timedelta(minutes=3 * i)
        session.execute(insert, (f't{i}', moment, i / 4, i % 3 == 0, stops, f'n{i}' if i % 7 else None))
    return connection


def run(component: CassandraExampleGen, folder: Path) -> types.Artifact:
    """Runs the component's executor as a launcher would, and returns its artifact."""
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    executor.Executor().Do({}, {'examples': [artifact]}, dict(component.exec_properties))
    return artifact


def examples(folder: Path, split: str = '*') -> list[dict[str, list]]:
    """Reads examples as TensorFlow does, into plain values."""
    files = sorted(map(str, folder.glob(f'Split-{split}/data_tfrecord-*-of-*.gz')))
    plain = []
    for record in tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        plain.append({name: list(getattr(f, f.WhichOneof('kind')).value) for name, f in features.items()})
    return plain


def test_wide_examples_are_the_rows(filled: CassandraConnection, session: Session, tmp_path: Path) -> None:
    artifact = run(CassandraExampleGen(filled, TRIPS, window=WINDOW), tmp_path)
    expected = {}
    for row in session.execute(f'SELECT * FROM {filled.keyspace}.trips'):
        left = row.left.replace(tzinfo=UTC)
        if START <= left < START + datetime.timedelta(days=1):
            values = {
                'id': [row.id.encode()], 'left': [int(left.timestamp() * 1000)], 'km': [row.km],
                'late': [int(row.late)], 'stops': row.stops and [stop.encode() for stop in row.stops],
                'note': row.note and [row.note.encode()],
            }  # fmt: skip
            expected[row.id] = {name: value for name, value in values.items() if value is not None}
    got = examples(tmp_path)
    assert len(got) == len(expected) == 480
    assert {example['id'][0].decode(): example for example in got} == expected
    assert artifact.get_int_custom_property('rows') == artifact.get_int_custom_property('examples') == 480
    assert artifact.get_string_custom_property('table') == f'{filled.keyspace}.trips'
    assert artifact.get_string_custom_property('window') == '2013-01-01T00:00:00+00:00/2013-01-02T00:00:00+00:00'
    coverage = json.loads((tmp_path / 'coverage.json').read_text())
    assert coverage['fingerprint'] == artifact.get_string_custom_property('fingerprint')
    assert coverage['examples'] == {split: len(examples(tmp_path, split)) for split in ('train', 'eval')}


def test_long_rows_become_one_example_per_entity_and_time(
    filled: CassandraConnection, session: Session, tmp_path: Path
) -> None:
    artifact = run(CassandraExampleGen(filled, WEATHER, window=WINDOW), tmp_path)
    expected: dict = {}
    rows = 0
    for row in session.execute(f'SELECT * FROM {filled.keyspace}.feature_store'):
        if row.timestamp.replace(tzinfo=UTC) < START + datetime.timedelta(days=1):
            rows += 1
            if row.feature_name in WEATHER.features:
                stamp = int(row.timestamp.replace(tzinfo=UTC).timestamp() * 1000)
                expected.setdefault((row.model_id.encode(), stamp), {})[f'w_{row.feature_name}'] = [row.value]
    got = {}
    for example in examples(tmp_path):
        got[example.pop('model_id')[0], example.pop('timestamp')[0]] = example
    assert got == expected
    assert artifact.get_int_custom_property('rows') == rows
    assert artifact.get_int_custom_property('examples') == len(expected)


def test_count_and_sum_equal_a_plain_driver_loop(filled: CassandraConnection, session: Session, tmp_path: Path) -> None:
    run(CassandraExampleGen(filled, TRIPS, window='2013-01-01T00:00Z/2014-01-01T00:00Z'), tmp_path)
    got = examples(tmp_path)
    loop = [row.km for row in session.execute(f'SELECT km FROM {filled.keyspace}.trips')]
    assert len(got) == len(loop) == 500
    assert math.fsum(example['km'][0] for example in got) == math.fsum(loop)  # quarters are exact in 32 bits


def test_splits_are_tfx_s_own(filled: CassandraConnection, tmp_path: Path) -> None:
    split_config = example_gen_pb2.SplitConfig(
        splits=[example_gen_pb2.SplitConfig.Split(name=n, hash_buckets=b) for n, b in (('a', 1), ('b', 2), ('c', 3))],
        partition_feature_name='id',
    )
    output = example_gen_pb2.Output(split_config=split_config)
    artifact = run(CassandraExampleGen(filled, TRIPS, window=WINDOW, output_config=output), tmp_path)
    assert json.loads(artifact.split_names) == ['a', 'b', 'c']
    for index, split in enumerate('abc'):
        files = sorted(map(str, tmp_path.glob(f'Split-{split}/*.gz')))
        for record in tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator():
            example = tf.train.Example.FromString(record)
            assert base_example_gen_executor._PartitionFn(example, 3, [1, 3, 6], split_config) == index


def test_the_same_window_gives_the_same_examples_and_fingerprint(filled: CassandraConnection, tmp_path: Path) -> None:
    first = run(CassandraExampleGen(filled, TRIPS, window=WINDOW), tmp_path / 'first')
    second = run(
        CassandraExampleGen(filled, TRIPS, window=WINDOW, splits=3, page_rows=11, shards=2), tmp_path / 'second'
    )
    key = 'fingerprint'
    assert first.get_string_custom_property(key) == second.get_string_custom_property(key)
    for split in ('train', 'eval'):
        both = [sorted(examples(tmp_path / name, split), key=lambda one: one['id']) for name in ('first', 'second')]
        assert both[0] == both[1]
        assert len(list((tmp_path / 'second').glob(f'Split-{split}/*-of-00002.gz'))) == 2


@pytest.mark.slow
def test_the_seed_decides_the_order_and_nothing_else(filled: CassandraConnection, tmp_path: Path) -> None:
    orders = {}
    for name, seed in (('one', 1), ('again', 1), ('two', 2)):
        run(CassandraExampleGen(filled, TRIPS, window=WINDOW, page_rows=11, shuffle_seed=seed), tmp_path / name)
        orders[name] = [example['id'] for example in examples(tmp_path / name)]
    assert sorted(orders['one']) == sorted(orders['two'])
    assert orders['one'] == orders['again'] != orders['two']


def test_an_empty_window_gives_empty_splits(filled: CassandraConnection, tmp_path: Path) -> None:
    artifact = run(CassandraExampleGen(filled, TRIPS, window='1999-01-01T00:00Z/1999-01-02T00:00Z'), tmp_path)
    assert artifact.get_int_custom_property('examples') == 0
    assert examples(tmp_path) == []
    assert list(tmp_path.glob('Split-train/*.gz'))


def test_stock_components_read_the_result_and_a_failure_leaves_nothing(
    filled: CassandraConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dag(name: str) -> pipeline.Pipeline:
        generate = CassandraExampleGen(filled, TRIPS, window=WINDOW)
        return pipeline.Pipeline(
            'test', str(tmp_path / name), components=[generate, StatisticsGen(examples=generate.outputs['examples'])],
            metadata_connection_config=metadata.sqlite_metadata_connection_config(str(tmp_path / f'{name}.sqlite')),
        )  # fmt: skip

    LocalDagRunner().run(dag('whole'))
    assert list((tmp_path / 'whole').glob('StatisticsGen/statistics/*/Split-train/FeatureStats.pb'))

    subdivide = ring.subdivide
    monkeypatch.setattr(ring, 'subdivide', lambda ranges, count: subdivide(ranges, count)[1:])
    with pytest.raises(Exception, match='token ranges not read'):
        LocalDagRunner().run(dag('broken'))
    assert not list((tmp_path / 'broken').glob('CassandraExampleGen/examples/*/Split-*/*'))


@pytest.mark.parametrize(
    ('view', 'kind', 'message'),
    [
        ({'table': 'trisp'}, SchemaError, "table: got 'trisp', rule: a table of keyspace"),
        ({'features': ('km', 'miles')}, SchemaError, "columns: got 'miles', rule: a column of"),
        ({'timestamp_column': 'km', 'features': ('late',)}, SchemaError, "time_column: got 'km', rule: a column of"),
        ({'entity_columns': ('nobody',)}, SchemaError, "columns: got 'nobody', rule: a column of"),
    ],
)
def test_a_view_that_does_not_fit_stops_before_beam(
    filled: CassandraConnection, tmp_path: Path, view: dict, kind: type, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.Executor, '_make_beam_pipeline', lambda self: pytest.fail('a pipeline was made'))
    with pytest.raises(kind) as caught:
        run(CassandraExampleGen(filled, dataclasses.replace(TRIPS, **view), window=WINDOW), tmp_path)
    assert str(caught.value).startswith(message)
    assert '\n' not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_map_is_not_a_feature(filled: CassandraConnection, tmp_path: Path) -> None:
    view = FeatureView('v', 'feature_store', ('model_id', 'feature_name'), 'timestamp', ('metadata',))
    with pytest.raises(SchemaError, match="view v: got 'metadata' of type map<text, text>, rule: a scalar"):
        run(CassandraExampleGen(filled, view, window=WINDOW), tmp_path)


def test_an_unreachable_cluster_stops_before_beam(filled: CassandraConnection, tmp_path: Path) -> None:
    away = dataclasses.replace(filled, contact_points=('127.0.0.250',))
    with pytest.raises(UnavailableError, match='contact_points: got 127'):
        run(CassandraExampleGen(away, TRIPS, window=WINDOW), tmp_path)
