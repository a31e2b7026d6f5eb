"""The flight-delay pipeline from its compiled file: the same as LocalDagRunner's, also where the runner is killed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from cassandra.cluster import Session
from tfx.orchestration.data_types import RuntimeParameter

from tfx_cassandra.components import CassandraConnection, ModelRegistry, TimeWindow
from tfx_cassandra.components.registry.publish import content_digest
from tfx_cassandra.pipelines import local_runner, vertex_local
from tfx_cassandra.pipelines.flight_delay import compiled, ingest, pipeline, results

pytest.importorskip('kfp', reason='compiling needs kfp: pip install "tfx-cassandra[kfp]"')

pytestmark = pytest.mark.integration

DAYS = TimeWindow.parse('2013-06-30T00:00Z/2013-07-16T00:00Z')
WINDOW = '2013-07-01T00:00Z/2013-07-15T00:00Z'
STEPS = 150


@pytest.fixture(scope='module')
def filled(connection: CassandraConnection) -> CassandraConnection:
    ingest.apply_schema(connection)
    for load in (ingest.weather(DAYS), ingest.flights(DAYS), ingest.planes()):
        ingest.ingest(connection, load)
    return connection


def compile_job(
    connection: CassandraConnection, state: pathlib.Path, *, target: str, steps: int = STEPS
) -> pathlib.Path:
    from tfx_cassandra.kubeflow import compiler, parametrize
    from tfx_cassandra.kubeflow.settings import Settings

    fixed = {'train_steps': str(steps), 'min_auc': '0.5'}
    built, opened = parametrize.built('flight-delay', connection, str(state), fixed)
    path = state / f'job.{target}'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compiler.compiled(built, opened, target, Settings('none')))  # type: ignore[arg-type]
    return path


def version_rows(session: Session, connection: CassandraConnection, experiment: str) -> list[Any]:
    rows = session.execute(f'SELECT * FROM "{connection.keyspace}".model_versions')
    return [row for row in rows if row.experiment_id == experiment]


def coverage(run: results.Run) -> dict[str, Any]:
    folder = pathlib.Path(run.uri('CassandraExampleGen', 'examples'))
    return json.loads((folder / 'coverage.json').read_text())


@pytest.mark.slow
def test_the_compiled_file_gives_what_the_local_runner_gives(
    filled: CassandraConnection, session: Session, tmp_path: pathlib.Path
) -> None:
    local_state, experiment = tmp_path / 'local', 'by-local-runner'
    window = RuntimeParameter('window', str, WINDOW)
    local_runner.run(
        compiled.flight_delay(filled, str(local_state), window, experiment, train_steps=STEPS, min_auc=0.5),
        io.StringIO(),
    )
    expected = results.of_state(local_state)
    found = {}
    for target in ('kfp', 'vertex'):
        job = compile_job(filled, tmp_path / target, target=target)
        summary = vertex_local.run_job(
            job, {'window': WINDOW, 'experiment_id': f'by-{target}'}, runs=tmp_path / 'runs', stream=io.StringIO()
        )
        assert summary['state'] == 'SUCCEEDED', summary
        found[target] = results.of_job(summary)
    wanted = coverage(expected)
    metrics = {experiment: version_rows(session, filled, experiment)[0].metrics}
    for target, run in found.items():
        made = coverage(run)
        for field in ('fingerprint', 'examples', 'rows', 'checksum', 'window'):
            assert made[field] == wanted[field], field
        (row,) = version_rows(session, filled, f'by-{target}')
        metrics[target] = row.metrics
        assert row.ab_test_group == 'control'
        assert run.blessed()
    # Training is not deterministic to the last bit over processes: what is counted is equal, what is fitted nearly so.
    for target in found:
        assert metrics[target]['example_count'] == metrics[experiment]['example_count']
        assert metrics[target]['auc'] == pytest.approx(metrics[experiment]['auc'], abs=0.02)
        assert set(metrics[target]) == set(metrics[experiment])
    with ModelRegistry(filled) as registry:
        for name in ('by-kfp', 'by-vertex', experiment):
            (version,) = registry.list(name)
            assert version.examples_fingerprint == wanted['fingerprint']
            assert version.digest == content_digest(version.model_uri)


def killed_when(command: list[str], condition: Callable[[], bool]) -> int | None:
    """Runs a command until a condition holds and kills it; returns its exit code if it ended before."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 900
    while process.poll() is None and not condition() and time.monotonic() < until:
        time.sleep(0.05)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        return None
    return process.returncode


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_one_version(
    filled: CassandraConnection, session: Session, tmp_path: pathlib.Path
) -> None:
    job = compile_job(filled, tmp_path / 'state', target='kfp', steps=20)
    runs, experiment = tmp_path / 'runs', 'killed'
    command = [
        sys.executable, '-m', 'tfx_cassandra.components.cli.main', 'run-job', str(job), '--runs', str(runs),
        '--parallel', '1',
        '--parameter', f'window={WINDOW}', '--parameter', f'experiment_id={experiment}',
    ]  # fmt: skip

    def tasks() -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            (summary,) = runs.glob('*/summary.json')
            return json.loads(summary.read_text())['tasks']
        return {}

    def within(task: str, seconds: float) -> Callable[[], bool]:
        began: list[float] = []

        def condition() -> bool:
            if tasks().get(task, {}).get('state') != 'RUNNING':
                return False
            began[:] = began or [time.monotonic()]
            return time.monotonic() - began[0] > seconds

        return condition

    def after(task: str) -> Callable[[], bool]:
        return lambda: tasks().get(task, {}).get('state') in ('SUCCEEDED', 'CACHED')

    order = [
        'CassandraExampleGen',
        'StatisticsGen',
        'SchemaGen',
        'ExampleValidator',
        'Transform',
        'Trainer',
        'Evaluator',
    ]
    conditions = [within('CassandraExampleGen', 2), within('CassandraExampleGen', 5), *map(after, order)]
    conditions += [within('CassandraPusher', seconds) for seconds in (1, 3, 5, 7)] + [after('CassandraPusher')]
    ended: list[int | None] = []
    for condition in conditions:
        ended.append(killed_when(command, condition))
        if '--resume' not in command:
            (run,) = runs.glob('*/job.json')
            command += ['--resume', run.parent.name]
    last = killed_when(command, lambda: False)
    assert last == 0
    assert None in ended[:9]
    assert len(version_rows(session, filled, experiment)) == 1
    assert len(list((tmp_path / 'state' / 'serving' / pipeline.MODEL_ID).iterdir())) == 1


