"""The commands `tfx-cassandra models ...` on a real node, as the command line runs them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pytest

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.registry import publish
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion

pytestmark = pytest.mark.integration

FIRST, SECOND = '1700000000', '1700000100'


@pytest.fixture
def experiment(connection: CassandraConnection, request: pytest.FixtureRequest) -> str:
    """An experiment with two versions of one model and one of another."""
    name = request.node.name
    metrics = {'auc': 0.75, 'accuracy': 0.875, 'loss': 0.123456789, 'n': 5.0}
    with ModelRegistry(connection) as registry:
        for model, version in (('dnn', FIRST), ('dnn', SECOND), ('linear', SECOND)):
            registry.record(ModelVersion(name, model, version, moment(int(version)), metrics, 'B', digest='aa'))
    return name


@pytest.fixture
def run(connection: CassandraConnection, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `tfx-cassandra models ...`; returns exit code, standard output and standard error."""
    where = ['--contact-points', ','.join(connection.contact_points), '--port', str(connection.port)]
    where += ['--local-datacenter', connection.local_datacenter, '--keyspace', connection.keyspace]

    def models(*words: str) -> tuple[int, str, str]:
        code = cli.main(['models', *words, *where])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return models


Run = Callable[..., tuple[int, str, str]]


def test_list_shows_the_newest_first_with_its_aliases(run: Run, experiment: str) -> None:
    assert run('promote', experiment, 'champion', 'dnn', SECOND)[0] == 0
    code, out, _ = run('list', experiment)
    assert code == 0
    assert out.splitlines() == [
        'model_id  version     created_at                 aliases   ab_test_group  verdict  metrics',
        'dnn       1700000100  2023-11-14T22:15:00+00:00  champion  B              -        '
        'accuracy=0.875 auc=0.75 loss=0.123457 ...',
        'linear    1700000100  2023-11-14T22:15:00+00:00  -         B              -        '
        'accuracy=0.875 auc=0.75 loss=0.123457 ...',
        'dnn       1700000000  2023-11-14T22:13:20+00:00  -         B              -        '
        'accuracy=0.875 auc=0.75 loss=0.123457 ...',
    ]
    window = '2023-11-14T22:13Z/2023-11-14T22:15Z'
    _, out, _ = run('list', experiment, '--window', window, '--model', 'dnn', '--format', 'json')
    (row,) = json.loads(out)
    assert (row['version'], row['created_at'], row['aliases']) == (FIRST, '2023-11-14T22:13:20+00:00', [])
    assert row['metrics'] == {'auc': 0.75, 'accuracy': 0.875, 'loss': 0.123456789, 'n': 5.0}


def test_show_finds_a_version_by_name_and_by_alias(run: Run, experiment: str) -> None:
    run('promote', experiment, 'champion', 'dnn', FIRST)
    _, out, _ = run('show', experiment, 'champion', '--format', 'json')
    row = json.loads(out)
    assert (row['model_id'], row['version'], row['digest'], row['gates']) == ('dnn', FIRST, 'aa', [])
    code, table, _ = run('show', experiment, 'dnn', FIRST)
    lines = dict(line.split(maxsplit=1) for line in table.splitlines() if not line.startswith('metrics'))
    assert code == 0
    assert (lines['version'], lines['aliases'], lines['verdict']) == (FIRST, 'champion', '-')
    assert 'metrics loss          0.123456789' in table


