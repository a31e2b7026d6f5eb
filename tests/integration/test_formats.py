"""tf.SequenceExamples and the schema output on a real Cassandra: against loops, and read by stock components."""

from __future__ import annotations

import datetime
import random
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from apache_beam.testing.util import assert_that
from cassandra.cluster import Session
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx import types
from tfx.components import ExampleValidator, StatisticsGen
from tfx.components.example_gen import base_example_gen_executor
from tfx.components.util import examples_utils, tfxio_utils
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts
from tfx.utils import io_utils
from tfx_bsl.tfxio import dataset_options

from tfx_cassandra.components.dataset.files.split import TimeSplits
from tfx_cassandra.components.dataset.join import shards
from tfx_cassandra.components.dataset.spec.label import Label, LabelSource
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.example_gen import executor
from tfx_cassandra.components.example_gen.component import CassandraExampleGen
from tfx_cassandra.components.training_set import read as training_set
from tfx_cassandra.components.window import EPOCH

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2021, 5, 1, tzinfo=UTC)
MINUTE = datetime.timedelta(minutes=1)
WINDOW = '2021-05-01T00:00Z/2021-05-02T00:00Z'
USERS = ['ann', 'bob', 'hot']
BUYS = LabelSource('buys', ('user', 'shop'), 'at', ('bought', Label('paid', rename='price')))
CLICKS = FeatureView(
    'clicks', 'clicks', ('user',), 'ts', ('page', Feature('seconds', rename='stay'), 'mobile', 'shown'),
    ttl=240 * MINUTE, prefix='c_',
)  # fmt: skip
MOODS = FeatureView(
    'moods', 'moods', ('user',), 'ts', ('good', 'bad'), layout='long', feature_name_column='feature',
    value_column='value',
)  # fmt: skip
SHOPS = FeatureView('shops', 'shops', ('shop',), None, ('city', 'tags'))
HISTORY = 3
SEQUENCES = ['c_page', 'c_stay', 'c_mobile', 'c_shown', 'good', 'bad']


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    """Fills the tables; a value is written at its own time, or some hours after."""
    rng = random.Random(11)
    for table in (
        'buys (day date, at timestamp, n int, user text, shop int, bought boolean, paid double, '
        'PRIMARY KEY ((day), at, n))',
        'clicks (user text, ts timestamp, page text, seconds double, mobile boolean, shown timestamp, '
        'PRIMARY KEY ((user), ts))',
        'moods (user text, feature text, ts timestamp, n int, value int, PRIMARY KEY ((user, feature), ts, n))',
        'shops (shop int PRIMARY KEY, city text, tags set<text>)',
    ):
        session.execute(f'CREATE TABLE {connection.keyspace}.{table}')

    def insert(table: str, written: datetime.datetime, **row: object) -> None:
        columns, marks = ', '.join(row), ', '.join('?' * len(row))
        cql = f'INSERT INTO {connection.keyspace}.{table} ({columns}) VALUES ({marks}) USING TIMESTAMP {us(written)}'
        session.execute(session.prepare(cql), list(row.values()))

    for n in range(120):
        at = START + rng.randrange(24 * 60) * MINUTE
        row = {'bought': rng.random() < 0.5, 'paid': 1.5} if n % 3 else {}
        user = rng.choice([*USERS, 'hot', 'hot', 'nobody'])
        insert('buys', at, day=at.date(), at=at, n=n, user=user, shop=rng.randrange(3), **row)
    for user in USERS:
        for _ in range(150 if user == 'hot' else 40):
            ts = START + rng.randrange(-180, 24 * 60) * MINUTE
            row = {'page': rng.choice('xyz'), 'seconds': rng.random(), 'mobile': rng.random() < 0.5, 'shown': ts}
            del row[rng.choice(sorted(row))]
            insert('clicks', ts + rng.choice([0, 0, 0, 200]) * MINUTE, user=user, ts=ts, **row)
            ts = START + rng.randrange(-3, 24) * 60 * MINUTE  # many of one time
            feature = rng.choice(['good', 'bad', 'else'])
            written = ts + rng.choice([0, 1, 200]) * MINUTE
            insert('moods', written, user=user, feature=feature, ts=ts, n=rng.randrange(3), value=rng.randrange(9))
    for shop in range(2):
        insert('shops', START, shop=shop, city=f'city {shop}', tags={'a', f'b{shop}'})
    return connection


