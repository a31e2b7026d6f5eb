"""Seeded faults on a ring of three under constant writes: the result is the model's, or an error says that it is not.

TFX_CASSANDRA_FAULT_SEEDS chooses seeds, as FIRST-LAST; each stands for a path, a fault, a node and moments, and a
failing one can be run again by its number. Each run adds a line of JSON to the file TFX_CASSANDRA_FAULT_RESULTS.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_paths import PATHS, MismatchError, Place
from fault_ring import Case, fault_ring

from tfx_cassandra.components.errors import TfxCassandraError

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FIRST, LAST = map(int, os.environ.get('TFX_CASSANDRA_FAULT_SEEDS', '0-62').split('-'))
RESULTS = os.environ.get('TFX_CASSANDRA_FAULT_RESULTS')
PATIENCE = 240.0  # seconds within which a path ends, whatever happens


@pytest.fixture(scope='module')
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with fault_ring(tmp_path_factory.mktemp('ring')) as ring:
        made = Place(ring, tmp_path_factory.mktemp('files'))
        yield made
        made.writer.end()


@pytest.mark.parametrize('seed', range(FIRST, LAST + 1))
def test_nothing_is_lost_or_doubled_without_an_error(place: Place, seed: int) -> None:
    case = Case.of(seed, tuple(PATHS))
    outcome: list[Exception | None] = []

    def path() -> None:
        try:
            PATHS[case.path](place, seed)
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    running = threading.Thread(target=path, daemon=True)
    began = time.monotonic()
    running.start()
    time.sleep(case.begin)
    met = running.is_alive()
    with place.ring.fault(case.fault, case.node, seed):
        running.join(case.length)
    running.join(PATIENCE)
    assert not running.is_alive(), f'{case}: still running after {PATIENCE:.0f} s'
    place.ring.wait_whole()
    (error,) = outcome
    wrong = error is not None and not isinstance(error, TfxCassandraError)
    said = None if error is None else f'{type(error).__name__}: {error}'.splitlines()[0]
    if RESULTS:
        line = {**dataclasses.asdict(case), 'seconds': round(time.monotonic() - began, 1), 'during': met}
        line |= {'outcome': 'wrong' if wrong else 'equal' if error is None else 'error', 'said': said}
        with Path(RESULTS).open('a') as file:
            file.write(json.dumps(line) + '\n')
    if isinstance(error, MismatchError) or wrong:
        raise AssertionError(f'{case}: {said}') from error
