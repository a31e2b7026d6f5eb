"""Starts a worker of Beam as the boot program of Beam's own containers does, for those that have no such program.

    --id, --provision_endpoint -> the job's options and endpoints -> its staged files, into a folder of this worker
        -> apache_beam.runners.worker.sdk_worker_main in that folder, which finds the staged wheels; one process more
           for each sibling id that the runner names

It serves a PROCESS environment (`command`: this file) and a worker pool (`worker-pool` of the image). A worker pool
alone starts workers without the job's options: without the settings of s3:// and hdfs://, and without staged wheels.
The file needs apache-beam only. The same process goes on as the worker, for Beam takes seconds to import; so a staged
wheel does not replace Beam, nor what it imports.
"""

from __future__ import annotations

import argparse
import logging
import os
import runpy
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_artifact_api_pb2,
    beam_artifact_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
)
from google.protobuf import json_format

_CONNECT_SECONDS = 60
_ENDPOINTS = ('logging_endpoint', 'artifact_endpoint', 'control_endpoint')
_WORKER = 'apache_beam.runners.worker.sdk_worker_main'

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the worker that the arguments describe."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--id', required=True)
    parser.add_argument('--provision_endpoint', required=True)
    for name in _ENDPOINTS:
        parser.add_argument(f'--{name}', default='', help='where the runner does not tell it')
    given, _ = parser.parse_known_args(arguments)
    caller = [('worker_id', given.id)]
    with _channel(given.provision_endpoint) as channel:
        provision = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        info = provision.GetProvisionInfo(beam_provision_api_pb2.GetProvisionInfoRequest(), metadata=caller).info
    for name in _ENDPOINTS:
        endpoint = getattr(info, name)
        endpoint.url = endpoint.url or getattr(given, name)
    folder = Path(tempfile.mkdtemp(prefix='beam-worker-', dir='.')).resolve()
    staged = _staged(info, folder / 'staged', caller)
    packages = _unpacked(staged, folder / 'packages')
    os.environ.update(_environment(given.id, info, folder, packages))
    os.chdir(folder)
    sys.path.insert(0, str(packages))
    for sibling in info.sibling_worker_ids:
        subprocess.Popen([sys.executable, '-m', _WORKER], env={**os.environ, 'WORKER_ID': sibling})
    # As `python -m` does: a pickled main session is loaded into __main__.
    runpy.run_module(_WORKER, run_name='__main__', alter_sys=True)


def _channel(url: str) -> grpc.Channel:
    channel = grpc.insecure_channel(url, [('grpc.max_receive_message_length', -1)])
    grpc.channel_ready_future(channel).result(timeout=_CONNECT_SECONDS)
    return channel


def _staged(info: Any, folder: Path, caller: list[tuple[str, str]]) -> list[Path]:
    """Fetches the job's staged files; returns their paths."""
    if not info.dependencies:
        return []
    with _channel(info.artifact_endpoint.url) as channel:
        return list(_fetched(beam_artifact_api_pb2_grpc.ArtifactRetrievalServiceStub(channel), info, folder, caller))


def _fetched(artifacts: Any, info: Any, folder: Path, caller: list[tuple[str, str]]) -> Iterator[Path]:
    asked = beam_artifact_api_pb2.ResolveArtifactsRequest(artifacts=info.dependencies)
    for artifact in artifacts.ResolveArtifacts(asked, metadata=caller).replacements:
        role = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload)
        path = (folder / role.staged_name).resolve()
        if folder.resolve() not in path.parents:
            raise ValueError(f'staged file: got {role.staged_name!r}, rule: a path below the folder of staged files')
        path.parent.mkdir(parents=True, exist_ok=True)
        wanted = beam_artifact_api_pb2.GetArtifactRequest(artifact=artifact)
        with path.open('wb') as file:
            file.writelines(part.data for part in artifacts.GetArtifact(wanted, metadata=caller))
        yield path


def _unpacked(staged: list[Path], folder: Path) -> Path:
    """Unpacks the staged wheels, without what they depend on, which the worker's Python has to have."""
    sources = sorted(path.name for path in staged if path.name.endswith(('requirements.txt', '.tar.gz', '.zip')))
    if sources:
        _log.warning('staged files: %s not installed, only wheels are', ', '.join(sources))
    for path in staged:
        if path.suffix == '.whl':
            with zipfile.ZipFile(path) as wheel:
                wheel.extractall(folder)
    return folder


def _environment(worker: str, info: Any, folder: Path, packages: Path) -> dict[str, str]:
    """Returns what sdk_worker_main reads."""
    environment = {
        'WORKER_ID': worker,
        'SEMI_PERSISTENT_DIRECTORY': str(folder),
        'PIPELINE_OPTIONS': json_format.MessageToJson(info.pipeline_options),
        'LOGGING_API_SERVICE_DESCRIPTOR': str(info.logging_endpoint),
        'CONTROL_API_SERVICE_DESCRIPTOR': str(info.control_endpoint),
        'RUNNER_CAPABILITIES': ' '.join(info.runner_capabilities),
        'PYTHONPATH': os.pathsep.join(filter(None, [str(packages), os.environ.get('PYTHONPATH')])),
    }
    for name in ('job_id', 'job_name'):
        if name in info.metadata:
            environment[name.upper()] = info.metadata[name]
    if info.status_endpoint.url:
        environment['STATUS_API_SERVICE_DESCRIPTOR'] = str(info.status_endpoint)
    return environment


if __name__ == '__main__':
    main()
