"""CassandraFeatureRetrieval against a real cluster: each example with the features a plain loop over all rows finds."""

from __future__ import annotations

import dataclasses
import datetime
import json
import random
import uuid
from pathlib import Path

import apache_beam as beam
import pytest
import tensorflow as tf
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.enrichment import Enrichment
from cassandra.cluster import Session
from tfx import types
from tfx.components import ImportExampleGen, StatisticsGen
from tfx.orchestration import metadata, pipeline
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.types import channel_utils, standard_artifacts

from tfx_cassandra.components.dataset.files.tfrecord import Chunk
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import DatasetError, SchemaError
from tfx_cassandra.components.feature_retrieval import executor
from tfx_cassandra.components.feature_retrieval.component import CassandraFeatureRetrieval
from tfx_cassandra.components.feature_store.client import FeatureStore, FeatureValue
from tfx_cassandra.components.lookup.options import RetrievalOptions
from tfx_cassandra.components.lookup.retrieve import (
    CassandraEnrichmentHandler,
    RetrieveFeatures,
    Retriever,
    _records,
)

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2013, 1, 1, tzinfo=UTC)
HOUR = datetime.timedelta(hours=1)
SHOPS = [uuid.UUID(int=i) for i in range(3)]
# Two columns of entity, one of them of a type that an example holds as text; null cells among the rows.
VISITS = FeatureView('visits', 'visits', ('shop', 'customer'), 'at', ('spent', 'items', 'tags'), prefix='v_')
WEATHER = FeatureView(
    'weather', 'feature_store', ('model_id',), 'timestamp', ('temp', 'wind', 'never'), layout='long',
    feature_name_column='feature_name', value_column='value', ttl=5 * HOUR,
)  # fmt: skip
KEYS = {'model_id': 'bytes_list', 'shop': 'bytes_list', 'customer': 'int64_list', 'asked': 'int64_list'}


def ms(moment: datetime.datetime) -> int:
    return int(moment.timestamp() * 1000)


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    chance = random.Random(5)
    session.execute(
        f'CREATE TABLE {connection.keyspace}.visits (shop uuid, customer int, at timestamp, spent double, items int, '
        'tags set<text>, PRIMARY KEY ((shop, customer), at))'
    )
    insert = session.prepare(
        f'INSERT INTO {connection.keyspace}.visits (shop, customer, at, spent, items, tags) VALUES (?, ?, ?, ?, ?, ?)'
    )
    for shop in SHOPS:
        for customer in range(4):
            for h in range(0, 48, 3):
                spent = chance.choice([None, chance.randrange(100) / 4])
                items = chance.choice([None, None, chance.randrange(9)])
                tags = chance.choice([None, {'a', 'b'}, {'c'}])
                session.execute(insert, (shop, customer, START + h * HOUR, spent, items, tags))
    values = [
        FeatureValue(airport, feature, START + h * HOUR, h + len(feature) / 4)
        for airport in ('JFK', 'LGA') for feature in ('temp', 'wind') for h in range(0, 48, 7)
    ]  # fmt: skip
    with FeatureStore(connection) as store:
        assert not [result for result in store.write_features(values) if result.error]
    return connection


def made(count: int = 300, seed: int = 1) -> list[bytes]:
    """Examples that share entities, some without an entity column or a moment; one feature is not ours."""
    chance = random.Random(seed)
    examples = []
    for i in range(count):
        example = tf.train.Example()
        feature = example.features.feature
        feature['n'].int64_list.value.append(i)
        feature['note'].bytes_list.value.extend([b'x'] * (i % 3))
        feature['model_id'].bytes_list.value.append(chance.choice([b'JFK', b'LGA', b'EWR']))
        feature['shop'].bytes_list.value.append(str(chance.choice([*SHOPS, uuid.UUID(int=99)])).encode())
        if i % 10:
            feature['customer'].int64_list.value.append(chance.randrange(5))
        if i % 13:
            feature['asked'].int64_list.value.append(ms(START + chance.randrange(-60, 60 * 50) * HOUR / 60))
        examples.append(example.SerializeToString())
    return examples


