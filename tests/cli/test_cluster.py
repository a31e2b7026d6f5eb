import json
from pathlib import Path

import pytest

from tfx_cassandra.components.cli.cluster import default_directory
from tfx_cassandra.components.cli.main import top
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.errors import DevClusterError


@pytest.fixture(autouse=True)
def no_external_cluster(monkeypatch):
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)


@pytest.fixture
def run():
    """Runs a command line; returns its exit code."""
    return lambda *line: top.main(line, 'tfx-cassandra', standalone_mode=False)


@pytest.fixture
def calls(monkeypatch):
    """The clusters that were started and the nodetool lines that were run, none of them for real."""
    made = []
    monkeypatch.setattr(DevCluster, 'start', lambda self: made.append(self))
    monkeypatch.setattr(DevCluster, 'nodetool', lambda self, args, node: made.append((args, node)) or 3)
    return made


def test_start_without_options_is_one_node_in_the_state_folder(run, calls, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('TFX_CASSANDRA_STATE', raising=False)
    assert run('cluster', 'start') == 0
    assert calls == [DevCluster(tmp_path / '.tfx-cassandra' / 'cluster')]


def test_the_state_folder_follows_the_environment():
    assert default_directory({'TFX_CASSANDRA_STATE': '/state'}) == Path('/state/cluster')


def test_start_hands_every_option_on(run, calls, tmp_path):
    line = '--nodes 3 --heap 2G --authenticated --subnet 127.0.7 --port 9043 --storage-port 7010 --jmx-port 7300'
    assert run('cluster', 'start', '--directory', str(tmp_path), *line.split(), '--tokens', '4') == 0
    assert calls == [DevCluster(tmp_path, 3, '127.0.7', 9043, 7010, 7300, '2G', True, 4)]


@pytest.mark.parametrize(
    ('line', 'port'),
    [('', None), ('--metrics-port 7071', None), ('--metrics', 7070), ('--metrics --metrics-port 7071', 7071)],
)
def test_metrics_are_shown_where_they_are_asked_for(run, calls, tmp_path, line, port):
    assert run('cluster', 'start', '--directory', str(tmp_path), *line.split()) == 0
    assert calls == [DevCluster(tmp_path, metrics_port=port)]


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        (['--', 'status'], (['status'], 1)),
        (['status', 'ks'], (['status', 'ks'], 1)),
        (['--node', '2', '--', 'info', '-T'], (['info', '-T'], 2)),
        (['--node', '127.0.0.3', '--', 'info'], (['info'], 3)),
        ([], (['help'], 1)),
    ],
)
def test_nodetool_passes_its_words_and_its_exit_code_through(run, calls, tmp_path, line, expected):
    DevCluster(tmp_path, nodes=3)._save('5.0.8')
    assert run('cluster', 'nodetool', '--directory', str(tmp_path), *line) == 3
    assert calls == [expected]


def test_nodetool_names_the_nodes_that_there_are(run, tmp_path):
    DevCluster(tmp_path)._save('5.0.8')
    with pytest.raises(ValueError, match=r"^node: got 'x', rule: a number from 1, or one of 127\.0\.0\.1$"):
        run('cluster', 'nodetool', '--directory', str(tmp_path), '--node', 'x', '--', 'info')


def test_nodetool_without_a_cluster_is_an_error(run, tmp_path):
    with pytest.raises(DevClusterError, match=rf'^directory: got {tmp_path}, rule: a folder that a cluster was'):
        run('cluster', 'nodetool', '--directory', str(tmp_path), '--', 'status')


def test_status_and_stop_where_nothing_runs(run, tmp_path, capsys):
    assert run('cluster', 'status', '--directory', str(tmp_path)) == 1
    assert run('cluster', 'stop', '--directory', str(tmp_path)) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == (f'no cluster in {tmp_path}\n', f'no cluster runs in {tmp_path}\n')
    DevCluster(tmp_path, nodes=3)._save('5.0.8')
    assert run('cluster', 'status', '--directory', str(tmp_path)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(', log')[0] for line in lines] == [f'node 127.0.0.{n}:9042 not running' for n in (1, 2, 3)]


def test_status_as_json(run, tmp_path, capsys):
    assert run('cluster', 'status', '--directory', str(tmp_path), '--format', 'json') == 1
    assert json.loads(capsys.readouterr().out) == []
    cluster = DevCluster(tmp_path)
    cluster._save('5.0.8')
    assert run('cluster', 'status', '--directory', str(tmp_path), '--format', 'json') == 1
    (node,) = json.loads(capsys.readouterr().out)
    expected = {'node': '127.0.0.1:9042', 'answers': False, 'pid': None, 'memory': 0, 'log': str(cluster.ring[0].log)}
    assert node == expected
