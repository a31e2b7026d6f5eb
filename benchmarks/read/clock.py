"""What a reader's own process does: take its arguments, time its work, and print one JSON line about it.

Only the standard library, for the readers run in environments of their own. The clock starts when a reader has loaded
its libraries and connected, and stops when it holds or has written the last row.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

# Reads its part of `parts` parts and returns its rows; calls the third argument when it is connected.
Read = Callable[[int, int, Callable[[], None]], int]


def parser() -> argparse.ArgumentParser:
    """Makes the parser of what every reader is told: where the table is, and what it may use."""
    options = argparse.ArgumentParser()
    options.add_argument('--host', default='127.0.0.1')
    options.add_argument('--port', type=int, default=9042)
    options.add_argument('--datacenter', default='dc1')
    options.add_argument('--keyspace', default='bench')
    options.add_argument('--table', required=True)
    options.add_argument('--out', help='an empty folder for what the reader writes')
    options.add_argument('--lib', help='the folder of its jars')
    options.add_argument('--processes', type=int, default=1)
    return options


def measure(read: Read, processes: int = 1, **details: Any) -> None:
    """Runs a reader in this process, or in several that start together, and prints its line."""
    if processes == 1:
        clock = _Clock()
        rows = read(0, 1, clock.start)
        say(rows, clock.wall(), clock.cpu(), resident=clock.resident, **details)
        return
    fork = multiprocessing.get_context('fork')
    connected, results = fork.Barrier(processes + 1), fork.SimpleQueue()

    def run(part: int) -> None:
        clock = _Clock()

        def start() -> None:
            connected.wait()
            clock.start()

        rows = read(part, processes, start)
        results.put((rows, clock.cpu()))

    children = [fork.Process(target=run, args=(part,)) for part in range(processes)]
    for child in children:
        child.start()
    connected.wait(timeout=120)
    together = _Clock()
    together.start()
    found = [results.get() for _ in children]
    wall = together.wall()
    for child in children:
        child.join()
    say(sum(rows for rows, _ in found), wall, sum(cpu for _, cpu in found), **details)


def say(rows: int, wall: float, cpu: float | None = None, **details: Any) -> None:
    """Prints the line: rows, seconds of work, CPU seconds of work (None where only the whole process's are known)."""
    print(json.dumps({'rows': rows, 'wall': wall, 'cpu': cpu, **details}), flush=True)


def cpu_seconds() -> float:
    """Returns the CPU seconds of this process and of those it has waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def resident() -> int:
    """Returns the bytes of this process that are resident."""
    with open('/proc/self/statm') as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()


class _Clock:
    def start(self) -> None:
        self.resident = resident()
        self._began, self._used = time.perf_counter(), cpu_seconds()

    def wall(self) -> float:
        return time.perf_counter() - self._began

    def cpu(self) -> float:
        return cpu_seconds() - self._used
