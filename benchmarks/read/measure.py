"""Runs one reader in a process of its own and says what it took, children included."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SAMPLE_EVERY = 0.05  # seconds between two looks at the memory
_PAGE = os.sysconf('SC_PAGE_SIZE')


class ReaderError(Exception):
    """A reader ended without its line; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a reader.

    Attributes:
      rows: Rows it says it has read.
      wall: Seconds of its work, without start-up.
      cpu: CPU seconds of its work, or of the whole process where it cannot tell them apart.
      peak: Most bytes resident at one time, summed over the process and its descendants. Memory that they share
        counts once in each.
      process_wall, process_cpu: Seconds of the whole process, start-up and all descendants it waited for included.
      details: What else it says.
    """

    rows: int
    wall: float
    cpu: float
    peak: int
    process_wall: float
    process_cpu: float
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def run(command: Sequence[str], log: Path, environ: Mapping[str, str], timeout: float) -> Run:
    """Runs a command that ends with a line of clock.say on its standard output.

    Args:
      command: The command.
      log: File that gets its standard error.
      environ: Its environment.
      timeout: Seconds after which it is ended.

    Raises:
      ReaderError: It failed, took too long, or did not print its line.
    """
    with tempfile.TemporaryFile('w+') as out, log.open('w') as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=dict(environ), start_new_session=True)
        status, usage, peak = _wait(process.pid, began + timeout)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = out.read().splitlines()
    said = _line(lines)
    if process.returncode or said is None:
        said_last = [line.strip() for line in [*lines, *log.read_text(errors='replace').splitlines()] if line.strip()]
        late = ' (out of time)' if wall >= timeout else ''
        raise ReaderError(f'exit code {process.returncode}{late}: {said_last[-1][:200] if said_last else "no output"}')
    whole = usage.ru_utime + usage.ru_stime
    rows, work, cpu = said.pop('rows'), said.pop('wall'), said.pop('cpu')
    # A short-lived peak falls between two samples, but not the one of the largest single process.
    return Run(rows, work, whole if cpu is None else cpu, max(peak, usage.ru_maxrss * 1024), wall, whole, said)


def _wait(pid: int, until: float) -> tuple[int, Any, int]:
    peak = 0
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage, peak
        if time.perf_counter() > until:
            os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            return status, usage, peak
        peak = max(peak, sum(map(_resident, _family(pid))))
        time.sleep(SAMPLE_EVERY)


def _family(pid: int) -> list[int]:
    found = [pid]
    for parent in found:  # grows while it is read
        try:
            for task in os.listdir(f'/proc/{parent}/task'):
                found += map(int, Path(f'/proc/{parent}/task/{task}/children').read_text().split())
        except OSError:  # it has just ended
            continue
    return found


def _resident(pid: int) -> int:
    try:
        return int(Path(f'/proc/{pid}/statm').read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def _line(lines: Sequence[str]) -> dict[str, Any] | None:
    for line in reversed(lines):
        if line.startswith('{"rows"'):
            return json.loads(line)
    return None
