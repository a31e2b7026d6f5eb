"""Runs pipelines.py with Dataflow's client, which keeps its uploads in a folder: python dataflow_compile.py OUT
PIPELINES.PY NAME... -- OPTIONS. Prints the job requests, and writes each pipeline to OUT/pipeline-N.pb.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import sys
from typing import Any

from apache_beam.io.gcp import gcsio
from apache_beam.runners.dataflow.internal import apiclient

out = sys.argv[1]
requests: list[dict[str, Any]] = []


def upload(self: Any, folder: str, name: str, stream: Any, **_: Any) -> None:
    with open(os.path.join(out, name.replace('/', '_')), 'wb') as file:
        file.write(stream.read())


def copy(self: Any, source: str, target: str, *_: Any) -> None:
    with open(source, 'rb') as file:
        upload(self, '', os.path.basename(target), file)


def submit(self: Any, job: Any) -> None:
    requests.append(json.loads(job.json()))
    with open(os.path.join(out, f'pipeline-{len(requests)}.pb'), 'wb') as file:
        file.write(job.proto_pipeline.SerializeToString())
    raise SystemExit('compiled')


client = apiclient.DataflowApplicationClient
client.stage_file = client.stage_file_with_retry = upload
client._gcs_file_copy = client._cached_gcs_file_copy = client._uncached_gcs_file_copy = copy
client.submit_job_description = submit
gcsio.GcsIO.is_soft_delete_enabled = lambda *_: False  # it asks for the bucket, for minutes where there is none
end = sys.argv.index('--')
pipelines = runpy.run_path(sys.argv[2], run_name='pipelines')['PIPELINES']
for pipeline in sys.argv[3:end]:
    with contextlib.suppress(SystemExit):
        pipelines[pipeline](os.path.join(out, pipeline), sys.argv[end + 1 :])
print(json.dumps(requests))
