"""Seeded faults on a ring of three under constant writes: the result is the model's, or an error says that it is not.

TFX_CASSANDRA_FAULT_SEEDS chooses seeds, as FIRST-LAST; each stands for a fault of a node and three paths that meet
it at the same time, each at a moment of its own, and a failing one can be run again by its number. Each run of a path
adds a line to the file of fault_results.py.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from fault_paths import PATHS
from fault_place import Place
from fault_results import Outcome, note, outcome_of
from fault_ring import Case, fault_ring

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FIRST, LAST = map(int, os.environ.get('TFX_CASSANDRA_FAULT_SEEDS', '0-32').split('-'))
PATIENCE = 600.0  # seconds within which a path ends, whatever happens


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with fault_ring(tmp_path_factory.mktemp('ring')) as ring:
        made = Place(ring, tmp_path_factory.mktemp('files'))
        yield made
        made.writer.end()


@pytest.fixture(scope='module')
def usual(place: Place) -> dict[str, float]:
    """Seconds that each path takes without a fault, where it has to end without an error; the first time it imports."""
    seconds = {}
    for path in PATHS:
        began = time.monotonic()
        PATHS[path](place, 100_000)
        seconds[path] = time.monotonic() - began
    return seconds


class Run(threading.Thread):
    """A path that begins after some seconds.

    Attributes:
      path: One of PATHS.
      outcome: What it ended with.
      seconds: How long it took.
    """

    def __init__(self, place: Place, path: str, seed: int, delay: float) -> None:
        super().__init__(daemon=True)
        self.path, self.outcome, self.seconds = path, Outcome('running'), 0.0
        self._place, self._seed, self._delay = place, seed, delay

    def run(self) -> None:
        time.sleep(self._delay)
        began = time.monotonic()
        self.outcome = outcome_of(lambda: PATHS[self.path](self._place, self._seed))
        self.seconds = round(time.monotonic() - began, 1)


@pytest.mark.parametrize('seed', range(FIRST, LAST + 1))
def test_nothing_is_lost_or_doubled_without_an_error(place: Place, usual: dict[str, float], seed: int) -> None:
    case = Case.of(seed, tuple(PATHS))
    moments = {path: share * usual[path] for path, share in case.begins.items()}
    last = max(moments.values())
    runs = [Run(place, path, seed, last - moment) for path, moment in moments.items()]
    for run in runs:
        run.start()
    time.sleep(last)
    met = {run.path: run.is_alive() for run in runs}
    with place.ring.fault(case.fault, case.node, seed):
        end = time.monotonic() + case.length
        for run in runs:
            run.join(max(0.0, end - time.monotonic()))
    for run in runs:
        run.join(PATIENCE)
    assert not [run.path for run in runs if run.is_alive()], f'{case}: still running after {PATIENCE:.0f} s'
    place.ring.wait_whole()
    for run in runs:
        if run.outcome.kind == 'equal':
            usual[run.path] = min(usual[run.path], run.seconds)
        note(run.path, case.fault, run.outcome, seconds=run.seconds, met=met[run.path], **case.facts)
    wrong = [(run.path, run.outcome.said) for run in runs if run.outcome.kind == 'wrong']
    assert not wrong, case