def written(folder: Path, splits: dict[str, list[bytes]]) -> types.Artifact:
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    artifact.split_names = json.dumps(list(splits))
    artifact.set_int_custom_property('span', 7)
    for split, examples in splits.items():
        (folder / f'Split-{split}').mkdir(parents=True)
        for shard in range(2):
            path = str(folder / f'Split-{split}' / f'data_tfrecord-{shard:05d}-of-00002.gz')
            with tf.io.TFRecordWriter(path, 'GZIP') as writer:
                for example in examples[shard::2]:
                    writer.write(example)
    return artifact


def plain(record: bytes) -> dict[str, list]:
    features = tf.train.Example.FromString(record).features.feature
    return {name: list(getattr(f, f.WhichOneof('kind')).value) for name, f in features.items() if f.WhichOneof('kind')}


def read(folder: Path, split: str) -> list[bytes]:
    files = sorted(map(str, folder.glob(f'Split-{split}/data_tfrecord-*-of-*.gz')))
    return list(tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator())


def run(
    connection: CassandraConnection, source: types.Artifact, folder: Path, views: object, **options: str
) -> types.Artifact:
    channel = channel_utils.as_channel([source])
    component = CassandraFeatureRetrieval(channel, connection, views, **options)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    executor.Executor().Do({executor.SOURCE_KEY: [source]}, {'examples': [artifact]}, dict(component.exec_properties))
    return artifact


def expected(session: Session, keyspace: str, example: dict[str, list], as_of: str | None) -> dict[str, list]:
    """The example with its features, found by looking at every row of both tables."""
    result = dict(example)
    moment = None if as_of is None else example.get(as_of, [None])[0]
    if as_of is not None and moment is None:
        return result
    if 'customer' in example:
        rows = session.execute(f'SELECT * FROM {keyspace}.visits')
        key = (example['shop'][0].decode(), example['customer'][0])
        mine = sorted((r for r in rows if (str(r.shop), r.customer) == key), key=lambda r: r.at)
        for name in ('spent', 'items', 'tags'):
            known = [
                getattr(r, name) for r in mine
                if getattr(r, name) is not None and (moment is None or ms(r.at.replace(tzinfo=UTC)) <= moment)
            ]  # fmt: skip
            if known:
                value = known[-1]
                result[f'v_{name}'] = sorted(t.encode() for t in value) if name == 'tags' else [value]
    if moment is not None:  # long ago the weather is over, for it has a ttl
        for name in ('temp', 'wind'):
            known = [
                (r.timestamp, r.value) for r in session.execute(f'SELECT * FROM {keyspace}.feature_store')
                if (r.model_id.encode(), r.feature_name) == (example['model_id'][0], name)
                and moment - 5 * 3_600_000 < ms(r.timestamp.replace(tzinfo=UTC)) <= moment
            ]  # fmt: skip
            if known:
                result[name] = [max(known)[1]]
    return result


@pytest.mark.parametrize('as_of', ['latest', 'asked'])
def test_every_example_has_what_a_plain_loop_finds(
    filled: CassandraConnection, session: Session, tmp_path: Path, as_of: str
) -> None:
    splits = {'train': made(60), 'eval': made(30, seed=2), 'none': []}
    source = written(tmp_path / 'in', splits)
    artifact = run(filled, source, tmp_path / 'out', [VISITS, WEATHER], as_of=as_of)
    assert json.loads(artifact.split_names) == ['train', 'eval', 'none']
    assert artifact.get_string_custom_property('payload_format') == 'FORMAT_TF_EXAMPLE'
    assert artifact.get_int_custom_property('span') == 7
    for split, examples in splits.items():
        got = sorted((plain(record) for record in read(tmp_path / 'out', split)), key=lambda one: one['n'])
        moment = None if as_of == 'latest' else as_of
        want = [expected(session, filled.keyspace, plain(example), moment) for example in examples]
        for one, other in zip(got, want, strict=True):
            one.pop('note', None)
            other.pop('note', None)
            if 'v_tags' in one:
                one['v_tags'] = sorted(one['v_tags'])
            assert one == other
        assert list((tmp_path / 'out').glob(f'Split-{split}/data_tfrecord-*'))
    told = json.loads((tmp_path / 'out' / 'retrieval.json').read_text())
    assert told['train']['examples'] == 60
    assert told['train']['missing never'] == 60