def only(job: pathlib.Path, *names: str) -> pathlib.Path:
    """Writes a job with some of the tasks."""
    documents = list(yaml.safe_load_all(job.read_text()))
    tasks = documents[0]['root']['dag']['tasks']
    documents[0]['root']['dag']['tasks'] = {name: tasks[name] for name in names}
    path = job.with_name('part.yaml')
    path.write_text(yaml.safe_dump_all(documents))
    return path


def run_part(job: pathlib.Path, folder: pathlib.Path, **parameters: str) -> dict[str, Any]:
    return vertex_local.run_job(
        only(job, 'CassandraExampleGen'), {'window': WINDOW, **parameters}, runs=folder, stream=io.StringIO()
    )


def test_a_step_says_what_is_wrong(filled: CassandraConnection, tmp_path: pathlib.Path) -> None:
    job = compile_job(filled, tmp_path / 'state', target='kfp')
    with pytest.raises(ValueError, match='parameter window: got None, rule: given'):
        vertex_local.run_job(only(job, 'CassandraExampleGen'), {}, runs=tmp_path / 'runs')
    for parameters, message in (
        ({'window': 'yesterday'}, 'CassandraExampleGen: error: window: got'),
        ({'keyspace': 'nobody'}, "CassandraExampleGen: error: keyspace: got 'nobody'"),
        ({'contact_points': '127.0.0.99'}, '127.0.0.99'),
    ):
        summary = run_part(job, tmp_path / 'runs', **parameters)
        assert summary['state'] == 'FAILED'
        error = summary['tasks']['CassandraExampleGen']['error']
        assert 'exit code 1: CassandraExampleGen: error: ' in error
        assert message in error


def test_a_step_of_the_compiled_file_reads_what_a_driver_counts(
    filled: CassandraConnection, session: Session, tmp_path: pathlib.Path
) -> None:
    job = compile_job(filled, tmp_path / 'state', target='kfp')
    other = dataclasses.replace(filled)
    summary = run_part(job, tmp_path / 'runs', keyspace=other.keyspace)
    assert summary['state'] == 'SUCCEEDED', summary
    rows = session.execute(f'SELECT scheduled_departure FROM "{filled.keyspace}".flights')
    window = TimeWindow.parse(WINDOW)
    start, end = (moment.replace(tzinfo=None) for moment in (window.start, window.end))
    expected = sum(start <= row.scheduled_departure < end for row in rows)
    (artifact,) = summary['tasks']['CassandraExampleGen']['outputs']['artifacts']['examples']
    assert artifact['metadata']['rows'] == expected
