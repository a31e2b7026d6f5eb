"""`tfx-cassandra models rollout` with versions, aliases and verdicts of a real registry."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable

import pytest

from tfx_cassandra.components import protos
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.experiment.results import ArmResult, Verdict
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.proto import cassandra_pb2

pytestmark = pytest.mark.integration

FIRST, SECOND, THIRD = '1700000000', '1700000100', '1700000200'
ENDPOINT = 'projects/p/locations/l/endpoints/7'
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def experiment(connection: CassandraConnection, request: pytest.FixtureRequest) -> str:
    """An experiment with two versions of one model, the first of which is the champion, and one of another model."""
    name = request.node.name
    with ModelRegistry(connection) as registry:
        for model, version in (('dnn', FIRST), ('dnn', SECOND), ('linear', SECOND)):
            uri = f'gs://bucket/{model}/{version}'
            registry.record(ModelVersion(name, model, version, moment(int(version)), model_uri=uri))
        registry.promote(name, 'champion', 'dnn', FIRST)
    return name


@pytest.fixture
def run(connection: CassandraConnection, experiment: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; returns exit code, standard output and standard error."""
    where = ['--contact-points', ','.join(connection.contact_points), '--port', str(connection.port)]
    where += ['--local-datacenter', connection.local_datacenter, '--keyspace', connection.keyspace]

    def rollout(*words: str, to: str = 'vertex', name: str = ENDPOINT) -> tuple[int, str, str]:
        code = cli.main(['models', 'rollout', experiment, '--to', to, '--name', name, *words, *where])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return rollout


def split(run: Run, *words: str) -> dict[str, int]:
    code, out, err = run(*words)
    assert code == 0, err
    return json.loads(out)['trafficSplit']


def saved(folder: pathlib.Path, experiment: str, says: str, versions: tuple[str, ...], winner: str | None) -> str:
    """Writes the verdict of a test of versions of one model, the first as control, as ABEvaluator does."""
    arms = [Arm(f'arm{version}', 'dnn', version, 1 / len(versions)) for version in versions]
    window = TimeWindow.parse('2026-01-01T00:00Z/2026-01-02T00:00Z')
    design = Design(experiment, arms[0], tuple(arms[1:]), window, (Metric('score', 'prediction'),))
    control, *others = (ArmResult(arm.name, 'dnn', str(arm.version), arm.weight, 7, 7, ()) for arm in arms)
    treatments = tuple(dataclasses.replace(arm, verdict=says) for arm in others)
    found = Verdict(
        experiment, says, (), winner and f'arm{winner}', control, treatments, None, (), 0, 0, (), design
    )  # fmt: skip
    (folder / 'verdict.json').write_text(protos.to_json(found, cassandra_pb2.Verdict))
    return str(folder)


def test_the_champion_is_followed_by_the_newest_version_of_its_model(run: Run) -> None:
    assert [split(run, '--step', str(step)) for step in range(4)] == [
        {FIRST: 100}, {FIRST: 90, SECOND: 10}, {FIRST: 50, SECOND: 50}, {SECOND: 100},
    ]  # fmt: skip
    assert split(run, '--percent', '33') == {FIRST: 67, SECOND: 33}
    assert split(run, '--step', '1', '--steps', '0,5,100') == {FIRST: 95, SECOND: 5}
    assert split(run, '--rollback') == {FIRST: 100}


def test_versions_are_named_by_alias_or_by_model_and_version(
    run: Run, experiment: str, connection: CassandraConnection
) -> None:
    with ModelRegistry(connection) as registry:
        registry.promote(experiment, 'champion', 'dnn', SECOND)
        registry.promote(experiment, 'before', 'dnn', FIRST)
    assert split(run, '--step', '1', '--stable', 'before', '--candidate', 'champion') == {FIRST: 90, SECOND: 10}
    assert split(run, '--step', '1', '--stable', f'dnn/{SECOND}', '--candidate', f'dnn/{FIRST}') == {
        SECOND: 90, FIRST: 10,
    }  # fmt: skip
    code, out, err = run('--step', '1')
    assert (code, out) == (2, '')
    assert err == (
        'tfx-cassandra: error: candidate: got None, rule: --candidate names another version than the stable one, '
        f'dnn/{SECOND}; if the alias has moved, name by --stable the version that serves\n'
    )


