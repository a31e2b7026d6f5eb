"""The engines, the tables they read, and how pipelines are run on them. A live Cassandra is needed (make cluster)."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engine_data
import engine_parts
import engine_processes
import pytest
from engine_processes import Engine

from tfx_cassandra.components import schema
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection

KEYSPACE = os.environ.get('TEST_ENGINES_KEYSPACE', 'test_engines')
RUN_SECONDS = 1500


@dataclasses.dataclass(frozen=True)
class Run:
    """What pipelines did on an engine.

    Attributes:
      results: By pipeline: what it gave, and when it began and ended.
      notes: What the probe noted, of all processes (see probe/sitecustomize.py).
      error: The end of what the submitting process printed, if it failed.
    """

    results: dict[str, dict[str, Any]]
    notes: list[dict[str, Any]]
    error: str

    @property
    def plain(self) -> dict[str, dict[str, Any]]:
        """The results without their times."""
        return {name: {k: v for k, v in result.items() if k != 'times'} for name, result in self.results.items()}

    def keys(self, event: str) -> list[str]:
        return [note['key'] for note in self.notes if note['event'] == event]

    def processes(self, event: str) -> set[int]:
        return {note['pid'] for note in self.notes if note['event'] == event}

    def during(self, pipeline: str) -> Run:
        """Returns what was noted while one of the pipelines ran."""
        began, ended = self.results[pipeline]['times']
        return dataclasses.replace(self, notes=[note for note in self.notes if began <= note['time'] <= ended])

    @property
    def repeated(self) -> int:
        """How many elements (groups of splits, shards, lists of examples) were worked on once more."""
        events = ('read', 'join', 'reduce', 'retrieve', 'file')
        return sum(len(keys) - len(set(keys)) for keys in map(self.keys, events))

    @property
    def workers(self) -> set[int]:
        """The processes that worked on elements."""
        return set().union(*map(self.processes, ('read', 'join', 'reduce', 'retrieve', 'file', 'write')))

    @property
    def sessions(self) -> collections.Counter[int]:
        """How many sessions each of these processes opened, one after the other or at once; not those that it kept."""
        opened = [note['pid'] for note in self.notes if note['event'] == 'session']
        return collections.Counter(pid for pid in opened if pid in self.workers)

    @property
    def bundles(self) -> int:
        """How many bundles these processes ran."""
        return sum(note['event'] == 'bundle' and note['pid'] in self.workers for note in self.notes)


@dataclasses.dataclass(frozen=True)
class Site:
    """Where pipelines are run: the Pythons, the wheel, the keyspace."""

    submitter: Path
    worker: Path
    wheel: Path
    connection: CassandraConnection

    def run(
        self, engine: Engine, folder: Path, *pipelines: str, out: str | None = None, options: tuple[str, ...] = (),
        probe: dict[str, str] | None = None, source: str = '',
    ) -> Run:  # fmt: skip
        """Runs pipelines one after the other in a process of the wheel's environment, in a folder of its own."""
        submitter, events = folder / 'submitter', folder / 'events'
        for made in (submitter, events):
            made.mkdir(parents=True, exist_ok=True)
        probed = {
            'PROBE_EVENTS': str(events), 'PYTHONPATH': str(engine_parts.HERE / 'probe'),
            'CASSANDRA_CONTACT_POINTS': ','.join(self.connection.contact_points),
            'CASSANDRA_PORT': str(self.connection.port), 'CASSANDRA_KEYSPACE': self.connection.keyspace,
            'TF_CPP_MIN_LOG_LEVEL': '3', 'PYTHONFAULTHANDLER': '1', **(probe or {}),
        }  # fmt: skip
        command = [self.submitter, engine_parts.HERE / 'pipelines.py', out or str(folder / 'out'), *pipelines, '--']
        environ = {**os.environ, **probed, 'SOURCE': source}
        with engine.ready(self.worker, self.wheel, probed) as arguments:
            done = subprocess.run(
                [*command, *arguments, *options], cwd=submitter, env=environ, capture_output=True, text=True,
                timeout=RUN_SECONDS,
            )  # fmt: skip
        (folder / 'log').write_text(done.stdout + done.stderr)
        results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"pipeline"')]
        notes = [json.loads(line) for path in sorted(events.glob('*.jsonl')) for line in path.read_text().splitlines()]
        error = '' if done.returncode == 0 else done.stderr[-20_000:]
        return Run({result.pop('pipeline'): result for result in results}, notes, error)


@pytest.fixture(scope='session')
def site(cluster_connection: CassandraConnection) -> Iterator[Site]:
    submitter, worker, wheel = engine_parts.environments()
    connection = dataclasses.replace(cluster_connection, keyspace=KEYSPACE)
    with connections.session(connection) as session:
        session.execute(f'DROP KEYSPACE IF EXISTS {KEYSPACE}', timeout=120)
        schema.apply(connection, schema.SimpleReplication(1))
        engine_data.fill(connection, session)
        yield Site(submitter, worker, wheel, connection)
        session.execute(f'DROP KEYSPACE IF EXISTS {KEYSPACE}', timeout=120)


@pytest.fixture(scope='session')
def expected(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """What Beam's DirectRunner gives in one process, and the folder it is in."""
    folder = tmp_path_factory.mktemp('direct')
    run = site.run(
        engine_processes.direct(folder), folder, 'scan', 'join', 'pivot', 'reduce', 'retrieve', 'write',
        source=str(folder / 'out' / 'pivot'),
    )  # fmt: skip
    assert not run.error, run.error
    return run, folder


@pytest.fixture(scope='session')
def alone(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """Gives what a pipeline by itself gives on the DirectRunner; each is run once."""

    @functools.cache
    def result(pipeline: str) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp(f'direct-{pipeline}')
        run = site.run(engine_processes.direct(folder), folder, pipeline)
        assert not run.error, run.error
        return run.plain[pipeline]

    return result


@pytest.fixture(scope='session')
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine_processes.spark(tmp_path_factory.mktemp('spark')) as engine:
        yield engine


@pytest.fixture(scope='session')
def flink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with engine_processes.flink(tmp_path_factory.mktemp('flink')) as engine:
        yield engine


@pytest.fixture
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """The engine that a test is parametrized with, by name."""
    if request.param in ('spark', 'flink'):
        return request.getfixturevalue(request.param)
    make = {'direct': engine_processes.direct, 'processes': engine_processes.processes, 'prism': engine_processes.prism}
    return make[request.param](tmp_path)