def us(moment: datetime.datetime) -> int:
    return (moment.replace(tzinfo=UTC) - EPOCH) // datetime.timedelta(microseconds=1)


def component(connection: CassandraConnection, **settings: object) -> CassandraExampleGen:
    given = {'views': [CLICKS, MOODS, SHOPS], 'labels': BUYS, 'window': WINDOW, 'history': HISTORY, **settings}
    return CassandraExampleGen(connection, **given)


def run(generate: CassandraExampleGen, folder: Path) -> types.Artifact:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    outputs = {'examples': [artifact]}
    if 'schema' in generate.outputs:
        schema = standard_artifacts.Schema()
        schema.uri = str(folder / 'schema')
        (folder / 'schema').mkdir()
        outputs['schema'] = [schema]
    executor.Executor().Do({}, outputs, dict(generate.exec_properties))
    return artifact


def records(folder: Path, split: str = '*') -> list[bytes]:
    files = sorted(map(str, folder.glob(f'Split-{split}/data_tfrecord-*.gz')))
    return sorted(tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator())


def values(feature: tf.train.Feature) -> list:
    return list(getattr(feature, feature.WhichOneof('kind')).value)


def plain(record: bytes) -> dict[str, list]:
    """Returns a tf.SequenceExample as its features by name, a step's one value for each step."""
    example = tf.train.SequenceExample.FromString(record)
    context = {name: values(feature) for name, feature in example.context.feature.items()}
    lists = example.feature_lists.feature_list
    return context | {name: [values(step)[0] for step in lists[name].feature] for name in lists}


def last(cells: list[tuple], now: datetime.datetime, ttl: datetime.timedelta | None, cut_off: bool) -> list:
    """The oracle: (event, written us, value) -> the last values known at a time, each of another event."""
    at_event: dict = {}
    for event, written, value in sorted((c for c in cells if c[2] is not None), key=lambda c: (c[1], str(c[2]))):
        moment = event.replace(tzinfo=UTC)
        if moment <= now and (ttl is None or moment > now - ttl) and (not cut_off or written <= us(now)):
            at_event[moment] = value
    return [at_event[moment] for moment in sorted(at_event)][-HISTORY:]


