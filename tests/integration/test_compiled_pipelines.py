"""The pipelines that users start from, compiled and run from their files: backfill, continuous training, promotion,
batch prediction."""

from __future__ import annotations

import datetime
import io
import pathlib
from typing import Any

import pytest
import tensorflow as tf
from cassandra.cluster import Session

from tfx_cassandra.components import CassandraConnection, ModelRegistry, TimeWindow
from tfx_cassandra.components.registry.registry import ModelVersion
from tfx_cassandra.pipelines import vertex_local
from tfx_cassandra.pipelines.flight_delay import experiment, ingest

pytest.importorskip('kfp', reason='compiling needs kfp: pip install "tfx-cassandra[kfp]"')

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DAYS = TimeWindow.parse('2013-06-30T00:00Z/2013-07-05T00:00Z')


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection) -> CassandraConnection:
    ingest.apply_schema(connection)
    for load in (ingest.weather(DAYS), ingest.flights(DAYS), ingest.planes()):
        ingest.ingest(connection, load)
    return connection


def compiled(connection: CassandraConnection, state: pathlib.Path, name: str, **fixed: str) -> pathlib.Path:
    from tfx_cassandra.kubeflow import compiler, parametrize
    from tfx_cassandra.kubeflow.settings import Settings

    built, opened = parametrize.built(name, connection, str(state), fixed)
    path = state / f'{name}.yaml'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compiler.compiled(built, opened, 'kfp', Settings('none')))
    return path


def run(job: pathlib.Path, **parameters: Any) -> dict[str, Any]:
    summary = vertex_local.run_job(job, parameters, runs=job.parent / 'runs', stream=io.StringIO())
    assert summary['state'] == 'SUCCEEDED', summary
    return summary


def states(summary: dict[str, Any]) -> dict[str, str]:
    return {name: task['state'] for name, task in summary['tasks'].items()}


def flights(session: Session, connection: CassandraConnection, start: datetime.datetime, days: int) -> int:
    rows = session.execute(f'SELECT scheduled_departure FROM "{connection.keyspace}".flights')
    end = start + datetime.timedelta(days=days)
    return sum(start <= row.scheduled_departure < end for row in rows)


def predicted(session: Session, connection: CassandraConnection) -> dict[tuple[str, datetime.datetime], float]:
    query = f'SELECT * FROM "{connection.keyspace}".feature_store WHERE feature_name = %s ALLOW FILTERING'
    return {(row.model_id, row.timestamp): row.value for row in session.execute(query, ['late_probability'])}


def test_backfill_reads_each_day_and_a_second_run_nothing(
    filled: CassandraConnection, session: Session, tmp_path: pathlib.Path
) -> None:
    job = compiled(filled, tmp_path, 'backfill', first='2013-07-01', last='2013-07-02')
    first = run(job)
    for number, name in enumerate(('day-2013-07-01', 'day-2013-07-02'), 1):
        (examples,) = first['tasks'][name]['outputs']['artifacts']['examples']
        assert examples['metadata']['rows'] == flights(session, filled, datetime.datetime(2013, 7, number), 1)
    assert set(states(run(job)).values()) == {'CACHED'}


def test_continuous_training_promotion_and_prediction(
    filled: CassandraConnection, session: Session, tmp_path: pathlib.Path
) -> None:
    """Trains twice, the second time from the champion; skips seen data; predicts; an A/B verdict moves the alias."""
    name = {'experiment_id': 'continuous', 'model_id': 'delay'}
    job = compiled(filled, tmp_path, 'continuous', train_steps='20', min_auc='0.0')
    day = (datetime.date(2013, 7, 1) - datetime.date(1970, 1, 1)).days
    first = run(job, span=str(day), **name)
    assert set(states(first).values()) == {'SUCCEEDED'}
    with ModelRegistry(filled) as registry:
        champion = registry.alias('continuous', 'champion')
        (version,) = registry.list('continuous')
    assert champion is not None
    assert champion.version == version.version
    assert tf.io.gfile.exists(f'{version.model_uri}/assets.extra/weights.npz')
    again = run(job, span=str(day), **name)
    assert states(again) == {
        name: 'SUCCEEDED' if name in ('CassandraExampleGen', 'ChampionModel') else 'SKIPPED' for name in states(again)
    }
    second = run(job, span=str(day + 1), **name)
    assert set(states(second).values()) == {'SUCCEEDED'}
    (base,) = second['tasks']['ChampionModel']['outputs']['artifacts']['model']
    assert base['metadata']['version'] == version.version
    with ModelRegistry(filled) as registry:
        versions = registry.list('continuous')
        moved = registry.alias('continuous', 'champion')
    assert len(versions) == 2
    assert moved is not None
    assert moved.version == versions[0].version

    window = '2013-07-03T00:00Z/2013-07-04T00:00Z'
    summary = run(compiled(filled, tmp_path, 'predictions'), window=window, experiment_id='continuous')
    (written,) = summary['tasks']['CassandraFeatureWriter']['outputs']['artifacts']['written']
    first_predictions = predicted(session, filled)
    expected = flights(session, filled, datetime.datetime(2013, 7, 3), 1)
    assert written['metadata']['rows'] == len(first_predictions) == expected
    assert all(0 < value < 1 for value in first_predictions.values())
    again = run(compiled(filled, tmp_path, 'predictions'), window=window, experiment_id='continuous')
    (repeated,) = again['tasks']['CassandraFeatureWriter']['outputs']['artifacts']['written']
    assert repeated['metadata']['rows'] == written['metadata']['rows']
    # TensorFlow's last digit depends on the size of a batch, which Beam chooses by time.
    assert predicted(session, filled) == pytest.approx(first_predictions, abs=1e-6)


def test_a_verdict_moves_the_alias(filled: CassandraConnection, session: Session, tmp_path: pathlib.Path) -> None:
    """Both arms answer alike, so the verdict is no ship: the alias is created at the control and stays there."""
    at = datetime.datetime(2013, 7, 1, tzinfo=datetime.timezone.utc)
    with ModelRegistry(filled) as registry:
        for number in (1, 2):
            version = ModelVersion(experiment.EXPERIMENT, experiment.MODEL_ID, str(number), at.replace(second=number))
            registry.record(version)
    job = compiled(filled, tmp_path, 'ab')
    summary = run(
        job, window='2013-07-01T00:00Z/2013-07-02T00:00Z', control_version='1', treatment_version='2', alias='served'
    )
    assert set(states(summary)) == {'ABEvaluator', 'ModelPromoter'}
    (promotion,) = summary['tasks']['ModelPromoter']['outputs']['artifacts']['promotion']
    assert promotion['metadata']['version'] == '1'
    assert promotion['metadata']['moved'] == 1
    with ModelRegistry(filled) as registry:
        move = registry.alias(experiment.EXPERIMENT, 'served')
    assert move is not None
    assert move.version == '1'
