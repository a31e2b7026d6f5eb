import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tfx_cassandra.components.devcluster import exporter
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.devcluster.distribution import Distribution
from tfx_cassandra.components.devcluster.node import heap_bytes, ring_tokens


@pytest.fixture
def node(tmp_path):
    return DevCluster(tmp_path / 'a folder', nodes=3, subnet='127.0.9').ring[1]


@pytest.fixture
def started():
    """Starts a process with the given arguments, which lives until the test ends or something kills it."""
    processes = []

    def start(code, *arguments):
        process = subprocess.Popen([sys.executable, '-c', code, *arguments], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout.readline() == 'up\n'
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


LIVES = 'import time; print("up", flush=True); time.sleep(600)'
IGNORES = f'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {LIVES}'


def config_option(node):
    return f'-Dcassandra.config={(node.folder / "cassandra.yaml").as_uri()}'


def test_the_settings_are_yaml_with_the_nodes_own_addresses_and_folders(node):
    node.write_settings()
    settings = yaml.safe_load((node.folder / 'cassandra.yaml').read_text())
    expected = {
        'listen_address': '127.0.9.2',
        'rpc_address': '127.0.9.2',
        'native_transport_port': 9042,
        'storage_port': 7000,
        'num_tokens': 16,
        'auto_bootstrap': False,
        'materialized_views_enabled': True,
        'authenticator': 'AllowAllAuthenticator',
        'endpoint_snitch': 'GossipingPropertyFileSnitch',
        'data_file_directories': [f'{node.folder}/data'],
        'commitlog_directory': f'{node.folder}/commitlog',
        'hints_directory': f'{node.folder}/hints',
        'saved_caches_directory': f'{node.folder}/saved_caches',
        'cdc_raw_directory': f'{node.folder}/cdc_raw',
    }
    assert {key: settings[key] for key in expected} == expected
    seeds = settings['seed_provider'][0]['parameters'][0]['seeds']
    assert seeds == '127.0.9.1:7000,127.0.9.2:7000,127.0.9.3:7000'
    assert len(settings['initial_token'].split(',')) == 16
    assert (node.folder / 'cassandra-rackdc.properties').read_text() == 'dc=dc1\nrack=rack2\n'
    assert all(
        (node.folder / name).is_dir() for name in ('data', 'commitlog', 'hints', 'saved_caches', 'cdc_raw', 'logs')
    )


def test_a_login_is_required_if_the_node_is_authenticated(node):
    assert dataclasses.replace(node, authenticated=True).settings()['authenticator'] == 'PasswordAuthenticator'


def test_the_tokens_of_a_ring_are_distinct_and_the_same_each_time():
    tokens = [token for index in range(3) for token in ring_tokens(index, 16)]
    assert len(set(tokens)) == 48
    assert len(ring_tokens(0, 1)) == 1
    assert all(-(2**63) < token < 2**63 for token in tokens)
    assert ring_tokens(0, 16)[0] == -8476567021450259370


def test_the_command_runs_the_daemon_on_the_distribution(node):
    agent = Path('/lib/jamm-0.4.0.jar')
    command = node.command(Path('/bin/java'), Distribution('5.0.8', (Path('/lib/a.jar'), agent), agent))
    assert command[0] == '/bin/java'
    assert command[-3:] == ['-cp', '/lib/a.jar:/lib/jamm-0.4.0.jar', 'org.apache.cassandra.service.CassandraDaemon']
    assert {'-Xmx1G', '-javaagent:/lib/jamm-0.4.0.jar', '-Dcassandra.jmx.local.port=7200', config_option(node)} <= set(
        command
    )


def test_the_exporter_of_metrics_is_an_agent_on_the_nodes_address(node):
    agent = Path('/lib/jamm-0.4.0.jar')
    distribution = Distribution('5.0.8', (agent,), agent)
    shown = dataclasses.replace(node, metrics_port=7070).command(Path('/bin/java'), distribution, Path('/lib/jmx.jar'))
    assert f'-javaagent:/lib/jmx.jar={node.address}:7070:{exporter.CONFIGURATION}' in shown
    assert exporter.CONFIGURATION.is_file()
    assert not [word for word in node.command(Path('/bin/java'), distribution) if 'jmx.jar' in word]


@pytest.mark.parametrize(('heap', 'expected'), [('256M', 268435456), ('1G', 1073741824), ('12G', 12884901888)])
def test_heap_bytes(heap, expected):
    assert heap_bytes(heap) == expected


@pytest.mark.parametrize('content', ['', 'x', '999999999', pytest.param(str(os.getpid()), id='own')])
def test_a_pid_file_that_does_not_name_the_node_is_ignored(node, content):
    node.folder.mkdir(parents=True)
    (node.folder / 'pid').write_text(content)
    assert node.pid() is None
    assert node.terminate() is None


def test_a_process_that_is_not_the_node_is_never_signalled(node, started):
    stranger = started(LIVES, '-Dcassandra.config=file:///another/cassandra.yaml')
    node.folder.mkdir(parents=True)
    (node.folder / 'pid').write_text(str(stranger.pid))
    assert node.terminate() is None
    node.wait_ended(stranger.pid, 0)
    assert stranger.poll() is None


@pytest.mark.parametrize(('code', 'signal'), [(LIVES, -15), (IGNORES, -9)])
def test_a_node_is_asked_to_end_and_killed_if_it_does_not(node, started, code, signal):
    process = started(code, config_option(node))
    (node.folder).mkdir(parents=True)
    (node.folder / 'pid').write_text(str(process.pid))
    assert node.terminate() == process.pid
    node.wait_ended(process.pid, 0.5)
    assert not (node.folder / 'pid').exists()
    assert process.wait() == signal


@pytest.mark.parametrize(
    ('log', 'console', 'expected'),
    [
        ('', '', 'its logs are empty'),
        ('INFO  [main] a\nINFO  [main] b\n', '', 'INFO  [main] b'),
        ('ERROR [main] broken\njava.lang.X: why\n\tat x.y(Z.java:1)\nINFO  [main] c\n', '', 'java.lang.X: why'),
        ('INFO  [main] a\n', 'WARNING: old\nException (X) while starting\n\tat x.y\n', 'Exception (X) while starting'),
        ('', 'Error: Could not create the machine.\n', 'Error: Could not create the machine.'),
    ],
)
def test_the_last_error_is_the_last_error_line_of_this_run(node, log, console, expected):
    node.log.parent.mkdir(parents=True)
    node.log.write_text('ERROR [main] of an earlier run\n')
    sizes = node.log_sizes()
    node.log.write_text(node.log.read_text() + log)
    node.console.write_text(console)
    assert node.last_error(sizes) == expected