def test_equal_keys_are_read_once_and_the_content_does_not_depend_on_order(
    filled: CassandraConnection, tmp_path: Path
) -> None:
    examples = made(200)
    asked: dict[str, int] = {}
    content = []
    for name, some in (('one', examples), ('other', examples[::-1])):
        run(filled, written(tmp_path / name, {'all': some}), tmp_path / f'{name}-out', [VISITS])
        content.append(sorted(read(tmp_path / f'{name}-out', 'all')))
        asked[name] = json.loads((tmp_path / f'{name}-out' / 'retrieval.json').read_text())['all']['lookups']
    assert content[0] == content[1]
    # Two files, so that at most two workers ask for each of 4 shops x 5 customers.
    assert max(asked.values()) <= 2 * 20


def test_missing_features_can_be_an_error_and_names_do_not_clash(filled: CassandraConnection, tmp_path: Path) -> None:
    source = written(tmp_path / 'in', {'all': made(20)})
    with pytest.raises(Exception, match=r'feature v_\w+: got none for \d+ of 10 examples, rule: in each'):
        run(filled, source, tmp_path / 'a', VISITS, missing='error', as_of='asked')
    clashing = dataclasses.replace(VISITS, features=('items',), prefix='')
    again = written(tmp_path / 'again', {'all': made(20)})
    run(filled, again, tmp_path / 'b', clashing)
    enriched = written(tmp_path / 'twice', {'all': read(tmp_path / 'b', 'all')})
    with pytest.raises(Exception, match="view visits: got feature 'items', rule: a name no example has yet"):
        run(filled, enriched, tmp_path / 'c', clashing)


