"""What the boot program of Beam's container does, for a worker of a PROCESS environment: started by the runner's JVM.

--id and --provision_endpoint -> the job's options and endpoints -> what was staged for it, into a folder of this worker
-> apache_beam.runners.worker.sdk_worker_main, which sees the staged wheels.
"""

from __future__ import annotations

import argparse
import os
import sys
import zipfile
from pathlib import Path

import grpc
from apache_beam.portability.api import (
    beam_artifact_api_pb2,
    beam_artifact_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
)
from google.protobuf import json_format

parser = argparse.ArgumentParser()
parser.add_argument('--id', required=True)
parser.add_argument('--provision_endpoint', required=True)
known, _ = parser.parse_known_args()


def channel(url: str) -> grpc.Channel:
    identified = grpc.intercept_channel(grpc.insecure_channel(url, [('grpc.max_receive_message_length', -1)]))
    grpc.channel_ready_future(identified).result(timeout=60)
    return identified


calls = {'metadata': [('worker_id', known.id)]}
provision = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel(known.provision_endpoint))
info = provision.GetProvisionInfo(beam_provision_api_pb2.GetProvisionInfoRequest(), **calls).info

folder = Path(f'worker-{os.getpid()}').resolve()
folder.mkdir()
if info.dependencies:
    artifacts = beam_artifact_api_pb2_grpc.ArtifactRetrievalServiceStub(channel(info.artifact_endpoint.url))
    request = beam_artifact_api_pb2.ResolveArtifactsRequest(artifacts=info.dependencies)
    for artifact in artifacts.ResolveArtifacts(request, **calls).replacements:
        name = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload).staged_name
        (folder / 'staged' / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / 'staged' / name).open('wb') as file:
            for part in artifacts.GetArtifact(beam_artifact_api_pb2.GetArtifactRequest(artifact=artifact), **calls):
                file.write(part.data)
packages = folder / 'packages'
for wheel in (folder / 'staged').glob('*.whl'):
    with zipfile.ZipFile(wheel) as content:  # all that installing a wheel without scripts is
        content.extractall(packages)

os.environ |= {
    'WORKER_ID': known.id,
    'SEMI_PERSISTENT_DIRECTORY': str(folder),
    'PIPELINE_OPTIONS': json_format.MessageToJson(info.pipeline_options),
    'LOGGING_API_SERVICE_DESCRIPTOR': str(info.logging_endpoint),
    'CONTROL_API_SERVICE_DESCRIPTOR': str(info.control_endpoint),
    'RUNNER_CAPABILITIES': ' '.join(info.runner_capabilities),
    'PYTHONPATH': os.pathsep.join(filter(None, [str(packages), os.environ.get('PYTHONPATH')])),
}
if info.status_endpoint.url:
    os.environ['STATUS_API_SERVICE_DESCRIPTOR'] = str(info.status_endpoint)
os.chdir(folder)
os.execv(sys.executable, [sys.executable, '-m', 'apache_beam.runners.worker.sdk_worker_main'])
