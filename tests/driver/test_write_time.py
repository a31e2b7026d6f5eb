"""Write times only grow, whatever the threads, the clock and the children of a process do."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tfx_cassandra.components.driver import opening, write_time
from tfx_cassandra.components.driver.connection import CassandraConnection


def test_no_two_threads_get_the_same() -> None:
    began = time.time_ns() // 1000
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: [write_time.write_time() for _ in range(2000)], range(8)))
    every = list(itertools.chain(*taken))
    assert len(set(every)) == 16_000
    assert all(times == sorted(times) for times in taken)
    assert began <= min(every) < max(every) <= time.time_ns() // 1000 + 16_000


def test_a_clock_that_stands_or_goes_back_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_time, '_last', 0)
    clock = iter([5_000_999, 5_000_999, 1_000, 5_002_000, 9_000_000, 9_000_000])
    monkeypatch.setattr(write_time.time, 'time_ns', lambda: next(clock))
    assert [write_time.write_time() for _ in range(6)] == [5000, 5001, 5002, 5003, 9000, 9001]


def test_a_forked_child_goes_on_from_where_the_parent_was(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = time.time_ns() // 1000 + 10**9
    monkeypatch.setattr(write_time, '_last', ahead)
    context = multiprocessing.get_context('fork')
    queue = context.SimpleQueue()
    process = context.Process(target=lambda: queue.put(write_time.write_time()))
    with write_time._lock:  # as another thread may
        process.start()
    process.join(30)
    hung = process.is_alive()
    process.kill()
    assert not hung
    assert queue.get() == ahead + 1


def test_every_cluster_takes_its_write_times_from_there() -> None:
    options = opening._cluster_options(CassandraConnection())
    assert options['timestamp_generator'] is write_time.write_time
