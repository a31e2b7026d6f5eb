"""The command lines of docs/engines.md have options that Beam knows; its manifests start commands of the image."""

from __future__ import annotations

import subprocess

import doc_pages
import pytest

PAGE = doc_pages.ROOT / 'docs' / 'engines.md'
COMMANDS = doc_pages.pipeline_commands(PAGE)
CONTAINERS = [container for manifest in doc_pages.manifests(PAGE) for container in doc_pages.containers(manifest)]


def test_there_is_a_command_for_each_engine() -> None:
    text = ' '.join(word for command in COMMANDS for word in command)
    for option in ('multi_processing', '--storage_level', '--parallelism', 'DataflowRunner'):
        assert option in text


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_beam_knows_every_option(command: list[str]) -> None:
    known = {*doc_pages.beam_options(), *doc_pages.OF_JOB_SERVERS}
    assert {word.partition('=')[0] for word in command[2:] if word.startswith('--')} <= known


@pytest.mark.parametrize('block', [b for b in doc_pages.blocks(PAGE) if b.language == 'sh'], ids=lambda b: f'{b.line}')
def test_the_shell_reads_every_command(block: doc_pages.Block) -> None:
    read = subprocess.run(['sh', '-n'], input=block.text, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, '')


def test_the_workers_pool_is_a_command_of_the_image() -> None:
    entry = (doc_pages.ROOT / 'kubeflow' / 'container-entrypoint').read_text()
    pools = [container['args'] for container in CONTAINERS if container['name'] == 'beam-workers']
    assert pools == [['worker-pool', '--service_port=50000']] * 2
    assert 'worker-pool)' in entry


def test_services_select_what_is_deployed_and_commands_name_them() -> None:
    manifests = list(doc_pages.manifests(PAGE))
    labels = [m['spec']['template']['metadata']['labels'] for m in manifests if m['kind'] == 'Deployment']
    services = {m['metadata']['name']: m['spec'] for m in manifests if m['kind'] == 'Service'}
    assert services.keys() == {'spark-master', 'job-server'}
    assert all(service['selector'] in labels for service in services.values())
    ports = {f'{name}:{port["port"]}' for name, service in services.items() for port in service['ports']}
    words = [word for command in COMMANDS for word in command]
    assert {word.partition('=')[2] for word in words if word.startswith('--job_endpoint')} <= ports
    (master,) = {word for c in CONTAINERS for word in c.get('command', []) if word.startswith('spark://')}
    assert master.removeprefix('spark://') in ports


def test_secrets_are_named_and_never_shown() -> None:
    passwords = [e for c in CONTAINERS for e in c.get('env', []) if e['name'] == 'CASSANDRA_PASSWORD']
    assert len(passwords) == 3
    assert all(e['valueFrom'] == {'secretKeyRef': {'name': 'cassandra', 'key': 'password'}} for e in passwords)
