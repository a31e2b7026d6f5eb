"""The compiled parts end with a result or an error of one line, whatever bytes they are given: see `fuzz_targets`.

A coverage-guided engine chooses the bytes (`make fuzz`); without it the seeds and changes of them are tried.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import fuzz_targets
import pytest

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / 'tools' / 'fuzz'
EXECUTIONS = 5_000_000


def fuzzed(target: str, executions: int, *options: str) -> tuple[int, int]:
    """Runs the engine; returns the executions that it counted, and the edges of the code that they covered."""
    run = subprocess.run([ENGINE, target, str(executions), *options], capture_output=True, text=True, check=False)
    if run.returncode == 3:
        pytest.skip(run.stderr.strip().removeprefix('error: '))
    assert run.returncode == 0, run.stderr[-5000:]
    edges = re.search(r'DONE +cov: (\d+)', run.stderr)
    return int(re.findall(r'number_of_executed_units: (\d+)', run.stderr)[-1]), int(edges[1]) if edges else 0


@pytest.mark.slow
@pytest.mark.parametrize('target', fuzz_targets.TARGETS)
def test_millions_of_inputs_end_in_a_result_or_an_error(
    target: str, record_property: Callable[[str, int], None]
) -> None:
    executions, edges = fuzzed(target, EXECUTIONS)
    record_property('executions', executions)
    record_property('edges', edges)
    assert executions >= EXECUTIONS
    assert edges > 800  # less is the cost of refusing all


@pytest.mark.parametrize('target', fuzz_targets.TARGETS)
def test_seeds_and_changes_of_them(target: str) -> None:
    function, seeds = fuzz_targets.TARGETS[target]
    rng, made, refusals = random.Random(target), list(seeds()), 0
    for seed in made:
        refused = fuzz_targets.refused(function, seed)
        assert not refused or target == 'encode', seed  # what Cassandra wrote is read
        content = bytearray(seed[:2000])
        for _ in range(rng.randrange(1, 4)):
            content[rng.randrange(len(content))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        refusals += fuzz_targets.refused(function, bytes(content))
    for once in fuzz_targets.found(target):  # with sanitizers, in `make test-sanitized`
        fuzz_targets.refused(function, once)
    assert 0.05 < refusals / len(made) < 0.98


@pytest.mark.parametrize('target', fuzz_targets.TARGETS)
def test_what_is_not_an_error_of_the_package_is_a_finding(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    function, seeds = fuzz_targets.TARGETS[target]
    given = next(seeds())

    def broken(*args: object) -> None:
        raise ValueError('two\nlines')

    for name in ('decode', 'located'):
        monkeypatch.setattr(fuzz_targets.rows, name, broken)
    monkeypatch.setattr(fuzz_targets.encode, 'encode', broken)
    monkeypatch.setattr(fuzz_targets.data, 'Merger', broken)
    with pytest.raises(ValueError, match='two\nlines'):
        fuzz_targets.refused(function, given)
