"""The suite fails where a mechanism that a promise stands on is switched off; with it, the same tests pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from switched_off import MECHANISMS, VARIABLE

from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TESTS = Path(__file__).parent
# For each mechanism the tests that fail without it, and what they say then.
RED = {
    'coverage ledger': (
        'integration/test_scan_command.py::test_a_lost_split_fails_and_leaves_nothing',
        'assert 0 == 2',  # the command said that all was well
    ),
    'retry': ('faults/test_faults.py::test_every_nth_page_fails', r'token range .*: not read in 1 attempts'),
    'lightweight transaction': (
        'integration/test_model_registry.py::test_thirty_two_threads_with_different_models_all_get_a_version',
        r'assert [1-9]\d* == 32',
    ),
    'event-time timestamp': (
        'integration/test_write.py::test_the_later_write_time_wins_whatever_the_order',
        r'assert \(1\.0, \d+\) == \(2\.0, \d+\)',
    ),
    'host-name check': ('security/test_tls.py::test_a_certificate_of_another_address', 'DID NOT RAISE'),
}


def run(test: str, off: str) -> tuple[int, str]:
    """Runs a test in a process of its own; returns its exit code and what it printed."""
    environ = {
        **os.environ, VARIABLE: off, 'PYTHONPATH': str(TESTS / 'instruments'), 'TFX_CASSANDRA_REQUIRE_CLUSTER': '1',
        'PYTEST_XDIST_WORKER': 'gw15',  # so that its nodes have addresses of their own
    }  # fmt: skip
    command = [sys.executable, '-m', 'pytest', '-q', '-n', '0', '-p', 'switched_off', '-p', 'no:cacheprovider', test]
    done = subprocess.run(command, cwd=TESTS, env=environ, capture_output=True, text=True, timeout=550, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_mechanism_is_tried() -> None:
    assert set(RED) == set(MECHANISMS)


@pytest.mark.parametrize('mechanism', RED)
def test_the_suite_fails_without(cluster_connection: CassandraConnection, mechanism: str) -> None:
    test, says = RED[mechanism]
    code, output = run(test, '')
    assert code == 0, output[-3000:]
    code, output = run(test, mechanism)
    assert code == 1, output[-3000:]
    assert re.search(r'\d+ failed', output)
    assert ' error' not in output.splitlines()[-1]
    assert re.search(says, output), output[-3000:]
