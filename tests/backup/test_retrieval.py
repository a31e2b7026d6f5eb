"""CassandraFeatureRetrieval from a backup: each example gets the features that lookups by key on the cluster find."""

from __future__ import annotations

import dataclasses
import datetime
import json
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from cassandra.cluster import Session
from snapshots import snapshots_of
from tfx import types
from tfx.types import channel_utils, standard_artifacts

from tfx_cassandra.components import CassandraBackup, CassandraConnection, CassandraFeatureRetrieval, FeatureView
from tfx_cassandra.components.backup.opening import open_table
from tfx_cassandra.components.dataset.spec.view import Feature
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.feature_retrieval import executor

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2013, 1, 1, tzinfo=UTC)
HOUR = datetime.timedelta(hours=1)
SHOPS = [uuid.UUID(int=i) for i in range(3)]
VISITS = FeatureView(
    'visits', 'visits', ('shop', 'customer'), 'at', ('spent', 'items', Feature('tags', default=('none',)), "m['a']"),
    prefix='v_',
)  # fmt: skip
WEATHER = FeatureView(
    'weather', 'feature_store', ('model_id',), 'timestamp', ('temp', 'wind', 'never'), layout='long',
    feature_name_column='feature_name', value_column='value', ttl=5 * HOUR,
)  # fmt: skip
SHOP = FeatureView('shops', 'shops', ('shop',), None, ('split', 'example'))
FRESH = FeatureView('fresh', 'visits', ('shop', 'customer'), 'at', ('items',), prefix='f_', ttl=36 * HOUR)
# For each type of entities what an example has of it, and CQL.
KINDS: dict[str, tuple[bytes | int, str]] = {
    'ascii': (b'a', "'a'"), 'text': (b'b', "'b'"), 'uuid': (str(SHOPS[2]).encode(), str(SHOPS[2])),
    'timeuuid': (b'00000000-0000-1000-8000-000000000001', '00000000-0000-1000-8000-000000000001'),
    'tinyint': (-5, '-5'), 'smallint': (300, '300'), 'int': (7, '7'), 'bigint': (2**40, str(2**40)),
    'varint': (2**50, str(2**50)), 'timestamp': (1_356_998_400_000, '1356998400000'), 'blob': (b'\x00\xff', '0x00ff'),
    'inet': (b'::1', "'::1'"), 'boolean': (1, 'true'), 'date': (15_000, "'2011-01-26'"),
    'time': (5_000_000_000, "'00:00:05'"),
}  # fmt: skip


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session, cassandra_5: None) -> CassandraConnection:
    chance, keyspace = random.Random(5), connection.keyspace
    connection = dataclasses.replace(connection, connect_timeout=60.0)
    session.set_keyspace(keyspace)
    session.execute(
        'CREATE TABLE visits (shop uuid, customer int, at timestamp, spent double, items int, tags frozen<list<text>>, '
        'm map<text, int>, PRIMARY KEY ((shop, customer), at))'
    )
    session.execute('CREATE TABLE shops (shop uuid PRIMARY KEY, split int, example text)')
    columns = 'shop, customer, at, spent, items, tags, m'
    insert = session.prepare(f'INSERT INTO visits ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)')
    named = session.prepare('INSERT INTO feature_store (model_id, feature_name, timestamp, value) VALUES (?, ?, ?, ?)')
    for stage in range(2):
        for number, shop in enumerate(SHOPS):
            session.execute(f"INSERT INTO shops (shop, split, example) VALUES ({shop}, {number + stage}, 'e{number}')")
            for customer in range(4):
                for h in range(stage, 48, 3 + stage):
                    tags = chance.choice([None, ['t', f'{h}']])
                    some = (
                        chance.choice([None, h / 4]),
                        chance.choice([None, None, h]),
                        tags,
                        {'a': h} if h % 2 else None,
                    )
                    session.execute(insert, (shop, customer, START + h * HOUR, *some))
        for airport in ('JFK', 'LGA'):
            for feature in ('temp', 'wind'):
                for h in range(stage, 48, 7):
                    session.execute(named, (airport, feature, START + h * HOUR, h + stage / 4))
        snapshots_of(connection).run('flush', keyspace)
    session.execute(f"DELETE FROM visits WHERE shop = {SHOPS[1]} AND customer = 2 AND at > '2013-01-01T20:00Z'")
    session.execute(f"INSERT INTO visits (shop, customer, at, items) VALUES ({SHOPS[0]}, 1, '2090-01-01T00:00Z', 99)")
    columns = ', '.join(f'e_{kind} {kind}' for kind in KINDS)
    session.execute(f'CREATE TABLE kinds ({columns}, v int, PRIMARY KEY (({", ".join(map(_column, KINDS))})))')
    values = ', '.join(literal for _, literal in KINDS.values())
    session.execute(f'INSERT INTO kinds ({", ".join(map(_column, KINDS))}, v) VALUES ({values}, 1)')
    return connection


def _column(kind: str) -> str:
    return f'e_{kind}'


@pytest.fixture(scope='module')
def backup(filled: CassandraConnection) -> Iterator[CassandraBackup]:
    snapshots = snapshots_of(filled)
    folder = snapshots.take(filled.keyspace)['visits']
    yield CassandraBackup(str(folder.parents[3]), folder.name, keyspace=filled.keyspace)
    snapshots.run('clearsnapshot', '--all', '--', filled.keyspace)


