"""A worker starts with the job's options, endpoints and staged files, which its runner serves."""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import (
    beam_artifact_api_pb2,
    beam_artifact_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)

from tfx_cassandra.kubeflow import worker


class Runner(
    beam_provision_api_pb2_grpc.ProvisionServiceServicer, beam_artifact_api_pb2_grpc.ArtifactRetrievalServiceServicer
):
    """A runner with staged files, by name."""

    def __init__(self) -> None:
        self.staged: dict[str, bytes] = {}
        self.callers: list[Any] = []
        self.address, self.control = '', 'localhost:2'
        self.metadata: dict[str, str] = {}
        self.siblings: list[str] = []

    def GetProvisionInfo(self, request: Any, context: Any) -> Any:
        self.callers.append(dict(context.invocation_metadata()).get('worker_id'))
        info = beam_provision_api_pb2.ProvisionInfo(
            logging_endpoint=endpoints_pb2.ApiServiceDescriptor(url='localhost:1'),
            control_endpoint=endpoints_pb2.ApiServiceDescriptor(url=self.control),
            artifact_endpoint=endpoints_pb2.ApiServiceDescriptor(url=self.address),
            dependencies=[
                beam_runner_api_pb2.ArtifactInformation(
                    role_payload=beam_runner_api_pb2.ArtifactStagingToRolePayload(staged_name=name).SerializeToString(),
                    type_payload=name.encode(),
                )
                for name in self.staged
            ],
            metadata=self.metadata,
            sibling_worker_ids=self.siblings,
            runner_capabilities=['beam:protocol:control_response_elements_embedding:v1'],
        )
        info.pipeline_options['beam:option:hdfs_host:v1'] = 'names'
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)

    def ResolveArtifacts(self, request: Any, context: Any) -> Any:
        return beam_artifact_api_pb2.ResolveArtifactsResponse(replacements=request.artifacts)

    def GetArtifact(self, request: Any, context: Any) -> Iterator[Any]:
        content = self.staged[request.artifact.type_payload.decode()]
        for start in range(0, len(content), 10):
            yield beam_artifact_api_pb2.GetArtifactResponse(data=content[start : start + 10])


@pytest.fixture
def runner() -> Iterator[Runner]:
    serving, server = Runner(), grpc.server(futures.ThreadPoolExecutor(4))
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(serving, server)
    beam_artifact_api_pb2_grpc.add_ArtifactRetrievalServiceServicer_to_server(serving, server)
    serving.address = f'127.0.0.1:{server.add_insecure_port("127.0.0.1:0")}'
    server.start()
    yield serving
    server.stop(0).wait()


class BecomeError(Exception):
    """Ends main() where the process would go on as Beam's worker."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """The environment with which the worker's process goes on."""
    environ: dict[str, str] = {}

    def become(module: str, run_name: str, alter_sys: bool) -> None:
        environ.update(os.environ)
        environ['sys.path'] = sys.path[0]
        assert (run_name, alter_sys) == ('__main__', True)
        raise BecomeError(module)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, 'environ', dict(os.environ))
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setattr(runpy, 'run_module', become)
    return environ


def wheel(module: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, 'w') as archive:
        archive.writestr(f'{module}/__init__.py', 'there = True\n')
    return content.getvalue()


def test_a_worker_gets_options_endpoints_and_wheels(runner: Runner, became: dict[str, str], tmp_path: Path) -> None:
    runner.staged = {'one.whl': wheel('one'), 'pickled_main_session': b'session' * 9, 'notes/a.txt': b'a'}
    with pytest.raises(BecomeError, match='sdk_worker_main'):
        worker.main(['--id=7', f'--provision_endpoint={runner.address}', '--logging_endpoint=old'])
    assert runner.callers == ['7']
    assert became['WORKER_ID'] == '7'
    assert json.loads(became['PIPELINE_OPTIONS']) == {'beam:option:hdfs_host:v1': 'names'}
    assert 'localhost:1' in became['LOGGING_API_SERVICE_DESCRIPTOR']
    assert 'localhost:2' in became['CONTROL_API_SERVICE_DESCRIPTOR']
    assert became['RUNNER_CAPABILITIES'] == 'beam:protocol:control_response_elements_embedding:v1'
    for packages in (became['PYTHONPATH'].split(os.pathsep)[0], became['sys.path']):
        assert (Path(packages) / 'one' / '__init__.py').exists()
    folder = Path(became['SEMI_PERSISTENT_DIRECTORY'])
    assert folder.parent == tmp_path
    assert Path.cwd() == folder
    assert (folder / 'staged' / 'pickled_main_session').read_bytes() == b'session' * 9
    assert (folder / 'staged' / 'notes' / 'a.txt').read_bytes() == b'a'


def test_staged_sources_are_named_for_they_are_not_installed(
    runner: Runner, became: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    runner.staged = {'one.whl': wheel('one'), 'workflow.tar.gz': b'sources', 'requirements.txt': b'two', 'a.txt': b''}
    with pytest.raises(BecomeError):
        worker.main(['--id=7', f'--provision_endpoint={runner.address}'])
    assert caplog.messages == ['staged files: requirements.txt, workflow.tar.gz not installed, only wheels are']


def test_a_process_is_started_for_each_sibling(
    runner: Runner, became: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(subprocess, 'Popen', lambda command, env: started.append((command, env)))
    runner.siblings, runner.metadata = ['7-1', '7-2'], {'job_id': 'a1', 'job_name': 'visits'}
    with pytest.raises(BecomeError):
        worker.main(['--id=7', f'--provision_endpoint={runner.address}'])
    assert [environ['WORKER_ID'] for _, environ in started] == ['7-1', '7-2']
    for command, environ in started:
        assert command == [sys.executable, '-m', 'apache_beam.runners.worker.sdk_worker_main']
        assert environ['CONTROL_API_SERVICE_DESCRIPTOR'] == became['CONTROL_API_SERVICE_DESCRIPTOR']
    assert (became['WORKER_ID'], became['JOB_ID'], became['JOB_NAME']) == ('7', 'a1', 'visits')


def test_an_endpoint_that_the_runner_does_not_tell_is_the_argument_s(runner: Runner, became: dict[str, str]) -> None:
    runner.control = ''
    with pytest.raises(BecomeError):
        worker.main(['--id=7', f'--provision_endpoint={runner.address}', '--control_endpoint=localhost:9'])
    assert 'localhost:9' in became['CONTROL_API_SERVICE_DESCRIPTOR']
    assert 'localhost:1' in became['LOGGING_API_SERVICE_DESCRIPTOR']
    assert 'JOB_ID' not in became


def test_two_workers_of_one_folder_have_folders_of_their_own(
    runner: Runner, became: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = set()
    for _ in range(2):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(BecomeError):
            worker.main(['--id=7', f'--provision_endpoint={runner.address}'])
        folders.add(became['SEMI_PERSISTENT_DIRECTORY'])
    assert len(folders) == 2


def test_a_staged_file_stays_in_its_folder(runner: Runner, became: dict[str, str], tmp_path: Path) -> None:
    runner.staged = {'../../outside': b'x'}
    with pytest.raises(ValueError, match=r"^staged file: got '../../outside', rule: "):
        worker.main(['--id=7', f'--provision_endpoint={runner.address}'])
    assert not (tmp_path / 'outside').exists()
