import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading

import pytest

from tfx_cassandra.components.devcluster import cluster as clusters
from tfx_cassandra.components.devcluster import launch, ready
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.errors import DevClusterError, UnavailableError
from tfx_cassandra.components.progress import Step


@pytest.fixture(autouse=True)
def no_external_cluster(monkeypatch):
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)


@pytest.fixture
def steps():
    """The labels of the steps that were begun, and a progress that records them."""
    labels = []

    @contextlib.contextmanager
    def progress(label):
        labels.append(label)
        yield Step(label)

    progress.labels = labels
    return progress


@contextlib.contextmanager
def stands_in_for(node):
    """Runs a process that has nothing of a node but its command line."""
    node.folder.mkdir(parents=True, exist_ok=True)
    wait = 'import sys; print("up", flush=True); sys.stdin.read()'
    option = f'-Dcassandra.config={(node.folder / "cassandra.yaml").as_uri()}'
    pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
    with subprocess.Popen([sys.executable, '-c', wait, option], **pipes) as process:
        assert process.stdout.readline() == b'up\n'
        (node.folder / 'pid').write_text(str(process.pid))
        yield process
        process.kill()


@pytest.mark.parametrize(
    ('field', 'value', 'rule'),
    [
        ('nodes', 2, '1 or 3'),
        ('nodes', 0, '1 or 3'),
        ('subnet', '10.0.0', 'loopback'),
        ('subnet', '127.0', 'loopback'),
        ('subnet', '127.0.256', 'loopback'),
        ('subnet', '127.0.00', 'loopback'),
        ('port', 0, 'from 1 to 65533'),
        ('metrics_port', 65534, 'from 1 to 65533'),
        ('metrics_port', 9042, 'another port than port and storage_port'),
        ('jmx_port', 65534, 'from 1 to 65533'),
        ('storage_port', 9042, 'another port'),
        ('heap', '1', 'a whole number'),
        ('heap', '0.5G', 'a whole number'),
        ('heap', '255M', '256M at least'),
        ('tokens', 0, 'from 1 to 256'),
        ('tokens', 257, 'from 1 to 256'),
        ('data_centers', 0, 'from 1 to the number of nodes, 1'),
        ('data_centers', 2, 'from 1 to the number of nodes, 1'),
    ],
)
def test_a_wrong_setting_is_named_with_value_and_rule(tmp_path, field, value, rule):
    with pytest.raises(ValueError, match=f'^{field}: got {value!r}, rule: .*{rule}'):
        DevCluster(tmp_path, **{field: value})


def test_a_directory_that_cannot_stand_in_a_class_path_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^directory: got '.*/a:b', rule: a path without ':'"):
        DevCluster(tmp_path / 'a:b')


def test_three_nodes_have_an_address_a_folder_and_a_jmx_port_each(tmp_path):
    cluster = DevCluster(tmp_path, nodes=3, subnet='127.0.7', jmx_port=7300)
    assert cluster.contact_points == ('127.0.7.1', '127.0.7.2', '127.0.7.3')
    assert [node.jmx_port for node in cluster.ring] == [7300, 7301, 7302]
    assert len({node.folder for node in cluster.ring}) == 3
    assert cluster.ring[2].seeds == ('127.0.7.1:7000', '127.0.7.2:7000', '127.0.7.3:7000')


def test_rings_of_another_configuration_have_their_own_data(tmp_path):
    shapes = [{}, {'nodes': 3}, {'subnet': '127.0.7'}, {'storage_port': 7001}, {'tokens': 1}]
    shapes += [{'nodes': 3, 'data_centers': 2}]
    folders = {DevCluster(tmp_path, **shape).ring[0].folder for shape in shapes}
    assert len(folders) == len(shapes)


@pytest.mark.parametrize('field', ['port', 'storage_port', 'jmx_port', 'metrics_port'])
def test_a_port_in_use_is_named_before_anything_is_started(tmp_path, steps, field):
    with socket.create_server(('127.0.9.1' if field != 'jmx_port' else '127.0.0.1', 0)) as server:
        address, taken = server.getsockname()
        others = {'port': 9742, 'storage_port': 9743, 'jmx_port': 9744, 'metrics_port': 9745}
        cluster = DevCluster(tmp_path, subnet='127.0.9', **(others | {field: taken}))
        with pytest.raises(DevClusterError, match=rf'^{field}: got {address}:{taken} that is in use, rule: free'):
            cluster.start(steps)
    assert steps.labels == []
    assert not cluster.ring[0].folder.exists()


@pytest.mark.parametrize(
    ('nodes', 'available', 'fits'), [(1, 1_673_741_824, True), (1, 1_673_741_823, False), (3, 5_021_225_471, False)]
)
def test_memory_is_heap_and_600_mb_a_node(tmp_path, nodes, available, fits):
    ring = DevCluster(tmp_path, nodes=nodes, heap='1G').ring
    expectation = contextlib.nullcontext()
    if not fits:
        expectation = pytest.raises(DevClusterError, match=rf'^heap: got 1G for {nodes} node\(s\) which takes')
    with expectation:
        launch.check_memory(ring, available)


def test_too_little_memory_is_an_error_before_anything_is_started(tmp_path, steps, monkeypatch):
    monkeypatch.setattr(launch, 'available_memory', lambda: 1_000_000_000)
    cluster = DevCluster(tmp_path, subnet='127.0.9', port=9742, storage_port=9743, jmx_port=9744)
    with pytest.raises(DevClusterError, match=r'takes 1\.7 GB, rule: no more than the 1\.0 GB of memory that is'):
        cluster.start(steps)
    assert steps.labels == []


