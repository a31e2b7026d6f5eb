"""Every lane gives the same examples, fingerprints, splits and versions from one fixed table.

The values below were made by lane A. A lane, or a change, that gives another one is a failure: a cached artifact, a
version claimed under a digest or a split somebody trains on would no longer be found again.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from cassandra.cluster import Session
from exec_properties import stored
from tensorflow_model_analysis.metrics.metric_types import MetricKey
from tensorflow_model_analysis.writers.metrics_plots_and_validations_writer import convert_slice_metrics_to_proto
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.proto import pusher_pb2
from tfx.types import Artifact, channel_utils, standard_artifacts

from tfx_cassandra.components import (
    CassandraConnection,
    CassandraExampleGen,
    CassandraFeatureRetrieval,
    EntitySplits,
    FeatureView,
    LabelSource,
    ModelRegistry,
    TimeSplits,
)
from tfx_cassandra.components.dataset.files.decode import records
from tfx_cassandra.components.example_gen import executor as example_gen
from tfx_cassandra.components.feature_retrieval import executor as feature_retrieval
from tfx_cassandra.components.pusher import executor as pusher
from tfx_cassandra.components.pusher.config import to_properties

pytestmark = pytest.mark.integration

UTC = datetime.timezone.utc
START = datetime.datetime(2013, 1, 1, tzinfo=UTC)
WINDOW = '2013-01-01T00:00Z/2013-01-03T00:00Z'
AS_OF = datetime.datetime(2013, 2, 1, tzinfo=UTC)
WRITTEN = int(START.timestamp() * 1_000_000)  # microseconds since 1970
AIRPORTS = ('JFK', 'LGA', 'EWR')

TRIPS = LabelSource('trips', ('airport',), 'left', ('id', 'km', 'stops', 'fare', 'born', 'paid', 'kind', 'late'))
WEATHER = FeatureView(
    'weather', 'weather', ('airport',), 'seen', ('temp', 'sky'), ttl=datetime.timedelta(hours=3), prefix='w_'
)
OPTIONS: dict[str, dict[str, Any]] = {
    'as of a time': {'as_of': AS_OF},
    'as it is now': {},
    'whole entities in a split': {'as_of': AS_OF, 'split': EntitySplits((('train', 3), ('eval', 1)), ('id',))},
    'by time': {'as_of': AS_OF, 'split': TimeSplits((('train', 2), ('eval', 1)), 'left')},
    'sequences': {'as_of': AS_OF, 'history': 3},
}
GOLDEN: dict[str, Any] = {
    'as of a time': {
        'fingerprint': '0d83b283fc33e4505cafa924a69d844d45ee8895bddd0a1b7f4856af87609366',
        'window': '2013-01-01T00:00:00+00:00/2013-01-03T00:00:00+00:00',
        'examples': {'eval': 125, 'train': 275},
        'examples_checksum': 'd8b90faa7e76fc53',
        'Split-eval': '92d0a8654673a31b15c9390144e0639214df76b41d55274cc80f6061525f4a06',
        'Split-train': '7a73d1e367c6e17144d0eb293c25f2424bee1ba47b400a7d9e84bcfb5181719f',
    },
    'as it is now': {
        'fingerprint': 'fd8130c8c17b1e35afe955178c2723f9d37b9e53c2decbcb754bc6c828e6cec4',
        'window': '2013-01-01T00:00:00+00:00/2013-01-03T00:00:00+00:00',
        'examples': {'eval': 125, 'train': 275},
        'examples_checksum': 'd8b90faa7e76fc53',
        'Split-eval': '92d0a8654673a31b15c9390144e0639214df76b41d55274cc80f6061525f4a06',
        'Split-train': '7a73d1e367c6e17144d0eb293c25f2424bee1ba47b400a7d9e84bcfb5181719f',
    },
    'whole entities in a split': {
        'fingerprint': '0d83b283fc33e4505cafa924a69d844d45ee8895bddd0a1b7f4856af87609366',
        'window': '2013-01-01T00:00:00+00:00/2013-01-03T00:00:00+00:00',
        'examples': {'eval': 96, 'train': 304},
        'examples_checksum': 'd8b90faa7e76fc53',
        'Split-eval': 'e5241e4a852b1dc194aad22f4c115bd0acd205a8fc66877d784a8af87bb9fdb7',
        'Split-train': '3123a4a1dd69265fdd548db453d13f0430a897239325f18f12319185151ad8c4',
    },
    'by time': {
        'fingerprint': '0d83b283fc33e4505cafa924a69d844d45ee8895bddd0a1b7f4856af87609366',
        'window': '2013-01-01T00:00:00+00:00/2013-01-03T00:00:00+00:00',
        'examples': {'eval': 112, 'train': 288},
        'examples_checksum': 'd8b90faa7e76fc53',
        'Split-eval': '612afdebb4a8727dfa575e1c3394ea6dffdb48b143516cae8921d1ef80058186',
        'Split-train': 'db67172d81395e2a50d01bc05349f5bb132f1f27310063f4f54b32be5a490457',
    },
    'sequences': {
        'fingerprint': '83b65c694f652efedc095d2f785804bb7969ef4ecbbfa4def19750a07273c003',
        'window': '2013-01-01T00:00:00+00:00/2013-01-03T00:00:00+00:00',
        'examples': {'eval': 139, 'train': 261},
        'examples_checksum': '53aad46c0a835abd',
        'Split-eval': '37df749e11cf1e2a42f5b5654bee705de6a3ab33ca6f05eb4decfdae7bdaba5c',
        'Split-train': 'd8bc738f8bbc721042599ecdcee16a39d6055e01b37f91cd2c5fd8d1e5423856',
    },
    'retrieved': {
        'Split-eval': '8261d0746d95f17c9c91315f3468f058fb3353a9fb0c2378c21284ff50c85736',
        'Split-train': '1f632c4cba60116d6dd2f98d28704d114969a0891735c7836157f440c85a9d3a',
    },
    'version': {
        'key': ('lanes', 'fixed'),
        'metrics': {'auc': 0.7564102564102564, 'example_count': 5.0, 'loss': 1e-07},
        'group': 'B',
        'digest': '35888792985797a926e7356b2993d2c9d4b01327809ae4b34d064eaca3f82655',
        'examples': ('f00d', '2013-01-01T00:00Z/2013-01-03T00:00Z'),
        'run': 'run-1',
        'gates': (),
        'verdict': None,
    },
}


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    keyspace = connection.keyspace
    session.execute(
        f'CREATE TABLE {keyspace}.trips (airport text, left timestamp, id bigint, km double, stops set<text>,'
        ' fare decimal, born date, paid boolean, kind uuid, late int, PRIMARY KEY (airport, left, id))'
    )
    session.execute(
        f'CREATE TABLE {keyspace}.weather (airport text, seen timestamp, temp float, sky text,'
        ' PRIMARY KEY (airport, seen))'
    )
    for hour in range(48):
        for airport in AIRPORTS:
            if hour % 7 != 5:
                sky = ('clear', 'cloudy', None)[hour % 3]
                _insert(session, keyspace, 'weather', hour, airport=airport, seen=_at(hour), temp=hour / 3, sky=sky)
    for i in range(400):
        _insert(
            session, keyspace, 'trips', i, airport=AIRPORTS[i % 3], left=_at(i / 9), id=i % 50, km=i / 7,
            stops={'a', f'b{i % 4}'} if i % 2 else None, fare=f'{i}.25', born=f'19{i % 90 + 10}-02-03',
            paid=i % 5 == 0, kind=f'0011aabb-ccdd-4eff-8011-{i:012d}', late=i % 2,
        )  # fmt: skip
    return connection


def _at(hours: float) -> datetime.datetime:
    return START + datetime.timedelta(minutes=round(60 * hours))


def _insert(session: Session, keyspace: str, table: str, number: int, **values: Any) -> None:
    """Writes a row as of a fixed time; texts are cast by the server's JSON insert."""
    plain = {name: sorted(v) if isinstance(v, set) else v for name, v in values.items()}
    plain |= {name: f'{v:%Y-%m-%d %H:%M:%S.000Z}' for name, v in values.items() if isinstance(v, datetime.datetime)}
    session.execute(f'INSERT INTO {keyspace}.{table} JSON %s USING TIMESTAMP %s', (json.dumps(plain), WRITTEN + number))


