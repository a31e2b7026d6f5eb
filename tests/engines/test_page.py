"""The pipeline of docs/engines.md runs by the page's own command lines; addresses and folders are of this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import doc_pages
import engine_parts
import pytest
from conftest import RUN_SECONDS, Site
from engine_processes import Engine

pytestmark = [pytest.mark.engines, pytest.mark.integration]

PAGE = engine_parts.CHECKOUT / 'docs' / 'engines.md'
OF_THE_CLUSTER = ('--job_endpoint', '--environment_type', '--environment_config', '--parallelism')


def command(option: str) -> list[str]:
    """Returns the options of the page's one command line that has an option."""
    (found,) = (words for words in doc_pages.pipeline_commands(PAGE) if option in ' '.join(words))
    return found[2:]


def run(site: Site, folder: Path, options: list[str]) -> dict[str, Any]:
    """Runs the page's pipeline as a script of a folder; returns what its coverage.json says."""
    folder.mkdir(parents=True, exist_ok=True)
    (block,) = (block for block in doc_pages.blocks(PAGE) if block.file == 'my_pipeline.py')
    (folder / 'my_pipeline.py').write_text(block.text)
    connection = site.connection
    environ = {
        **os.environ, 'CASSANDRA_CONTACT_POINTS': ','.join(connection.contact_points),
        'CASSANDRA_KEYSPACE': connection.keyspace, 'PIPELINE_ROOT': str(folder / 'root'), 'TF_CPP_MIN_LOG_LEVEL': '3',
    }  # fmt: skip
    line = [site.submitter, 'my_pipeline.py', *options]
    done = subprocess.run(line, cwd=folder, env=environ, capture_output=True, text=True, timeout=RUN_SECONDS)
    assert done.returncode == 0, done.stderr[-5000:]
    (coverage,) = folder.glob('root/CassandraExampleGen/examples/*/coverage.json')
    found = json.loads(coverage.read_text())
    return {name: found[name] for name in ('rows', 'examples', 'examples_checksum', 'fingerprint')}


@pytest.fixture(scope='module')
def in_one_process(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the pipeline gives in one process, without options."""
    assert ['python', 'my_pipeline.py'] in doc_pages.pipeline_commands(PAGE)
    return run(site, tmp_path_factory.mktemp('one'), [])


def test_on_the_laptop_in_four_processes(site: Site, in_one_process: dict[str, Any], tmp_path: Path) -> None:
    assert run(site, tmp_path, command('multi_processing')) == in_one_process


@pytest.mark.parametrize(
    ('engine', 'option'), [('spark', '--storage_level'), ('flink', '--parallelism')], indirect=['engine']
)
def test_on_a_cluster_with_a_worker_pool(
    engine: Engine, option: str, site: Site, in_one_process: dict[str, Any], tmp_path: Path
) -> None:
    """The workers' Python has the package, as the page's image does, and nothing is staged."""
    kept = [word for word in command(option) if not word.startswith(OF_THE_CLUSTER)]
    pooled = dataclasses.replace(engine, workers='pool', folder=tmp_path / 'pool', kept=False)
    pooled.folder.mkdir()
    with pooled.ready(site.submitter, None, {}) as options:
        assert run(site, tmp_path / 'run', [*options, *kept]) == in_one_process