def test_available_memory_is_what_the_machine_has():
    assert 1e8 < launch.available_memory() < os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


def test_a_running_cluster_of_another_configuration_is_an_error_unless_only_the_heap_differs(tmp_path):
    single_node = DevCluster(tmp_path, subnet='127.0.9')
    single_node._save('5.0.8')
    assert DevCluster.saved(tmp_path) == single_node
    with stands_in_for(single_node.ring[0]):
        dataclasses.replace(single_node, heap='2G')._check_saved()
        with pytest.raises(
            DevClusterError, match=rf'^nodes: got 3, rule: 1, like the cluster that is running in {tmp_path}'
        ):
            dataclasses.replace(single_node, nodes=3).start()
        with pytest.raises(DevClusterError, match=r"^version: got '4.1.10', rule: '5.0.8', like the cluster"):
            dataclasses.replace(single_node, version='4.1').start()
        with pytest.raises(DevClusterError, match=r'^authenticated: got True, rule: False, like the cluster'):
            dataclasses.replace(single_node, authenticated=True).start()
    dataclasses.replace(single_node, nodes=3)._check_saved()


def test_data_is_opened_by_the_release_that_made_it_alone(tmp_path):
    cluster = DevCluster(tmp_path, version='5.0.9')
    cluster._check_data('5.0.9')
    cluster._save('5.0.9')
    cluster._check_data('5.0.9')
    folder = cluster.ring[0].folder.parent
    for other in ('5.0.8', '4.1.10', '5.0.10'):
        with pytest.raises(DevClusterError, match=rf'^version: got {other}, rule: 5\.0\.9, which made .* in {folder} '):
            cluster._check_data(other)


def test_data_from_before_its_release_was_recorded_is_of_5_0_8(tmp_path):
    cluster = DevCluster(tmp_path)
    cluster.ring[0].folder.mkdir(parents=True)
    cluster._check_data('5.0.8')
    with pytest.raises(DevClusterError, match=r'^version: got 5\.0\.9, rule: 5\.0\.8, which made the data in'):
        cluster._check_data('5.0.9')


def test_a_running_cluster_is_not_started_again(tmp_path, steps, monkeypatch):
    monkeypatch.setattr(ready, 'is_ready', lambda node: True)
    cluster = DevCluster(tmp_path, subnet='127.0.9')
    with stands_in_for(cluster.ring[0]) as process:
        cluster.start(steps)
        assert cluster.ring[0].pid() == process.pid
    assert steps.labels == ['already running: 1 node on 127.0.9.1 port 9042']


def test_no_cluster_and_a_damaged_record_are_told_apart(tmp_path):
    assert DevCluster.saved(tmp_path) is None
    (tmp_path / 'cluster.json').write_text('{"nodes": 1')
    with pytest.raises(DevClusterError, match=r'^directory: got .*cluster\.json, rule: the record of a cluster'):
        DevCluster.saved(tmp_path)
    (tmp_path / 'cluster.json').write_text(json.dumps({'nodes': 5}))
    with pytest.raises(DevClusterError, match='1 or 3'):
        DevCluster.saved(tmp_path)


def test_a_directory_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(DevClusterError, match=r'^directory: got .*file/cluster, rule: a folder that can be written'):
        DevCluster(tmp_path / 'file' / 'cluster').start()


def test_a_second_start_or_stop_waits_for_the_first(tmp_path):
    cluster, done = DevCluster(tmp_path), threading.Event()
    second = threading.Thread(target=lambda: (cluster.stop(), done.set()))
    with cluster._locked():
        second.start()
        assert not done.wait(0.3)
    assert done.wait(10)
    second.join()


def test_another_operating_system_is_an_error_that_says_what_to_do(tmp_path, steps, monkeypatch):
    monkeypatch.setattr(clusters.platform, 'system', lambda: 'Darwin')
    with pytest.raises(DevClusterError, match=r'^system: got Darwin, rule: Linux, or CASSANDRA_CONTACT_POINTS set$'):
        DevCluster(tmp_path).start(steps)


def test_stopping_what_does_not_run_says_so(tmp_path, steps):
    assert DevCluster(tmp_path).stop(steps) is False
    assert steps.labels == []


def test_status_of_what_does_not_run(tmp_path):
    (status,) = DevCluster(tmp_path).status()
    assert (status.pid, status.answers, status.memory) == (None, False, 0)


@pytest.mark.parametrize(('node', 'error'), [(0, ValueError), (2, ValueError), (1, DevClusterError)])
def test_nodetool_wants_a_running_node_of_the_ring(tmp_path, node, error):
    with pytest.raises(error, match=rf'^node: got {node}'):
        DevCluster(tmp_path).nodetool(['status'], node)


def test_a_cluster_that_the_environment_names_has_to_answer_and_nothing_is_started(tmp_path, steps, monkeypatch):
    monkeypatch.setenv('CASSANDRA_CONTACT_POINTS', '127.0.9.250')
    with pytest.raises(UnavailableError, match=r'127\.0\.9\.250'):
        DevCluster(tmp_path / 'cluster').start(steps)
    assert not (tmp_path / 'cluster').exists()