def _artifact(kind: type[Artifact], uri: Path, **properties: Any) -> Artifact:
    made = kind()
    made.uri = str(uri)
    for name, value in properties.items():
        made.set_string_custom_property(name, value)
    return made


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 over the records of each split, whatever files they stand in and in which order."""
    found = {}
    for split in sorted(folder.glob('Split-*')):
        batches = [batch for path in split.glob('*.gz') for batch in records(str(path))]
        digests = [hashlib.sha256(record).digest() for record in sorted(itertools.chain.from_iterable(batches))]
        found[split.name] = hashlib.sha256(b''.join(digests)).hexdigest()
    return found


@pytest.mark.parametrize('options', OPTIONS)
def test_examples(options: str, filled: CassandraConnection, tmp_path: Path) -> None:
    artifact = _examples(options, filled, tmp_path)
    coverage = json.loads((tmp_path / 'coverage.json').read_text())
    assert {
        'fingerprint': artifact.get_string_custom_property('fingerprint'),
        'window': artifact.get_string_custom_property('window'),
        'examples': coverage['examples'],
        'examples_checksum': coverage['examples_checksum'],
        **_digests(tmp_path),
    } == GOLDEN[options]


def test_retrieved_features(filled: CassandraConnection, tmp_path: Path) -> None:
    source = _examples('as of a time', filled, tmp_path / 'source')
    view = dataclasses.replace(WEATHER, prefix='r_')
    component = CassandraFeatureRetrieval(channel_utils.as_channel([source]), filled, [view], as_of='left')
    found = _artifact(standard_artifacts.Examples, tmp_path / 'found')
    given = {feature_retrieval.SOURCE_KEY: [source]}
    feature_retrieval.Executor().Do(given, {'examples': [found]}, dict(component.exec_properties))
    assert _digests(tmp_path / 'found') == GOLDEN['retrieved']


def _examples(options: str, filled: CassandraConnection, folder: Path) -> Artifact:
    component = CassandraExampleGen(filled, [WEATHER], labels=TRIPS, window=WINDOW, **OPTIONS[options])
    artifact = _artifact(standard_artifacts.Examples, folder)
    example_gen.Executor().Do({}, {'examples': [artifact]}, dict(component.exec_properties))
    return artifact


def test_version(filled: CassandraConnection, tmp_path: Path) -> None:
    served = tmp_path / 'model' / 'Format-Serving'
    (served / 'variables').mkdir(parents=True)
    (served / 'saved_model.pb').write_bytes(b'a graph')
    (served / 'variables' / 'variables.index').write_bytes(bytes(1000))
    filesystem = pusher_pb2.PushDestination.Filesystem(base_directory=str(tmp_path / 'serving'))
    config = to_properties(filled, 1000, experiment_id='lanes', model_id='fixed', ab_test_group='B', alias='champion')
    properties = stored({**config, 'push_destination': pusher_pb2.PushDestination(filesystem=filesystem)})
    examples = _artifact(standard_artifacts.Examples, tmp_path, fingerprint='f00d', window=WINDOW)
    given = {
        'model': [_artifact(standard_artifacts.Model, tmp_path / 'model')],
        'evaluation': [_evaluation(tmp_path / 'evaluation')],
        'examples': [examples],
    }
    run = pusher.Executor(BaseExecutor.Context(pipeline_run_id='run-1', unique_id='7'))
    run.Do(given, {'pushed_model': [_artifact(standard_artifacts.PushedModel, tmp_path / 'pushed')]}, properties)
    with ModelRegistry(filled) as registry:
        (row,) = registry.list('lanes')
    assert {
        'key': (row.experiment_id, row.model_id),
        'metrics': row.metrics,
        'group': row.ab_test_group,
        'digest': row.digest,
        'examples': (row.examples_fingerprint, row.examples_window),
        'run': row.pipeline_run,
        'gates': row.gates,
        'verdict': row.verdict,
    } == GOLDEN['version']
    assert row.model_uri == str(tmp_path / 'serving' / row.version)


def _evaluation(folder: Path) -> Artifact:
    """Metrics as this lane's Evaluator writes them."""
    folder.mkdir()
    metrics = {MetricKey('auc'): 0.7564102564102564, MetricKey('example_count'): 5.0, MetricKey('loss'): 1e-7}
    with tf.io.TFRecordWriter(str(folder / 'metrics-00000-of-00001.tfrecord')) as writer:
        writer.write(convert_slice_metrics_to_proto(((), metrics), None).SerializeToString())
    config = {'version': tfma.VERSION_STRING, 'evalConfig': {'modelSpecs': [{}]}}
    (folder / 'eval_config.json').write_text(json.dumps(config))
    return _artifact(standard_artifacts.ModelEvaluation, folder)
