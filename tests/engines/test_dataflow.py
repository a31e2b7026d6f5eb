"""What Dataflow would be given by the command line of docs/engines.md: job requests, whose functions all load.

Nothing is sent. The functions are loaded in the workers' Python, which has the wheel and nothing of this checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import doc_pages
import engine_parts
import pytest
from conftest import RUN_SECONDS, Site

PAGE = engine_parts.CHECKOUT / 'docs' / 'engines.md'

pytestmark = [pytest.mark.engines, pytest.mark.integration]


def test_each_pipeline_compiles_for_dataflow_and_its_functions_load_on_a_worker(site: Site, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    (shown,) = (words for words in doc_pages.pipeline_commands(PAGE) if '--runner=DataflowRunner' in words)
    options = [*shown[2:], '--no_auth', '--job_name=features']
    names = ['scan', 'join', 'pivot', 'reduce', 'write']
    environ = {
        **os.environ, 'CASSANDRA_CONTACT_POINTS': ','.join(site.connection.contact_points),
        'CASSANDRA_KEYSPACE': site.connection.keyspace, 'TF_CPP_MIN_LOG_LEVEL': '3',
    }  # fmt: skip
    command = [site.submitter, engine_parts.HERE / 'dataflow_compile.py', out, engine_parts.HERE / 'pipelines.py']
    done = subprocess.run(
        [*command, *names, '--', *options],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    requests = json.loads(done.stdout.splitlines()[-1])
    assert len(requests) == len(names)
    for request in requests:
        assert request['type'] == 'JOB_TYPE_BATCH'
        image = 'europe-docker.pkg.dev/my-project/ml/visits:1'
        assert image in json.dumps(request['environment'])
    packages = tmp_path / 'packages'
    with zipfile.ZipFile(site.wheel) as wheel:
        wheel.extractall(packages)
    compiled = sorted(out.glob('pipeline-*.pb'))
    command = [site.worker, engine_parts.HERE / 'dataflow_load.py', *compiled]
    environ = {**os.environ, 'PYTHONPATH': str(packages), 'TF_CPP_MIN_LOG_LEVEL': '3'}
    loading = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=RUN_SECONDS)
    assert loading.returncode == 0, loading.stderr[-5000:]
    result = json.loads(loading.stdout.splitlines()[-1])
    assert result['loaded'] > 100
    assert result['own']
    assert all(path.startswith(str(packages)) for path in result['own'])
