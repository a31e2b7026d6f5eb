"""What a cluster of workers does to a pipeline: workers and executors are killed, bundles are run twice, and late."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine_processes
import pytest
from conftest import Site
from engine_processes import Engine

pytestmark = [pytest.mark.engines, pytest.mark.integration]

Alone = Callable[[str], dict[str, Any]]
STEPS = {'read': 'scan', 'join': 'join', 'write': 'write'}


@pytest.mark.parametrize('who', ['worker', 'executor'])
@pytest.mark.parametrize('step', ['read', 'join', 'write'])
@pytest.mark.parametrize('engine', ['spark', 'flink'], indirect=True)
def test_a_worker_is_killed_in_the_middle(
    engine: Engine, step: str, who: str, site: Site, alone: Alone, tmp_path: Path
) -> None:
    replacing = dataclasses.replace(engine, kept=who == 'executor')  # a JVM that is lost takes those it kept with it
    run = site.run(replacing, tmp_path, STEPS[step], probe={'PROBE_KILL': f'{step}:{who}'})
    assert not run.error, run.error
    assert [note['of'] for note in run.notes if note['event'] == 'killed'] == [step]
    assert run.plain == {STEPS[step]: alone(STEPS[step])}


def test_a_bundle_runs_twice_at_the_same_time(site: Site, alone: Alone, tmp_path: Path) -> None:
    """Spark starts a second attempt of what takes long elsewhere; the first one wakes up later, and is a zombie."""
    speculating = [
        '-Dspark.speculation=true', '-Dspark.speculation.interval=200ms', '-Dspark.speculation.multiplier=1.1',
        '-Dspark.speculation.quantile=0.3', '-Dspark.speculation.minTaskRuntime=1s',
    ]  # fmt: skip
    with engine_processes.spark(tmp_path / 'spark', speculating) as engine:
        run = site.run(engine, tmp_path, 'join', probe={'PROBE_SLOW': 'file:45'})
    assert not run.error, run.error
    keys = run.keys('file')
    assert len(keys) > len(set(keys)), 'a file was written twice'
    assert run.plain == {'join': alone('join')}


@pytest.mark.parametrize('engine', ['spark'], indirect=True)
def test_a_spool_folder_that_workers_do_not_reach_is_one_clear_error(
    engine: Engine, site: Site, tmp_path: Path
) -> None:
    """A relative folder is another one for each worker, as a local one is on a cluster of machines."""
    run = site.run(engine, tmp_path, 'join', out='private')
    lines = [line for line in run.error.splitlines() if 'spool folder: got' in line]
    assert lines
    assert "spool folder: got 'private/join/spool', which the worker on " in lines[-1]
    assert 's3://, gs:// or hdfs://' in lines[-1]
