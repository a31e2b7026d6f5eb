"""A pool that starts Beam's workers for several executors, of one job or of many.

Beam's own pool tells workers apart by their ids alone, and each executor counts its own from 1: where two share a pool,
one that stops its worker stops the other's, which then waits for that worker for ever. Here a worker is stopped only
where no other has its id; where others have, it ends by itself, for its executor has closed its control channel.
The file needs apache-beam only.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Any

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer, kill_process_gracefully

_SECONDS = 30  # that a worker may take to end by itself
_POLL = 0.1  # seconds


class WorkerPool(BeamFnExternalWorkerPoolServicer):
    """Starts a process for each worker that is asked for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._lock = threading.Lock()
        self._started: dict[str, list[subprocess.Popen[bytes]]] = {}  # by worker id

    def StartWorker(self, request: Any, context: Any) -> Any:
        with self._lock:
            response = super().StartWorker(request, context)
            process = self._worker_processes.pop(request.worker_id, None)
            if process is not None:
                self._started.setdefault(request.worker_id, []).append(process)
                threading.Thread(target=_pass_on, args=(process.stdout,), daemon=True).start()
                # Under a key of its own, for Beam stops all of these when the pool ends.
                self._worker_processes[f'{request.worker_id} {process.pid}'] = process
        return response

    def StopWorker(self, request: Any, context: Any) -> Any:
        deadline = time.monotonic() + _SECONDS
        while self._ambiguous(request.worker_id) and time.monotonic() < deadline:
            time.sleep(_POLL)
        process = self._taken(request.worker_id)
        if process is not None:
            kill_process_gracefully(process)
        return beam_fn_api_pb2.StopWorkerResponse()

    def _ambiguous(self, worker: str) -> bool:
        """Whether several workers have this id, none of which has ended."""
        with self._lock:
            started = self._started.get(worker, [])
            return len(started) > 1 and all(process.poll() is None for process in started)

    def _taken(self, worker: str) -> subprocess.Popen[bytes] | None:
        """Forgets a worker with this id: one that has ended, or the only one; None where neither is there."""
        with self._lock:
            started = self._started.get(worker, [])
            ended = [process for process in started if process.poll() is not None]
            if not started or (len(started) > 1 and not ended):
                return None
            process = (ended or started)[0]
            started.remove(process)
            del self._worker_processes[f'{worker} {process.pid}']
            return process


def _pass_on(output: IO[bytes]) -> None:
    """Writes to stderr what a worker prints: a worker whose pipe nobody reads waits for ever once it is full."""
    with output:
        while part := output.read1(1 << 16):  # type: ignore[attr-defined]
            sys.stderr.buffer.write(part)
            sys.stderr.buffer.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument('--container_executable', required=True, help='starts a worker, as that of a container of Beam')
    parser.add_argument('--service_port', required=True, type=int)
    given, _ = parser.parse_known_args(arguments)
    _, server = WorkerPool.start(
        use_process=True, port=given.service_port, container_executable=given.container_executable
    )
    server.wait_for_termination()


if __name__ == '__main__':
    main()