@pytest.mark.parametrize(
    ('says', 'then'),
    [('ship', {FIRST: 50, SECOND: 50}), ('hold', {FIRST: 90, SECOND: 10}), ('harm', {FIRST: 100})],
)
def test_a_verdict_moves_the_traffic(
    says: str, then: dict[str, int], run: Run, experiment: str, connection: CassandraConnection, tmp_path: pathlib.Path
) -> None:
    folder = saved(tmp_path, experiment, says, (FIRST, SECOND), SECOND if says == 'ship' else None)
    assert split(run, '--step', '1', '--verdict', folder) == then
    with ModelRegistry(connection) as registry:
        registry.add_metrics(experiment, 'dnn', SECOND, {}, verdict=says)
    assert split(run, '--step', '1', '--verdict', 'recorded') == then
    code, out, err = run('--step', '1')
    if says == 'harm':
        assert (code, out) == (2, '')
        assert f"percent: got 10, rule: 0: the recorded verdict on dnn/{SECOND} is 'harm'" in err
        assert split(run, '--step', '0') == {FIRST: 100}
    else:
        assert code == 0


def test_of_two_versions_that_may_ship_only_the_winner_does(
    run: Run, experiment: str, connection: CassandraConnection, tmp_path: pathlib.Path
) -> None:
    with ModelRegistry(connection) as registry:
        registry.record(
            ModelVersion(experiment, 'dnn', THIRD, moment(int(THIRD)), model_uri=f'gs://bucket/dnn/{THIRD}')
        )
    folder = saved(tmp_path, experiment, 'ship', (FIRST, SECOND, THIRD), SECOND)
    words = ('--step', '1', '--verdict', folder, '--candidate')
    assert split(run, *words, f'dnn/{SECOND}') == {FIRST: 50, SECOND: 50}
    assert split(run, *words, f'dnn/{THIRD}') == {FIRST: 90, THIRD: 10}


def test_files_of_all_systems(run: Run, tmp_path: pathlib.Path) -> None:
    output = tmp_path / 'new' / 'patch.json'
    code, out, err = run('--step', '1', '--output', str(output), to='kserve', name='flights')
    assert (code, out) == (0, '')
    assert err == f'10 % to dnn/{SECOND}, the rest to dnn/{FIRST}\n'
    predictor = json.loads(output.read_text())['spec']['predictor']
    assert predictor['canaryTrafficPercent'] == 10
    assert predictor['storageUris'][0]['uri'] == f'gs://bucket/dnn/{SECOND}'
    _, text, _ = run('--percent', '100', '--base-directory', '/models/dnn', to='tf-serving', name='dnn')
    assert 'base_path: "/models/dnn"' in text
    assert f'version_labels {{ key: "stable" value: {SECOND} }}' in text


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--step', '9'], 'step: got 9, rule: an integer from 0 to 3'),
        (['--percent', '101'], 'percent: got 101, rule: an integer from 0 to 100'),
        (['--step', '1', '--steps', '10,100'], 'steps: got (10, 100), rule: percentages that rise from 0 to 100'),
        (['--step', '1', '--stable', 'none'], "alias: got 'none', rule: an alias of experiment"),
        (['--step', '1', '--candidate', 'dnn/17'], "version: got '17', rule: a recorded version of 'dnn'"),
        (['--step', '1', '--verdict', '/none'], "verdict: got '/none', rule: a directory that holds verdict.json"),
        (['--step', '1', '--verdict', 'recorded'], f'verdict: got none, rule: recorded with dnn/{SECOND}'),
        (['--step', '1', '--name', 'flights'], "name: got 'flights', rule: projects/PROJECT"),
    ],
)
def test_errors_are_one_line(words: list[str], message: str, run: Run) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, '')
    (line,) = err.splitlines()
    assert line.startswith(f'tfx-cassandra: error: {message}')


def test_a_verdict_on_other_versions_is_refused(run: Run, experiment: str, tmp_path: pathlib.Path) -> None:
    folder = saved(tmp_path, experiment, 'hold', (SECOND, FIRST), None)
    code, _, err = run('--step', '1', '--verdict', folder)
    assert (code, err) == (
        2,
        f'tfx-cassandra: error: verdict: got one on dnn/{FIRST} against dnn/{SECOND}, rule: on dnn/{SECOND}, with '
        f'dnn/{FIRST} as the control\n',
    )
    code, _, err = run('--step', '1', '--verdict', saved(tmp_path, 'other', 'ship', (FIRST, SECOND), SECOND))
    assert (code, "verdict: got one of experiment 'other', rule: of" in err) == (2, True)