def test_moves_and_their_history(run: Run, experiment: str) -> None:
    assert (
        run('promote', experiment, 'champion', 'dnn', FIRST, '--expected', 'nothing', '--reason', 'the first')[0] == 0
    )
    assert run('promote', experiment, 'champion', 'dnn', SECOND, '--expected', FIRST)[0] == 0
    # The same command again finds it done.
    assert run('promote', experiment, 'champion', 'dnn', SECOND, '--expected', FIRST)[0] == 0
    assert run('rollback', experiment, 'champion', '--expected', SECOND, '--reason', 'worse')[0] == 0
    code, out, _ = run('history', experiment, 'champion', '--format', 'json')
    moves = [(move['number'], move['action'], move['version'], move['reason']) for move in json.loads(out)]
    assert code == 0
    assert moves == [(3, 'rollback', FIRST, 'worse'), (2, 'promote', SECOND, None), (1, 'promote', FIRST, 'the first')]
    _, table, _ = run('history', experiment, 'champion')
    assert table.splitlines()[0].split() == ['number', 'action', 'model_id', 'version', 'moved_at', 'reason']
    assert len(table.splitlines()) == 4


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['show', 'E', 'champion'], "alias: got 'champion', rule: an alias of experiment 'E'"),
        (['show', 'E', 'dnn', '17'], "version: got '17', rule: a recorded version of 'dnn' in experiment 'E'"),
        (['show', 'E', 'a', 'b', 'c'], "name: got 'a b c', rule: an alias, or a model and its version"),
        (['history', 'E', 'champion'], "alias: got 'champion', rule: an alias of experiment 'E'"),
        (['promote', 'E', 'champion', 'dnn', '17'], "version: got '17', rule: a recorded version of 'dnn'"),
        (
            ['promote', 'E', 'live', 'dnn', SECOND, '--expected', '17'],
            "alias: got 'live', rule: naming version '17'",
        ),
        (
            ['promote', 'E', 'live', 'dnn', SECOND, '--expected', 'nothing'],
            "alias: got 'live', rule: still nothing",
        ),
        (['rollback', 'E', 'live'], "alias: got 'live', rule: a version before version '1700000000'"),
        (['rollback', 'E', 'live', '--expected', SECOND], "alias: got 'live', rule: naming version '1700000100', but"),
        (['rollback', '', 'live'], "experiment_id: got '', rule: a non-empty text"),
        (['list', 'E', '--window', 'today'], "window: got 'today', rule: START/END"),
        (
            ['rollback', 'E', 'live', '--expected', f'linear/{FIRST}'],
            "alias: got 'live', rule: naming version 'linear/",
        ),
    ],
)
def test_errors_are_one_line(words: list[str], message: str, run: Run, experiment: str) -> None:
    run('promote', experiment, 'live', 'dnn', FIRST)
    code, out, err = run(*(experiment if word == 'E' else word for word in words))
    assert (code, out) == (2, '')
    (line,) = err.splitlines()
    assert line.startswith(f'tfx-cassandra: error: {message.replace(repr("E"), repr(experiment))}')


@pytest.mark.parametrize('hours', ['-1', '1e8', '1e12', 'inf', 'nan'])
def test_an_age_that_is_none_is_one_line(hours: str, run: Run) -> None:
    words = ['repair', 'e', 'dnn', '--base-directory', '/no', '--older-than', hours]
    code, out, err = run(*words)
    assert (code, out) == (2, '')
    assert err == f'tfx-cassandra: error: older-than: got {float(hours)}, rule: hours from 0 to 1000000\n'


def test_a_version_that_is_expected_is_one_of_one_model(run: Run, experiment: str) -> None:
    assert run('promote', experiment, 'champion', 'linear', SECOND)[0] == 0
    code, _, err = run('promote', experiment, 'champion', 'dnn', FIRST, '--expected', SECOND)
    assert code == 2
    assert f"rule: naming version '{SECOND}', but it names '{SECOND}' of 'linear'" in err
    assert run('promote', experiment, 'champion', 'dnn', FIRST, '--expected', f'linear/{SECOND}')[0] == 0
    assert run('promote', experiment, 'champion', 'dnn', SECOND, '--expected', f'dnn/{FIRST}')[0] == 0
    code, _, err = run('rollback', experiment, 'champion', '--expected', SECOND)
    assert code == 2
    rule = f'rule: one of dnn/{SECOND}, linear/{SECOND}, all of which the alias has named'
    assert err == f"tfx-cassandra: error: expected: got '{SECOND}', {rule}\n"
    assert run('rollback', experiment, 'champion', '--expected', f'linear/{SECOND}')[0] == 2
    assert run('rollback', experiment, 'champion', '--expected', f'dnn/{SECOND}')[0] == 0
    assert run('rollback', experiment, 'champion', '--expected', FIRST)[0] == 0


def test_repair_is_a_dry_run_until_it_is_told(
    run: Run, experiment: str, connection: CassandraConnection, tmp_path: pathlib.Path
) -> None:
    model, base = tmp_path / 'model', tmp_path / 'serving'
    model.mkdir()
    (model / 'saved_model.pb').write_text('graph')
    with ModelRegistry(connection) as registry:
        digest = publish.content_digest(str(model))
        claim = registry.claim(experiment, 'dnn', digest)
    directory = pathlib.Path(publish.publish(str(model), str(base), claim.version, digest))
    words = ['repair', experiment, 'dnn', '--base-directory', str(base)]
    found = ('version without a row', str(directory))

    def repair(*more: str) -> tuple[int, list[tuple[str, str, str]]]:
        code, out, _ = run(*words, '--format', 'json', *more)
        return code, [(row['kind'], row['what'], row['remedy']) for row in json.loads(out)]

    assert repair() == (1, [(*found, 'left: a push may be at work on it')])
    assert repair('--apply') == (1, [(*found, 'left: a push may be at work on it')])
    assert repair('--older-than', '0') == (1, [(*found, 'write its row')])
    assert repair('--older-than', '0', '--apply') == (0, [(*found, 'done: write its row')])
    assert run(*words) == (0, 'kind  what  since  remedy\n', '')
    _, out, _ = run('show', experiment, 'dnn', str(claim.version), '--format', 'json')
    assert json.loads(out)['pipeline_run'] == 'repair'
