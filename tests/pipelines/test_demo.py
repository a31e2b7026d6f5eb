"""The demo's options: each bad one is one clear line and exit code 2, before anything runs."""

import os
import pathlib
import subprocess
import sys

import pytest

from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.pipelines.flight_delay import demo

COMMAND = [sys.executable, '-m', 'tfx_cassandra.pipelines.flight_delay.demo']


def settings(*args):
    return demo._demo(demo._parser().parse_args(args))


@pytest.fixture(autouse=True)
def _no_cluster_named(monkeypatch):
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
    monkeypatch.delenv('TFX_CASSANDRA_STATE', raising=False)


@pytest.mark.parametrize(
    ('months', 'window'),
    [
        ('1', '2013-01-01T00:00:00+00:00/2013-02-01T00:00:00+00:00'),
        ('11', '2013-01-01T00:00:00+00:00/2013-12-01T00:00:00+00:00'),
        ('12', '2013-01-01T00:00:00+00:00/2014-01-02T00:00:00+00:00'),  # local midnight of 31 December comes later
    ],
)
def test_months_are_counted_from_january(months, window):
    assert str(settings('--months', months).window) == window


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['--months', '13'], 'months: got 13, rule: from 1 to 12'),
        (['--window', '2013-01-01T00:00/2013-02-01T00:00Z'], 'start: got'),
        (['--window', '2013-03-01T00:00Z/2013-02-01T00:00Z'], 'end: got'),
        (['--window', '2012-01-01T00:00Z/2013-01-14T00:00Z'], 'at least 14 days of 2013'),
    ],
)
def test_a_bad_option_is_one_line(args, message, capfd):
    assert demo.main(args) == 2
    out, err = capfd.readouterr()
    assert out == ''
    assert err.startswith('demo: error: ')
    assert message in err
    assert err.count('\n') == 1


def test_a_state_folder_that_cannot_be_written_is_one_line(tmp_path, capfd):
    (tmp_path / 'logs').touch()
    assert demo.main(['--state', str(tmp_path)]) == 2
    assert f"state: got '{tmp_path}', rule: a folder that can be written" in capfd.readouterr().err


def test_the_cluster_that_was_started_here_is_used(tmp_path):
    cluster = DevCluster(tmp_path / 'cluster', nodes=3, port=9143)
    cluster.directory.mkdir()
    cluster._save('5.0.8')
    assert settings('--state', str(tmp_path)).cluster == cluster
    assert settings('--state', str(tmp_path)).connection.contact_points == ('127.0.0.1', '127.0.0.2', '127.0.0.3')
    assert settings('--state', str(tmp_path)).connection.port == 9143
    assert settings('--state', str(tmp_path), '--nodes', '1').cluster == DevCluster(cluster.directory)


def test_a_cluster_that_is_named_is_used_and_none_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv('CASSANDRA_CONTACT_POINTS', '127.0.0.9')
    chosen = settings('--state', str(tmp_path))
    assert chosen.cluster is None
    assert chosen.connection.contact_points == ('127.0.0.9',)


def test_a_step_that_fails_is_named_with_its_cause_and_the_log(tmp_path):
    environ = {**os.environ, 'CASSANDRA_CONTACT_POINTS': '127.0.0.9', 'CASSANDRA_PORT': '1'}
    run = subprocess.run([*COMMAND, '--state', str(tmp_path)], capture_output=True, text=True, env=environ, check=False)
    assert run.returncode == 1
    assert run.stderr == ''
    log, step, error = run.stdout.splitlines()
    log_file = pathlib.Path(log.removeprefix('log: '))
    assert step.startswith('schema: 127.0.0.9:1/ml_features ... failed after')
    assert error.startswith('demo: error: contact_points: got 127.0.0.9:1, rule: at least one answers CQL')
    assert error.endswith(f'(log: {log_file})')
    assert 'Traceback' in log_file.read_text()
