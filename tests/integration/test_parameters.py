"""RuntimeParameters through TFX's LocalDagRunner: they arrive resolved, and a wrong value is one line."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from cassandra.cluster import Session
from tfx import v1 as tfx
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner

from tfx_cassandra.components import (
    ABEvaluator,
    Arm,
    CassandraConnection,
    CassandraExampleGen,
    CassandraFeatureRetrieval,
    CassandraPusher,
    FeatureView,
    InferenceLogger,
    Metric,
    ModelRegistry,
)
from tfx_cassandra.components.experiment.verdict_file import read_verdict
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import ModelVersion

pytestmark = pytest.mark.integration

Parameter = tfx.dsl.experimental.RuntimeParameter
UTC = datetime.timezone.utc
START = datetime.datetime(2013, 1, 1, tzinfo=UTC)
WINDOW = '2013-01-01T00:00Z/2013-01-02T00:00Z'
VISITS = FeatureView('visits', 'visits', ('shop',), 'at', ('spent',))
RATINGS = FeatureView('ratings', 'ratings', ('shop',), None, ('stars',))


def opened(connection: CassandraConnection) -> CassandraConnection:
    """Returns the connection with its cluster and keyspace as parameters, whose defaults are its own."""
    return CassandraConnection(
        Parameter('contact-points', str, ','.join(connection.contact_points)),  # type: ignore[arg-type]
        connection.port,
        Parameter('data-center', str, connection.local_datacenter),  # type: ignore[arg-type]
        Parameter('keyspace', str, connection.keyspace),  # type: ignore[arg-type]
        request_timeout=60.0,
    )


def run(folder: Path, *components: Any) -> None:
    """Runs components as one pipeline; LocalDagRunner takes the defaults of its parameters."""
    database = metadata.sqlite_metadata_connection_config(str(folder / 'metadata.sqlite'))
    LocalDagRunner().run(
        tfx.dsl.Pipeline(
            'parameters',
            str(folder / 'root'),
            components=list(components),
            metadata_connection_config=database,
            enable_cache=True,
        )
    )


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection, session: Session) -> CassandraConnection:
    session.execute(
        f'CREATE TABLE {connection.keyspace}.visits (shop text, at timestamp, spent double, PRIMARY KEY (shop, at))'
    )
    session.execute(f'CREATE TABLE {connection.keyspace}.ratings (shop text PRIMARY KEY, stars int)')
    visit = session.prepare(f'INSERT INTO {connection.keyspace}.visits (shop, at, spent) VALUES (?, ?, ?)')
    for i in range(96):
        session.execute(visit, (f's{i % 5}', START + datetime.timedelta(minutes=30 * i), i / 4))
    for i in range(5):
        session.execute(f'INSERT INTO {connection.keyspace}.ratings (shop, stars) VALUES (%s, %s)', (f's{i}', i))
    return connection


def coverages(folder: Path) -> list[dict]:
    files = sorted((folder / 'root').glob('CassandraExampleGen/examples/*/coverage.json'))
    return [json.loads(file.read_text()) for file in files]


def test_parameters_arrive_resolved(filled: CassandraConnection, tmp_path: Path) -> None:
    generate = CassandraExampleGen(
        opened(filled), VISITS, window=Parameter('window', str, WINDOW), consistency=Parameter('level', str, 'ONE')
    )
    retrieve = CassandraFeatureRetrieval(
        generate.outputs['examples'], opened(filled), RATINGS, as_of=Parameter('as-of', str, 'latest')
    )
    run(tmp_path, generate, retrieve)
    (coverage,) = coverages(tmp_path)
    assert coverage['window'] == '2013-01-01T00:00:00+00:00/2013-01-02T00:00:00+00:00'
    assert sum(coverage['examples'].values()) == 48
    (numbers,) = (tmp_path / 'root').glob('CassandraFeatureRetrieval/examples/*/retrieval.json')
    told = json.loads(numbers.read_text())
    assert sum(split['examples'] for split in told.values()) == 48
    assert {split['missing stars'] for split in told.values()} == {0}


def test_a_span_is_fixed_by_the_driver_and_part_of_the_cache_s_key(filled: CassandraConnection, tmp_path: Path) -> None:
    def generate(span: str) -> list[int]:
        run(tmp_path, CassandraExampleGen(opened(filled), VISITS, span=Parameter('span', str, span)))
        return coverages(tmp_path)[-1]['spans']

    day = (START - datetime.datetime(1970, 1, 1, tzinfo=UTC)).days
    assert generate('latest') == generate('{"count": 1}') == [day + 1, day + 1]
    assert len(coverages(tmp_path)) == 1
    assert generate(f'{day}') == [day, day]
    assert generate('{"count": 7}') == [day - 5, day + 1]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'window': Parameter('window', str, 'January')}, "window: got 'January', rule: START/END in ISO-8601"),
        ({'span': Parameter('span', str, 'newest')}, "span: got 'newest', rule: a SpanRange, the number of a day"),
        ({'window': WINDOW, 'as_of': Parameter('as-of', str, '2013-01-01')}, 'as_of: got datetime.datetime(2013'),
        ({'window': WINDOW, 'consistency': Parameter('level', str, 'MOST')}, "consistency: got 'MOST', rule: one of"),
    ],
)
def test_a_wrong_value_fails_with_one_line(
    filled: CassandraConnection, tmp_path: Path, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match='rule') as caught:
        run(tmp_path, CassandraExampleGen(opened(filled), VISITS, **changes))
    assert str(caught.value).startswith(message)
    assert '\n' not in str(caught.value)
    assert coverages(tmp_path) == []


def test_a_model_is_pushed_under_the_run_s_names(filled: CassandraConnection, tmp_path: Path) -> None:
    (tmp_path / 'model' / 'Format-Serving').mkdir(parents=True)
    (tmp_path / 'model' / 'Format-Serving' / 'saved_model.pb').write_bytes(b'a model')
    model = tfx.dsl.Importer(str(tmp_path / 'model'), tfx.types.standard_artifacts.Model).with_id('model')
    destination = tfx.proto.PushDestination.Filesystem(base_directory=str(tmp_path / 'serving'))
    push = CassandraPusher(
        model.outputs['result'],
        opened(filled),
        Parameter('experiment', str, 'of this run'),
        Parameter('model', str, 'scale'),
        tfx.proto.PushDestination(filesystem=destination),
        ab_test_group=Parameter('group', str, 'B'),
        alias=Parameter('alias', str, 'champion'),
    )
    run(tmp_path, model, push)
    with ModelRegistry(filled) as registry:
        (version,) = registry.list('of this run')
        assert (version.model_id, version.ab_test_group) == ('scale', 'B')
        move = registry.alias('of this run', 'champion')
        assert move is not None
        assert (move.model_id, move.version) == ('scale', version.version)


def test_arms_get_the_run_s_versions(filled: CassandraConnection, tmp_path: Path) -> None:
    versions = {'control': '1700000000', 'treatment': '1700000001'}
    with InferenceLogger(filled, 'e', 'inference_results') as log, ModelRegistry(filled) as registry:
        for number, version in enumerate(versions.values()):
            registry.record(ModelVersion('e', 'm', version, moment(int(version))))
            for i in range(200):
                when = START + datetime.timedelta(minutes=i)
                log.log('m', (i % 7 + number) / 10, version=version, timestamp=when, features=[{}])
        assert log.flush(60)
    control, treatment = (Arm(arm, 'm', Parameter(arm, str, version), 0.5) for arm, version in versions.items())
    evaluator = ABEvaluator(
        opened(filled),
        Parameter('experiment', str, 'e'),
        control,
        treatment,
        Parameter('window', str, WINDOW),
        Metric('answer', 'prediction'),
        shards=2,
    )
    run(tmp_path, evaluator)
    (folder,) = (tmp_path / 'root').glob('ABEvaluator/verdict/*')
    verdict = read_verdict(str(folder), 'e')
    assert [(arm.version, arm.requests) for arm in verdict.arms] == [(version, 200) for version in versions.values()]
    assert str(verdict.design.window) == '2013-01-01T00:00:00+00:00/2013-01-02T00:00:00+00:00'
