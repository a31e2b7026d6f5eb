"""What Dataflow would be given: each pipeline compiled to its job request, and all its functions loaded from pickles.

Nothing is sent. The functions are loaded in the workers' Python, which has the wheel and nothing of this checkout.
"""

from __future__ import annotations

import json
import os
import subprocess
import zipfile
from pathlib import Path

import engine_parts
import pytest
from conftest import Site

pytestmark = [pytest.mark.engines, pytest.mark.integration]


def test_each_pipeline_compiles_for_dataflow_and_its_functions_load_on_a_worker(site: Site, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    options = [
        '--runner=DataflowRunner', '--project=my-project', '--region=europe-west1', '--no_auth',
        '--temp_location=gs://my-bucket/temp', '--staging_location=gs://my-bucket/staging', '--job_name=features',
        '--sdk_container_image=europe-docker.pkg.dev/my-project/ml/tfx-cassandra:1', '--sdk_location=container',
        '--num_workers=20', '--max_num_workers=50', '--number_of_worker_harness_threads=4',
        '--subnetwork=regions/europe-west1/subnetworks/cassandra', '--no_use_public_ips',
        '--experiments=no_use_multiple_sdk_containers',
    ]  # fmt: skip
    names = ['scan', 'join', 'pivot', 'reduce', 'write']
    environ = {
        **os.environ, 'CASSANDRA_CONTACT_POINTS': ','.join(site.connection.contact_points),
        'CASSANDRA_KEYSPACE': site.connection.keyspace, 'TF_CPP_MIN_LOG_LEVEL': '3',
    }  # fmt: skip
    command = [site.submitter, engine_parts.HERE / 'dataflow_compile.py', out, engine_parts.HERE / 'pipelines.py']
    done = subprocess.run(
        [*command, *names, '--', *options], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-5000:]
    requests = json.loads(done.stdout.splitlines()[-1])
    assert len(requests) == len(names)
    for request in requests:
        assert request['type'] == 'JOB_TYPE_BATCH'
        image = 'europe-docker.pkg.dev/my-project/ml/tfx-cassandra:1'
        assert image in json.dumps(request['environment'])
    packages = tmp_path / 'packages'
    with zipfile.ZipFile(site.wheel) as wheel:
        wheel.extractall(packages)
    compiled = sorted(out.glob('pipeline-*.pb'))
    command = [site.worker, engine_parts.HERE / 'dataflow_load.py', *compiled]
    environ = {**os.environ, 'PYTHONPATH': str(packages), 'TF_CPP_MIN_LOG_LEVEL': '3'}
    loading = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=600)
    assert loading.returncode == 0, loading.stderr[-5000:]
    result = json.loads(loading.stdout.splitlines()[-1])
    assert result['loaded'] > 100
    assert result['own']
    assert all(path.startswith(str(packages)) for path in result['own'])