def made(count: int, seed: int = 1) -> list[bytes]:
    """Examples that share entities, some without an entity column or a moment, or with one that no key can be."""
    chance, examples = random.Random(seed), []
    for i in range(count):
        example = tf.train.Example()
        feature = example.features.feature
        feature['n'].int64_list.value.append(i)
        feature['note'].bytes_list.value.extend([b'x'] * (i % 3))
        feature['model_id'].bytes_list.value.append(chance.choice([b'JFK', b'LGA', b'EWR']))
        feature['shop'].bytes_list.value.append(str(chance.choice([*SHOPS, uuid.UUID(int=99)])).encode())
        if i % 10:
            feature['customer'].int64_list.value.append(chance.choice([0, 1, 2, 3, 4, 2**40]))
        if i % 13:
            moment = START + chance.randrange(-60, 60 * 50) * HOUR / 60
            feature['asked'].int64_list.value.append(int(moment.timestamp() * 1000))
        examples.append(example.SerializeToString())
    return examples


def written(folder: Path, splits: dict[str, list[bytes]]) -> types.Artifact:
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.split_names = str(folder), json.dumps(list(splits))
    for split, examples in splits.items():
        (folder / f'Split-{split}').mkdir(parents=True)
        with tf.io.TFRecordWriter(str(folder / f'Split-{split}' / 'data_tfrecord-00000-of-00001.gz'), 'GZIP') as writer:
            for example in examples:
                writer.write(example)
    return artifact


def run(
    examples: types.Artifact, folder: Path, views: Any, **options: Any
) -> tuple[types.Artifact, dict[str, list[bytes]], dict[str, dict[str, int]]]:
    """Runs the component; returns its artifact, the examples of each split in a fixed order, and retrieval.json."""
    component = CassandraFeatureRetrieval(channel_utils.as_channel([examples]), views=views, **options)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder)
    inputs = {executor.SOURCE_KEY: [examples]}
    executor.Executor().Do(inputs, {'examples': [artifact]}, dict(component.exec_properties))
    splits = {}
    for split in sorted(folder.glob('Split-*')):
        files = sorted(map(str, split.glob('*.gz')))
        splits[split.name] = sorted(tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator())
    told = json.loads((folder / 'retrieval.json').read_text())
    for numbers in told.values():
        numbers.pop('lookups', None)
    return artifact, splits, told


@pytest.mark.parametrize('as_of', ['latest', 'asked'])
def test_examples_get_the_features_of_lookups(
    filled: CassandraConnection, backup: CassandraBackup, tmp_path: Path, as_of: str
) -> None:
    source = written(tmp_path / 'in', {'train': made(300), 'eval': made(100, seed=2), 'none': []})
    views = [VISITS, WEATHER, SHOP, FRESH]
    _, expected, told = run(source, tmp_path / 'live', views, connection=filled, as_of=as_of)
    stored, found, same = run(source, tmp_path / 'stored', views, source=backup, as_of=as_of)
    assert found == expected
    assert same == told
    assert told['train']['missing never'] == 300 > told['train']['missing v_spent'] > 100
    assert stored.get_string_custom_property('backup_name') == backup.backup
    assert len(stored.get_string_custom_property('backup_digest')) == 64


def test_an_entity_of_each_type(filled: CassandraConnection, backup: CassandraBackup, tmp_path: Path) -> None:
    example = tf.train.Example()
    for kind, (value, _) in KINDS.items():
        feature = example.features.feature[_column(kind)]
        (feature.bytes_list if isinstance(value, bytes) else feature.int64_list).value.append(value)
    view = FeatureView('kinds', 'kinds', tuple(map(_column, KINDS)), None, ('v',))
    source = written(tmp_path / 'in', {'all': [example.SerializeToString()]})
    _, expected, told = run(source, tmp_path / 'live', view, connection=filled)
    assert told['all']['missing v'] == 0
    stored, found, _ = run(source, tmp_path / 'stored', view, source=backup)
    assert found == expected
    assert stored.get_string_custom_property('backup_digest') == open_table(backup, 'kinds').digest


def test_missing_features_can_be_an_error(backup: CassandraBackup, tmp_path: Path) -> None:
    source = written(tmp_path / 'in', {'all': made(20)})
    with pytest.raises(Exception, match=r'feature v_[\w.]+: got none for \d+ of \d+ examples, rule: in each'):
        run(source, tmp_path / 'a', VISITS, source=backup, missing='error', as_of='asked')
    with pytest.raises(Exception, match="as_of: got 'when', rule"):
        run(source, tmp_path / 'b', VISITS, source=backup, as_of='when')


def test_what_is_refused_before_beam(
    filled: CassandraConnection, backup: CassandraBackup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor.Executor, '_make_beam_pipeline', lambda self: pytest.fail('a pipeline was made'))
    source = written(tmp_path / 'in', {'all': made(2)})
    with pytest.raises(SchemaError, match='view visits: got entity shop, time at, rule: the col'):
        run(source, tmp_path / 'a', dataclasses.replace(VISITS, entity_columns=('shop',)), source=backup)
    with pytest.raises(ValueError, match=r'^source: got .*, rule: not together with connection'):
        run(source, tmp_path / 'b', VISITS, source=backup, connection=filled)
    with pytest.raises(ValueError, match=r'^connection: got None, rule: given, unless source is'):
        run(source, tmp_path / 'c', VISITS)
