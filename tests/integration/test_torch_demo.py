"""The PyTorch demo's steps on a real Cassandra: two weeks of flights in, one version out."""

from __future__ import annotations

import copy
import dataclasses
import pathlib

import polars as pl
import pyarrow as pa
import pytest
from cassandra.cluster import Session

torch = pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')
pytest.importorskip('lightning', reason='needs the extra torch (tools/torch)')

from tfx_cassandra.components import Arm, CassandraConnection, ModelRegistry, TimeWindow
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.experiment.verdict_file import read_verdict
from tfx_cassandra.components.inference_log.logger import assign
from tfx_cassandra.components.protos import to_json
from tfx_cassandra.components.registry.publish import content_digest
from tfx_cassandra.pipelines.flight_delay import experiment, ingest, serving, torch_demo, torch_model, torch_training
from tfx_cassandra.proto import cassandra_pb2

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings('ignore:::lightning')]

WINDOW = TimeWindow.parse('2013-07-01T00:00Z/2013-07-15T00:00Z')


@pytest.fixture(scope='module')
def trained(connection: CassandraConnection, tmp_path_factory: pytest.TempPathFactory) -> torch_training.Trained:
    ingest.apply_schema(connection)
    for load in (ingest.weather(WINDOW), ingest.flights(WINDOW), ingest.planes()):
        ingest.ingest(connection, load)
    folder = tmp_path_factory.mktemp('sets')
    rows = [
        torch_training.dataset(connection, window, str(folder / name))
        for name, window in zip(('train', 'eval'), torch_training.windows(WINDOW), strict=True)
    ]
    assert [torch_training.prepared(one) > 2000 for one in rows] == [True, True]
    said: list[str] = []
    made = torch_training.train(*rows, epochs=2, workers=0, progress=said.append)
    assert [line.split(',')[0] for line in said] == ['epoch 1', 'epoch 2']
    assert said[-1] == f'epoch 2, AUC {made.auc:.4f}'
    return made


def test_the_split_is_by_time_with_a_gap() -> None:
    train, evaluated = torch_training.windows(WINDOW)
    assert str(train) == '2013-07-01T00:00:00+00:00/2013-07-10T00:00:00+00:00'
    assert str(evaluated) == '2013-07-11T00:00:00+00:00/2013-07-15T00:00:00+00:00'


def test_it_learns(trained):
    assert trained.auc > 0.55


def test_the_version_is_that_of_a_pipeline(trained, connection, session: Session, tmp_path: pathlib.Path):
    version = torch_training.push(connection, trained, 'flights', 'torch', tmp_path, str(WINDOW))
    folder = tmp_path / version.version
    assert version.model_uri == str(folder)
    assert version.digest == content_digest(str(folder))
    assert version.metrics == {'auc': pytest.approx(trained.auc)}
    assert (version.gates, version.ab_test_group, version.examples_window) == (
        ('model_blessing',), 'control', str(WINDOW)
    )  # fmt: skip
    with ModelRegistry(connection) as registry:
        assert registry.latest('flights', 'torch') == version
        registry.promote('flights', 'champion', 'torch', version.version)
        # What an A/B test of this version writes.
        registry.add_metrics('flights', 'torch', version.version, {'ab.lift': 0.1}, 'treatment', 'ship')
        assert registry.latest('flights', 'torch').verdict == 'ship'
        move = registry.alias('flights', 'champion')
        assert move is not None
        assert (move.model_id, move.version) == ('torch', version.version)
    row = session.execute(f'SELECT metrics, ab_test_group FROM {connection.keyspace}.model_versions').one()
    assert (set(row.metrics), row.ab_test_group) == ({'auc', 'ab.lift'}, 'treatment')


def test_the_pushed_model_predicts_as_the_trained_one(trained, tmp_path):
    torch_model.save(trained.network, trained.vocabulary, tmp_path)
    rows = torch_training._selected(trained.sample)
    encoded = torch_model.Encode(trained.vocabulary)(rows)
    from tfx_cassandra.components.torch.tensors import TensorOptions, tensors

    with torch.no_grad():
        expected = torch.sigmoid(trained.network.eval()(*torch_model.inputs(tensors(encoded, TensorOptions()))))
    assert torch.allclose(torch_model.predict(tmp_path, rows), expected, atol=1e-6)
    assert len(torch_training.predictions(tmp_path, trained.sample)) == 3


def predictions(folder: pathlib.Path, rows: pl.DataFrame) -> list[float]:
    columns = rows.select(torch_model.COLUMNS).to_dict(as_series=False)
    return torch_model.predict(folder, pa.RecordBatch.from_pydict(columns)).tolist()


def test_versions_are_compared_on_what_they_served(trained, connection, tmp_path):
    """The trained network against the same one with the signs of its answers turned."""
    turned = copy.deepcopy(trained.network)
    with torch.no_grad():
        turned.layers[-1].weight.neg_()
        turned.layers[-1].bias.neg_()
    arms, folders = [], {}
    for name, network in (('control', turned), ('treatment', trained.network)):
        version = torch_training.push(
            connection, dataclasses.replace(trained, network=network), experiment.EXPERIMENT, 'torch', tmp_path, ''
        )
        arms.append(Arm(name, 'torch', version.version, 0.5))
        folders[name] = tmp_path / version.version
    days = TimeWindow.parse('2013-07-11T00:00Z/2013-07-13T00:00Z')
    rows = serving.flights(days)
    sent = serving.serve(connection, experiment.EXPERIMENT, arms, folders, rows, predictions)
    assert sum(sent.values()) == rows.height > 1000
    design = tmp_path / 'design.json'
    design.write_text(to_json(experiment.design(arms, days), cassandra_pb2.Design))
    points = ['--contact-points', ','.join(connection.contact_points), '--port', str(connection.port)]
    table = ['--requests-table', experiment.REQUESTS_TABLE, '--keyspace', connection.keyspace]
    assert cli.main(['ab', 'run', '--design', str(design), '--output', str(tmp_path / 'out'), *table, *points]) == 0
    verdict = read_verdict(str(tmp_path / 'out'))
    assert (verdict.verdict, verdict.winner) == ('ship', 'treatment')
    assert {arm.arm: arm.requests for arm in verdict.arms} == sent
    weights = {arm.name: arm.weight for arm in arms}
    for arm in verdict.arms:  # the mean squared error, from the model's own answers
        of_arm = [assign(experiment.EXPERIMENT, flight, weights) == arm.arm for flight in rows['flight_id']]
        own = rows.filter(pl.Series(of_arm))
        errors = (torch.tensor(predictions(folders[arm.arm], own)) - torch.tensor(own['late'].to_list())) ** 2
        estimates = {estimate.metric: estimate.value for estimate in arm.estimates}
        assert estimates['brier'] == pytest.approx(float(errors.mean()), rel=1e-5)


def test_a_bad_option_is_one_line(capfd, monkeypatch):
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
    assert torch_demo.main(['--months', '13']) == 2
    assert capfd.readouterr().err == 'demo-torch: error: months: got 13, rule: from 1 to 12\n'
    with pytest.raises(SystemExit) as exit_code:
        torch_demo.main(['--help'])
    assert exit_code.value.code == 0
    assert 'torch_demo --months 3 --workers 2' in capfd.readouterr().out
