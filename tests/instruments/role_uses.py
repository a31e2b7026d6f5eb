"""What a role may want to do, by the heading that docs/security.md has for it; each raises where it may not."""

from __future__ import annotations

import datetime
import io
import json
import pathlib
import uuid
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import apache_beam as beam
import tensorflow as tf
from apache_beam.testing.test_pipeline import TestPipeline
from scans import read_rows
from tfx.types import standard_artifacts

from tfx_cassandra.components import (
    Arm,
    CassandraExampleGen,
    FeatureStore,
    FeatureView,
    InferenceLogger,
    LabelSource,
    Metric,
    ModelRegistry,
    TimeWindow,
    WriteToCassandra,
)
from tfx_cassandra.components.ab_evaluator.component import ABEvaluator
from tfx_cassandra.components.ab_evaluator.executor import Executor as AbExecutor
from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.example_gen.executor import Executor
from tfx_cassandra.components.lookup.retrieve import RetrieveFeatures
from tfx_cassandra.components.registry.registry import ModelVersion

Use = Callable[[CassandraConnection, pathlib.Path], object]

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.timezone.utc)
WINDOW = TimeWindow(NOON - datetime.timedelta(hours=12), NOON + datetime.timedelta(hours=12))
WEATHER = FeatureView(
    'weather', 'feature_store', ('model_id',), 'timestamp', ('temp',), layout='long',
    feature_name_column='feature_name', value_column='value',
)  # fmt: skip
TRIPS = LabelSource('trips', ('model_id',), 'left', ('late',))
TABLE = (
    'CREATE TABLE IF NOT EXISTS {keyspace}.trips '
    '(model_id text, left timestamp, late boolean, PRIMARY KEY (model_id, left))'
)


def filled(connection: CassandraConnection) -> None:
    """Writes features, events and a version, as a user who may."""
    with FeatureStore(connection) as store:
        store.write_feature('JFK', 'temp', 1.5, NOON)
    with TestPipeline() as pipeline:
        rows = [{'model_id': 'JFK', 'left': NOON, 'late': True}]
        _ = pipeline | beam.Create(rows) | WriteToCassandra(connection, 'trips')
    with ModelRegistry(connection) as registry:
        registry.record(ModelVersion('e', 'm', '1', NOON, {'auc': 0.7}))
        registry.record(ModelVersion('e', 'm', '2', NOON + datetime.timedelta(hours=1), {'auc': 0.8}))
    log_requests(connection)


def log_requests(connection: CassandraConnection, _: pathlib.Path | None = None) -> None:
    with InferenceLogger(connection, 'e') as log:
        for i in range(100):
            request = log.log('m', 0.5, version=str(1 + i % 2), request_id=uuid.UUID(int=i), timestamp=NOON)
            log.log_outcome('m', request, 'late', float(i % 3 == 0), NOON)
        log.flush(30)
        if log.counts.failed:
            raise RuntimeError(log.counts)


def command(*arguments: object) -> None:
    """Runs a command; raises RuntimeError with what it says if it fails."""
    errors = io.StringIO()
    with redirect_stderr(errors), redirect_stdout(io.StringIO()):
        code = cli.main([str(argument) for argument in arguments])
    if code:
        raise RuntimeError(errors.getvalue().strip().splitlines()[-1])


def scan_feature_store(connection: CassandraConnection, _: pathlib.Path) -> None:
    if not read_rows(connection, 'feature_store'):
        raise RuntimeError('no rows')


def example_gen(connection: CassandraConnection, folder: pathlib.Path) -> None:
    component = CassandraExampleGen(connection, WEATHER, TRIPS, window=WINDOW)
    artifact = standard_artifacts.Examples()
    artifact.uri = str(folder / uuid.uuid4().hex)
    Executor().Do({}, {'examples': [artifact]}, dict(component.exec_properties))


def write_trips(connection: CassandraConnection, _: pathlib.Path) -> None:
    with TestPipeline() as pipeline:
        rows = [{'model_id': 'LGA', 'left': NOON, 'late': False}]
        _ = pipeline | beam.Create(rows) | WriteToCassandra(connection, 'trips')


def ingest(connection: CassandraConnection, folder: pathlib.Path) -> None:
    file = folder / f'{uuid.uuid4().hex}.jsonl'
    file.write_text(json.dumps({'model_id': 'EWR', 'left': NOON.isoformat(), 'late': True}) + '\n')
    command('ingest', 'trips', file)


def read_features(connection: CassandraConnection, _: pathlib.Path) -> None:
    with FeatureStore(connection) as store:
        if store.get_latest_feature('JFK', 'temp') is None:
            raise RuntimeError('no feature')


def write_features(connection: CassandraConnection, _: pathlib.Path) -> None:
    with FeatureStore(connection) as store:
        store.write_feature('JFK', 'wind', 3.0, NOON)


def retrieve(connection: CassandraConnection, _: pathlib.Path) -> None:
    example = tf.train.Example()
    example.features.feature['model_id'].bytes_list.value.append(b'JFK')
    example.features.feature['asked'].int64_list.value.append(int(NOON.timestamp() * 1000))
    with TestPipeline() as pipeline:
        _ = pipeline | beam.Create([example.SerializeToString()]) | RetrieveFeatures(connection, WEATHER, as_of='asked')


def push(connection: CassandraConnection, _: pathlib.Path) -> None:
    with ModelRegistry(connection) as registry:
        claim = registry.claim('e', 'm', uuid.uuid4().hex)
        registry.record(ModelVersion('e', 'm', str(claim.version), claim.created_at, {'auc': 0.7}))
        registry.promote('e', 'champion', 'm', str(claim.version))


def read_models(connection: CassandraConnection, _: pathlib.Path) -> None:
    with ModelRegistry(connection) as registry:
        registry.list('e')
        registry.aliases('e')


def evaluate(connection: CassandraConnection, folder: pathlib.Path) -> None:
    arms = [Arm(name, 'm', version, 0.5) for name, version in (('control', '1'), ('treatment', '2'))]
    metric = Metric('late', 'outcome:late', 'proportion', margin=0.1)
    component = ABEvaluator(connection, 'e', control=arms[0], treatments=arms[1:], window=WINDOW, metrics=(metric,))
    artifact = AbVerdict()
    artifact.uri = str(folder / uuid.uuid4().hex)
    AbExecutor().Do({}, {'verdict': [artifact]}, dict(component.exec_properties))


def apply_schema(connection: CassandraConnection, _: pathlib.Path) -> None:
    keyspace = f'made_{uuid.uuid4().hex}'
    command('schema', 'apply', '--replication', 'simple:1', '--keyspace', keyspace)


USES: dict[str, Use] = {
    'Scan a table': scan_feature_store,
    'Training sets': example_gen,
    'Write rows': write_trips,
    'Ingest files': ingest,
    'Serve features': read_features,
    'Write features': write_features,
    'Retrieve features': retrieve,
    'Push models': push,
    'Look at models': read_models,
    'Log inferences': log_requests,
    'Evaluate A/B tests': evaluate,
    'Apply the schema': apply_schema,
    'Check the schema': lambda *_: command('schema', 'check'),
}