def expected(session: Session, keyspace: str, cut_off: bool) -> list[dict]:
    cells = ', '.join(f'{c}, writetime({c}) AS {c}_at' for c in ('page', 'seconds', 'mobile', 'shown'))
    clicks = list(session.execute(f'SELECT user, ts, {cells} FROM {keyspace}.clicks'))
    moods = list(session.execute(f'SELECT user, feature, ts, value, writetime(value) AS at FROM {keyspace}.moods'))
    shops = {row.shop: row for row in session.execute(f'SELECT * FROM {keyspace}.shops')}
    made = []
    for row in session.execute(f'SELECT * FROM {keyspace}.buys'):
        now = row.at.replace(tzinfo=UTC)
        one: dict = {'user': [row.user.encode()], 'shop': [row.shop], 'at': [us(now) // 1000]}
        if row.bought is not None:
            one |= {'bought': [int(row.bought)], 'price': [row.paid]}
        for column, name in (('page', 'c_page'), ('seconds', 'c_stay'), ('mobile', 'c_mobile'), ('shown', 'c_shown')):
            of_user = [(c.ts, getattr(c, f'{column}_at'), getattr(c, column)) for c in clicks if c.user == row.user]
            one[name] = last(of_user, now, CLICKS.ttl, cut_off)
        one['c_page'] = [page.encode() for page in one['c_page']]
        one['c_stay'] = [tf.constant(stay, tf.float32).numpy().item() for stay in one['c_stay']]
        one['c_mobile'] = list(map(int, one['c_mobile']))
        one['c_shown'] = [us(shown) // 1000 for shown in one['c_shown']]
        for name in ('good', 'bad'):
            of_user = [(m.ts, m.at, m.value) for m in moods if (m.user, m.feature) == (row.user, name)]
            one[name] = last(of_user, now, None, cut_off)
        if row.shop in shops:
            one |= {'city': [shops[row.shop].city.encode()], 'tags': [tag.encode() for tag in shops[row.shop].tags]}
        made.append(one)
    return made


@pytest.mark.parametrize('cut_off', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_each_event_has_the_last_values_known(
    filled: CassandraConnection, session: Session, tmp_path: Path, cut_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = run(component(filled, availability_cut_off=cut_off), tmp_path / 'whole')
    formats = example_gen_pb2.PayloadFormat
    assert examples_utils.get_payload_format(artifact) == formats.FORMAT_TF_SEQUENCE_EXAMPLE
    made = records(tmp_path / 'whole')
    got, wanted = [plain(record) for record in made], expected(session, filled.keyspace, cut_off)
    assert len(got) == 120
    as_text = [sorted(repr(sorted(one.items())) for one in some) for some in (got, wanted)]
    assert as_text[0] == as_text[1]
    assert {0, 1, HISTORY} <= {len(one['c_page']) for one in got}
    # The hot entity alone has more rows than a shard, so it is cut by time.
    monkeypatch.setattr(shards, 'SHARD_ROWS', 40)
    monkeypatch.setattr(training_set, '_MIN_SHARD_ROWS', 40)
    run(component(filled, availability_cut_off=cut_off), tmp_path / 'cut')
    assert records(tmp_path / 'cut') == made


@pytest.mark.slow
def test_splits_are_those_of_tfx(filled: CassandraConnection, tmp_path: Path) -> None:
    output = example_gen_pb2.Output()
    output.split_config.partition_feature_name = 'user'
    for name, buckets in (('train', 2), ('eval', 1)):
        output.split_config.splits.add(name=name, hash_buckets=buckets)
    for folder, config in (('whole', None), ('user', output)):
        run(component(filled, output_config=config), tmp_path / folder)
        rule = config.split_config if config else example_gen_pb2.SplitConfig()
        for number, name in enumerate(('train', 'eval')):
            found = records(tmp_path / folder, name)
            assert found
            for record in found:
                example = tf.train.SequenceExample.FromString(record)
                assert base_example_gen_executor._PartitionFn(example, 2, [2, 3], rule) == number
    noon = START + 720 * MINUTE
    run(component(filled, split=TimeSplits((('train', 1), ('eval', 1)), 'at')), tmp_path / 'time')
    for name, is_train in (('train', True), ('eval', False)):
        times = [plain(record)['at'][0] * 1000 for record in records(tmp_path / 'time', name)]
        assert times
        assert all((time < us(noon)) == is_train for time in times)


def test_tfx_reads_them_as_sequences(filled: CassandraConnection, tmp_path: Path) -> None:
    artifact = run(component(filled, emit_schema=True), tmp_path)
    steps = sum(len(plain(record)['c_page']) for record in records(tmp_path, 'train'))
    reader = tfxio_utils.get_split_tfxio([artifact], 'train', ['test'])

    def check(batches: list[pa.RecordBatch]) -> None:
        lists = [batch.column(batch.schema.get_field_index('##SEQUENCE##')) for batch in batches]
        assert {field.name for each in lists for field in each.type} == set(SEQUENCES)
        assert sum(len(each.field('c_page').flatten()) for each in lists) == steps > 0
        names = {name for batch in batches for name in batch.schema.names}
        assert {'user', 'city', 'tags', 'bought'} <= names

    schema = io_utils.SchemaReader().read(str(tmp_path / 'schema' / 'schema.pbtxt'))
    as_tensors = tfxio_utils.get_tf_dataset_factory_from_artifact([artifact], ['test'])  # what a Trainer's accessor is
    options = dataset_options.TensorFlowDatasetOptions(batch_size=16, num_epochs=1)
    got = []
    for batch in as_tensors([str(tmp_path / 'Split-train' / '*')], options, schema):
        assert {*SEQUENCES, 'user', 'at', 'city', 'price'} <= set(batch)
        got += [[step[0] for step in steps] for steps in batch['c_stay'].to_list()]
    assert sorted(got) == sorted(plain(record)['c_stay'] for record in records(tmp_path, 'train'))
    with beam.Pipeline() as reading:
        assert_that(reading | reader.BeamSource() | beam.combiners.ToList() | beam.Map(check), lambda done: None)


def stock_run(generate: CassandraExampleGen, folder: Path) -> dict[str, anomalies_pb2.Anomalies]:
    """Runs ExampleGen -> StatisticsGen -> ExampleValidator; returns the anomalies of each split."""
    statistics = StatisticsGen(generate.outputs['examples'])
    validator = ExampleValidator(statistics.outputs['statistics'], generate.outputs['schema'])
    dag = pipeline.Pipeline(
        'formats', str(folder), components=[generate, statistics, validator],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(folder / 'metadata.sqlite')),
    )  # fmt: skip
    LocalDagRunner().run(dag)
    found = folder.glob('ExampleValidator/anomalies/*/Split-*/SchemaDiff.pb')
    return {path.parent.name: anomalies_pb2.Anomalies.FromString(path.read_bytes()) for path in found}


@pytest.mark.parametrize(
    ('settings', 'sequence'),
    [
        ({}, True),
        pytest.param({'history': None, 'views': [CLICKS, MOODS, SHOPS]}, False, marks=pytest.mark.slow),
        ({'history': None, 'labels': None, 'views': FeatureView('shows', 'clicks', ('user',), 'ts', CLICKS.features)},
         False),
    ],
)  # fmt: skip
def test_example_validator_accepts_the_schema(
    filled: CassandraConnection, tmp_path: Path, settings: dict, sequence: bool
) -> None:
    anomalies = stock_run(component(filled, emit_schema=True, **settings), tmp_path)
    assert sorted(anomalies) == ['Split-eval', 'Split-train']
    assert [list(found.anomaly_info) for found in anomalies.values()] == [[], []]
    (path,) = tmp_path.glob('CassandraExampleGen/schema/*/schema.pbtxt')
    schema = io_utils.SchemaReader().read(str(path))
    by_name = {feature.name: feature for feature in schema.feature}
    assert by_name['user'].presence.min_fraction == 1
    assert ('##SEQUENCE##' in by_name) == sequence
    # The statistics of the same examples do not fit another schema, so they were looked at.
    lists = by_name['##SEQUENCE##'].struct_domain.feature if sequence else schema.feature
    next(feature for feature in lists if feature.name.endswith('page')).type = schema_pb2.INT
    (path,) = tmp_path.glob('StatisticsGen/statistics/*/Split-train/FeatureStats.pb')
    assert len(tfdv.validate_statistics(tfdv.load_stats_binary(str(path)), schema).anomaly_info) == 1
    if sequence:
        assert [f.name for f in by_name['##SEQUENCE##'].struct_domain.feature] == sorted(SEQUENCES)


def test_a_feature_of_several_values_is_no_step(filled: CassandraConnection, tmp_path: Path) -> None:
    view = FeatureView('clicks', 'shops_over_time', ('user',), 'ts', ('tags',))
    from tfx_cassandra.components.driver import connection as connections

    with connections.session(filled) as session:
        session.execute(
            f'CREATE TABLE {filled.keyspace}.shops_over_time (user text, ts timestamp, tags set<text>, '
            'PRIMARY KEY (user, ts))'
        )
    with pytest.raises(SchemaError, match=r"view clicks: got 'tags' of type set<text>, rule: a scalar with history"):
        run(component(filled, views=[view]), tmp_path)
