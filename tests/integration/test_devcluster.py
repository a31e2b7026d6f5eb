"""Real nodes on loopback addresses of their own, so that the cluster of the other tests is left alone."""

import functools
import io
import os
import signal
import subprocess
import sys

import pytest
from cassandra import ConsistencyLevel
from cassandra.query import SimpleStatement

from tfx_cassandra.components.devcluster import ready
from tfx_cassandra.components.devcluster.cache import cache_folder
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.devcluster.java import find_java
from tfx_cassandra.components.devcluster.node import Node
from tfx_cassandra.components.driver.connection import CassandraConnection, session
from tfx_cassandra.components.errors import CredentialsError, DevClusterError
from tfx_cassandra.components.progress import step

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
    # These nodes live for seconds: leaving out Java's second compiler halves what their start costs.
    monkeypatch.setenv('JAVA_TOOL_OPTIONS', '-XX:TieredStopAtLevel=1')


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def one(tmp_path):
    cluster = DevCluster(tmp_path / 'one', subnet='127.0.9', jmx_port=7411, heap='512M')
    yield cluster
    cluster.stop()


def small_runtime(folder):
    """Makes a JAVA_HOME that hides jdk.naming.rmi, as the runtime that comes from PyPI lacks it; returns the folder."""
    modules = 'java.se,jdk.attach,jdk.management,jdk.unsupported,jdk.zipfs'
    java = folder / 'bin' / 'java'
    java.parent.mkdir()
    java.write_text(f'#!/bin/sh\nexec {find_java(cache_folder())} --limit-modules {modules} "$@"\n')
    java.chmod(0o755)
    return folder


def connection(cluster, **login):
    return CassandraConnection(cluster.contact_points, port=cluster.port, request_timeout=60.0, **login)


def test_one_node_from_start_to_restart(one, tmp_path, out, capfd, monkeypatch):
    progress, jars = functools.partial(step, stream=out), cache_folder() / 'jars'
    one.start(progress)
    lines = out.getvalue().splitlines()
    begun = list(dict.fromkeys(line.partition(':')[0] for line in lines))
    assert begun == ['cassandra', 'java', '1 node on 127.0.9.1 port 9042']
    assert lines[-1].startswith('1 node on 127.0.9.1 port 9042: 1 of 1 answer CQL ... ')

    (status,) = one.status()
    assert status.answers
    assert status.memory > 200_000_000
    assert os.getsid(status.pid) == status.pid, 'the node is in a session of its own'
    one.start(progress)
    assert out.getvalue().splitlines()[-1].startswith('already running: 1 node on 127.0.9.1')
    assert one.status()[0].pid == status.pid

    assert one.nodetool(['status']) == 0
    assert 'UN  127.0.9.1' in capfd.readouterr().out
    with monkeypatch.context() as small:
        small.setenv('JAVA_HOME', str(small_runtime(tmp_path)))
        small.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
        (tmp_path / 'cache' / 'tfx-cassandra').mkdir(parents=True)
        (tmp_path / 'cache' / 'tfx-cassandra' / 'jars').symlink_to(jars)
        assert one.nodetool(['version']) == 0
    assert 'ReleaseVersion: 5.0' in capfd.readouterr().out
    with pytest.raises(DevClusterError, match=r'^port: got 127\.0\.9\.1:9042 that is in use, rule: free for node 1'):
        DevCluster(tmp_path / 'two', subnet='127.0.9', jmx_port=7421).start()

    with session(connection(one)) as cql:
        cql.execute("CREATE KEYSPACE k WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}")
        cql.execute('CREATE TABLE k.t (a int PRIMARY KEY)')
        cql.execute('INSERT INTO k.t (a) VALUES (7)')
    assert one.stop(progress) is True
    assert one.stop(progress) is False

    again = DevCluster(one.directory, subnet='127.0.9', jmx_port=7411, heap='512M', authenticated=True)
    again.start(progress)
    monkeypatch.setenv('RIGHT', ready.PASSWORD)
    monkeypatch.setenv('WRONG', 'guess')
    with session(connection(again, username=ready.SUPERUSER, password_env='RIGHT')) as cql:
        assert cql.execute('SELECT a FROM k.t').one().a == 7
    with pytest.raises(CredentialsError), session(connection(again, username=ready.SUPERUSER, password_env='WRONG')):
        pass

    pid = again.status()[0].pid
    os.kill(pid, signal.SIGKILL)
    again.ring[0].wait_ended(pid)
    assert again.status()[0].pid is None, 'a node that died leaves no running pid behind'


@pytest.mark.slow
def test_three_nodes_are_a_ring_with_three_copies(tmp_path, out):
    cluster = DevCluster(tmp_path, nodes=3, subnet='127.0.7', jmx_port=7431, heap='512M')
    try:
        cluster.start(functools.partial(step, stream=out))
        assert [status.answers for status in cluster.status()] == [True] * 3
        with session(connection(cluster)) as cql:
            ring = cql.cluster.metadata
            assert {(host.datacenter, host.rack) for host in ring.all_hosts()} == {
                ('dc1', 'rack1'), ('dc1', 'rack2'), ('dc1', 'rack3')
            }  # fmt: skip
            assert len(ring.token_map.ring) == 48
            cql.execute("CREATE KEYSPACE k WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}")
            cql.execute('CREATE TABLE k.t (a int PRIMARY KEY)')
            cql.execute(SimpleStatement('INSERT INTO k.t (a) VALUES (7)', consistency_level=ConsistencyLevel.ALL))
            read = SimpleStatement('SELECT a FROM k.t', consistency_level=ConsistencyLevel.ALL)
            assert cql.execute(read).one().a == 7
            assert len(ring.get_replicas('k', b'\0\0\0\7')) == 3
        os.kill(cluster.status()[2].pid, signal.SIGKILL)
        assert not ready.is_ready(cluster.ring[0]), 'a node that misses another is not ready'
    finally:
        cluster.stop()


def test_a_node_that_ends_while_it_starts_is_told_with_its_reason_and_its_log(one, monkeypatch):
    settings = Node.settings
    monkeypatch.setattr(Node, 'settings', lambda self: settings(self) | {'no_such_setting': 1})
    with pytest.raises(DevClusterError) as caught:
        one.start()
    message = str(caught.value)
    assert message.startswith('node 127.0.9.1: ended with exit code ')
    assert 'no_such_setting' in message
    assert message.endswith(f'(logs in {one.ring[0].log.parent})')
    assert '\n' not in message


def test_an_interrupted_start_leaves_no_node_behind(one, monkeypatch):
    seen = []

    def interrupt(node):
        seen.append(node.pid())
        raise KeyboardInterrupt

    monkeypatch.setattr(ready, 'is_ready', interrupt)
    with pytest.raises(KeyboardInterrupt):
        one.start()
    assert seen != [None]
    assert one.status()[0].pid is None


def test_a_node_outlives_the_command_that_started_it(one):
    code = (
        'import sys; from tfx_cassandra.components.devcluster.node import Node\n'
        'from tfx_cassandra.components.devcluster import launch\n'
        'from tfx_cassandra.components.devcluster.cluster import DevCluster\n'
        'launch.wait_ready = lambda *args: None\n'
        'DevCluster(sys.argv[1], subnet="127.0.9", jmx_port=7411, heap="512M").start()\n'
    )
    subprocess.run([sys.executable, '-c', code, one.directory], check=True, timeout=120)
    assert one.status()[0].pid is not None
