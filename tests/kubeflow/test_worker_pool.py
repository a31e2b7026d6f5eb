"""A pool starts workers of executors that know nothing of each other, and stops those that they mean."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from tfx_cassandra.kubeflow import worker_pool

# Ends by itself, as a worker whose control channel is closed, when its file is gone.
WORKER = """#!/bin/sh
for word; do case $word in --control_endpoint=*) file=${word#*=};; esac; done
case $file in *loud) yes "printed by a worker" | head -c 200000;; esac
echo $$ >"$file"
while [ -e "$file" ]; do sleep 0.05; done
"""


class Pool:
    """A running pool, and the workers that were started by it."""

    def __init__(self, stub: beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub, folder: Path) -> None:
        self._stub, self._folder = stub, folder

    def start(self, worker: str, executor: str) -> int:
        """Starts a worker for an executor; returns the number of its process."""
        file = self._folder / executor
        request = beam_fn_api_pb2.StartWorkerRequest(worker_id=worker)
        request.control_endpoint.url = str(file)
        assert not self._stub.StartWorker(request).error
        until(lambda: file.exists() and file.read_text().endswith('\n'))
        return int(file.read_text())

    def close(self, executor: str) -> None:
        (self._folder / executor).unlink()

    def stop(self, worker: str) -> None:
        self._stub.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id=worker))


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def runs(process: int) -> bool:
    """Whether a process runs and has not ended."""
    try:
        return 'Z' not in Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    boot = tmp_path / 'boot'
    boot.write_text(WORKER)
    boot.chmod(0o755)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    command = [sys.executable, worker_pool.__file__, f'--service_port={port}', f'--container_executable={boot}']
    server = subprocess.Popen(command)
    try:
        with grpc.insecure_channel(f'127.0.0.1:{port}') as channel:
            grpc.channel_ready_future(channel).result(timeout=60)
            yield Pool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel), tmp_path)
    finally:
        server.terminate()
        server.wait(30)
        for process in server_processes(tmp_path):
            os.kill(process, 9)


def server_processes(folder: Path) -> list[int]:
    started = [int(path.read_text()) for path in folder.glob('executor*')]
    return [process for process in started if runs(process)]


def test_the_only_worker_of_its_id_is_stopped(pool: Pool) -> None:
    first, other = pool.start('1-1', 'executor-1'), pool.start('2-1', 'executor-2')
    pool.stop('1-1')
    until(lambda: not runs(first))
    assert runs(other)
    pool.stop('1-1')  # there is none
    assert runs(other)


def test_a_worker_may_print_more_than_a_pipe_holds(pool: Pool) -> None:
    loud = pool.start('1-1', 'executor-loud')
    pool.close('executor-loud')
    until(lambda: not runs(loud))


@pytest.mark.parametrize('closed_first', [True, False])
def test_a_worker_of_another_executor_with_the_same_id_goes_on(pool: Pool, closed_first: bool) -> None:
    workers = {name: pool.start('21-1', name) for name in ('executor-1', 'executor-2')}
    if closed_first:
        pool.close('executor-1')
        until(lambda: not runs(workers['executor-1']))
        pool.stop('21-1')
    else:
        stopping = threading.Thread(target=pool.stop, args=('21-1',))
        stopping.start()
        time.sleep(0.5)
        assert all(map(runs, workers.values())), 'which of them is meant is not known yet'
        pool.close('executor-1')
        stopping.join(20)
        assert not stopping.is_alive()
    assert not runs(workers['executor-1'])
    assert runs(workers['executor-2'])
    pool.stop('21-1')  # now it is the only one
    until(lambda: not runs(workers['executor-2']))