@pytest.mark.parametrize(
    ('view', 'message'),
    [
        (dataclasses.replace(VISITS, entity_columns=('shop',)), 'view visits: got entity shop, time at, rule: the col'),
        (dataclasses.replace(VISITS, table='visitors'), "table: got 'visitors', rule: a table of keyspace"),
        (dataclasses.replace(VISITS, features=('cost',)), "view visits: got 'cost', rule: a column of"),
        (dataclasses.replace(VISITS, timestamp_column='items', features=('spent',)), 'view visits: got entity'),
    ],
)
def test_a_view_that_cannot_be_looked_up_stops_before_beam(
    filled: CassandraConnection, tmp_path: Path, view: FeatureView, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.Executor, '_make_beam_pipeline', lambda self: pytest.fail('a pipeline was made'))
    with pytest.raises(SchemaError) as caught:
        run(filled, written(tmp_path / 'in', {'all': []}), tmp_path / 'out', view)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ('as_of', 'message'), [('when', "as_of: got 'when', rule"), ('shop', "as_of: got 'shop', rule")]
)
def test_a_moment_that_is_none(filled: CassandraConnection, tmp_path: Path, as_of: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        run(filled, written(tmp_path / 'in', {'all': made(4)}), tmp_path / 'out', VISITS, as_of=as_of)


def test_what_no_example_of_a_file_has_is_absent(filled: CassandraConnection, session: Session, tmp_path: Path) -> None:
    bare = [tf.train.Example() for _ in range(3)]
    for i, example in enumerate(bare):
        example.features.feature['n'].int64_list.value.append(i)
    whole = [record for record in made(30) if {'customer', 'asked'} <= plain(record).keys()]
    splits = {'bare': [example.SerializeToString() for example in bare], 'whole': whole}
    run(filled, written(tmp_path / 'in', splits), tmp_path / 'out', VISITS, as_of='asked')
    assert sorted(plain(record)['n'] for record in read(tmp_path / 'out', 'bare')) == [[0], [1], [2]]
    assert {name for record in read(tmp_path / 'out', 'bare') for name in plain(record)} == {'n'}
    told = json.loads((tmp_path / 'out' / 'retrieval.json').read_text())
    assert (told['bare']['missing asked'], told['bare']['missing v_spent']) == (3, 3)
    run(filled, written(tmp_path / 'no', {'bare': splits['bare']}), tmp_path / 'no-out', VISITS)


def test_where_holds_an_id_as_text_or_as_an_id(filled: CassandraConnection, session: Session) -> None:
    examples = [record for record in made(60) if {'customer', 'asked'} <= plain(record).keys()]
    of_shop = [record for record in examples if plain(record)['shop'] == [str(SHOPS[1]).encode()]]
    spent = [expected(session, filled.keyspace, plain(record), 'asked').get('v_spent') for record in of_shop]
    for shop in (SHOPS[1], f'{{{str(SHOPS[1]).upper()}}}'):
        view = dataclasses.replace(VISITS, entity_columns=('customer',), features=('spent',), where={'shop': shop})
        retriever = Retriever(RetrievalOptions(filled, (view,), as_of='asked'), 0)
        retriever.open()
        try:
            framed, _ = retriever.enrich(of_shop)
        finally:
            retriever.close()
        chunk = Chunk('', framed.buffer.to_pybytes(), len(framed), 0)
        assert [plain(record).get('v_spent') for record in _records(chunk)] == spent


def test_it_stands_between_stock_components(filled: CassandraConnection, tmp_path: Path) -> None:
    written(tmp_path / 'in', {'all': made(60)})
    source = ImportExampleGen(input_base=str(tmp_path / 'in' / 'Split-all'))
    retrieval = CassandraFeatureRetrieval(source.outputs['examples'], filled, [VISITS, WEATHER], as_of='asked')
    statistics = StatisticsGen(examples=retrieval.outputs['examples'])
    dag = pipeline.Pipeline(
        'retrieval', str(tmp_path / 'root'), components=[source, retrieval, statistics],
        metadata_connection_config=metadata.sqlite_metadata_connection_config(str(tmp_path / 'mlmd.sqlite')),
    )  # fmt: skip
    LocalDagRunner().run(dag)
    assert len(list((tmp_path / 'root').glob('StatisticsGen/statistics/*/Split-*/FeatureStats.pb'))) == 2


def test_the_beam_transform_and_beam_s_enrichment_agree(filled: CassandraConnection, session: Session) -> None:
    examples = [record for record in made(30) if {'customer', 'asked'} <= plain(record).keys()]
    want = [expected(session, filled.keyspace, plain(record), 'asked') for record in examples]
    spent = sorted((one['n'][0], one.get('v_spent', [None])[0]) for one in want)
    with beam.Pipeline() as enriching:
        enriched = enriching | beam.Create(examples) | RetrieveFeatures(filled, VISITS, as_of='asked') | beam.Map(plain)
        assert_that(
            enriched | beam.Map(lambda one: (one['n'][0], one.get('v_spent', [None])[0])), equal_to(spent), 'transform'
        )
    rows = [
        beam.Row(n=one['n'][0], shop=one['shop'][0].decode(), customer=one['customer'][0], asked=one['asked'][0])
        for one in map(plain, examples)
    ]
    with beam.Pipeline() as enriching:
        found = enriching | beam.Create(rows) | Enrichment(CassandraEnrichmentHandler(filled, VISITS, as_of='asked'))
        assert_that(found | beam.Map(lambda row: (row.n, row.v_spent)), equal_to(spent), 'enrichment')


def test_an_entity_that_is_none(filled: CassandraConnection, tmp_path: Path) -> None:
    example = tf.train.Example()
    example.features.feature['shop'].bytes_list.value.append(b'no uuid')
    example.features.feature['customer'].int64_list.value.append(1)
    with pytest.raises(Exception, match="feature shop: got b'no uuid', rule: a uuid") as caught:
        run(filled, written(tmp_path / 'in', {'all': [example.SerializeToString()]}), tmp_path / 'out', VISITS)
    assert DatasetError.__name__ in str(caught.value) or isinstance(caught.value, DatasetError)
