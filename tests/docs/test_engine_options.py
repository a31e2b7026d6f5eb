"""The command lines of docs/engines.md have options that Beam knows; its manifests start commands of the image."""

from __future__ import annotations

import shlex

import doc_pages
import pytest
import yaml

PAGE = doc_pages.ROOT / 'docs' / 'engines.md'


def commands() -> list[list[str]]:
    blocks = [block for block in doc_pages.blocks(PAGE) if block.language == 'sh']
    lines = [line for block in blocks for line in block.text.replace('\\\n', ' ').splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith('python my_pipeline.py')]


def test_there_is_a_command_for_each_engine() -> None:
    text = ' '.join(word for command in commands() for word in command)
    for runner in ('multi_processing', 'PrismRunner', 'PortableRunner', 'DataflowRunner'):
        assert runner in text


@pytest.mark.parametrize('command', commands(), ids=' '.join)
def test_beam_knows_every_option(command: list[str]) -> None:
    known = {*doc_pages.beam_options(), *doc_pages.OF_JOB_SERVERS}
    assert {word.partition('=')[0] for word in command[2:] if word.startswith('--')} <= known


def test_the_workers_pool_is_a_command_of_the_image() -> None:
    entry = (doc_pages.ROOT / 'kubeflow' / 'container-entrypoint').read_text()
    manifests = [yaml.safe_load(block.text) for block in doc_pages.blocks(PAGE) if block.language == 'yaml']
    found = [
        container['args']
        for manifest in manifests
        for spec in (manifest['spec'], manifest['spec'].get('taskManager', {}).get('podTemplate', {}).get('spec', {}))
        for container in spec.get('containers', ())
        if 'args' in container
    ]
    assert found == [['worker-pool', '--service_port=50000']] * 2
    assert 'worker-pool)' in entry
