"""Runs a job: its tasks in the order of their dependencies, some at once, each recorded as it ends."""

from __future__ import annotations

import concurrent.futures
import datetime
import functools
import graphlib
import os
import threading
import time
from collections.abc import Mapping
from typing import Any, TextIO

from tfx_cassandra.components.checks import Count, conform
from tfx_cassandra.components.errors import PipelineError, invalid
from tfx_cassandra.pipelines.vertex_local import bindings, conditions, messages, records, resolver, step, values
from tfx_cassandra.pipelines.vertex_local.bindings import DONE, Outcome, Scope
from tfx_cassandra.pipelines.vertex_local.job import Job, Message, load
from tfx_cassandra.pipelines.vertex_local.lines import Lines
from tfx_cassandra.pipelines.vertex_local.records import Run, Runs
from tfx_cassandra.pipelines.vertex_local.step import Place, Steps

_ALWAYS = 'ALL_UPSTREAM_TASKS_COMPLETED'


def run_job(
    job: Job | str | os.PathLike[str],
    parameters: Mapping[str, Any] | None = None,
    *,
    runs: str | os.PathLike[str] = 'runs',
    root: str | None = None,
    place: Place | None = None,
    parallel: int = 2,
    cache: bool = True,
    resume: str | None = None,
    stream: TextIO | None = None,
) -> dict[str, Any]:
    """Runs a compiled pipeline on this machine, each container's command as a process of its own.

    Args:
      job: The compiled file, or the job that `load` has read from it.
      parameters: Values of the pipeline's parameters, by name; texts are read as the parameter's type.
      runs: Folder of the runs, see records.py.
      root: Folder or URI of the artifacts; None for the run's own folder.
      place: Where the steps run; None for this interpreter, in an environment without this process's variables.
      parallel: Steps that run at once at most.
      cache: Whether tasks that allow it reuse what an earlier execution with equal inputs has made.
      resume: Name of a run that has failed or was killed: its finished tasks are not run again.
      stream: Takes a line a task; None for standard error.

    Returns:
      The run's summary, as in its summary.json: `state` is SUCCEEDED or FAILED, `tasks` has each task's.

    Raises:
      ValueError: An argument breaks its rule; the message names it.
      PipelineError: The file needs what a local run does not have.
    """
    job = job if isinstance(job, Job) else load(job)
    conform('parallel', parallel, Count)
    folder = Runs(runs)
    given = dict(parameters or {})
    if resume is None:
        values_of = job.parameters(given)
        run = folder.new(job.name)
        records.write_json(run.folder / 'job.json', {'digest': job.digest, 'parameters': values_of})
    else:
        run = folder.existing(resume)
        started = records.read_json(run.folder / 'job.json')
        if started['digest'] != job.digest:
            raise invalid('resume', resume, 'a run of this very file; compile again only for new runs')
        values_of = started['parameters']
        if given and job.parameters(given) != values_of:
            raise invalid('resume', resume, f'a run with these parameters: {values_of}')
    return _JobRun(job, folder, run, root, place or Place(), parallel, cache, Lines(stream)).run(values_of)


class _JobRun:
    """One run."""

    def __init__(
        self, job: Job, runs: Runs, run: Run, root: str | None, place: Place, parallel: int, cache: bool, lines: Lines
    ) -> None:
        self._job, self._runs, self._run, self._cache, self._lines = job, runs, run, cache, lines
        self._root = (root or str(run.folder / 'artifacts')).rstrip('/')
        self._legacy = str(job.spec.get('schemaVersion', '2.1')).startswith('2.0')
        self._steps, self._place = Steps(place, str(runs.folder)), place
        self._free = threading.BoundedSemaphore(parallel)
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._before = run.summary().get('tasks', {})
        self._summary: dict[str, Any] = {
            'run': run.name, 'job': job.name, 'state': 'RUNNING', 'parameters': {}, 'artifacts': self._root,
            'started': _now(), 'tasks': {},
        }  # fmt: skip

    def run(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Runs the whole job; returns the summary."""
        self._summary['parameters'] = dict(parameters)
        self._record({})
        try:
            with self._lines:
                outcome = self._dag(self._job.spec['root']['dag'], Scope(parameters, {}))
        except BaseException:
            self._end('CANCELLED')
            raise
        return self._end(outcome.state)

    def _end(self, state: str) -> dict[str, Any]:
        self._summary |= {'state': state, 'ended': _now()}
        self._record({})
        return self._summary

    def _dag(self, dag: Message, scope: Scope) -> Outcome:
        """Runs the tasks of a DAG, each in a thread that waits for those it depends on."""
        tasks = dag['tasks']
        upstream = {name: bindings.upstream(name, task, tasks) for name, task in tasks.items()}
        try:
            order = list(graphlib.TopologicalSorter(upstream).static_order())
        except graphlib.CycleError as error:
            raise PipelineError(f'tasks: got a circle {" -> ".join(error.args[1])}, rule: none') from error
        ended: dict[str, concurrent.futures.Future[Outcome]] = {}
        with concurrent.futures.ThreadPoolExecutor(len(tasks)) as threads:
            for name in order:
                before = {other: ended[other] for other in upstream[name]}
                ended[name] = threads.submit(self._task, name, tasks[name], scope, before)
            try:
                concurrent.futures.wait(ended.values())
            except BaseException:
                self._ending.set()
                self._steps.end()
                raise
        outcomes = {name: future.result() for name, future in ended.items()}
        failed = [name for name, outcome in outcomes.items() if outcome.state in ('FAILED', 'CANCELLED')]
        outputs = bindings.dag_outputs(dag, outcomes)
        return Outcome('FAILED' if failed else 'SUCCEEDED', outputs, f'{", ".join(failed)} failed' if failed else '')

    def _task(
        self, name: str, task: Message, scope: Scope, before: Mapping[str, concurrent.futures.Future[Outcome]]
    ) -> Outcome:
        upstream = {other: future.result() for other, future in before.items()}
        began = time.monotonic()
        label = f'{scope.prefix}{name}'
        policy = task.get('triggerPolicy') or {}
        missing = [other for other, outcome in upstream.items() if outcome.state not in DONE]
        if self._ending.is_set():
            outcome = Outcome('CANCELLED')
        elif missing and policy.get('strategy') != _ALWAYS:
            outcome = Outcome('SKIPPED', error=f'without {", ".join(missing)}')
        else:
            try:
                outcome = self._started(label, task, scope, upstream)
            except Exception as error:  # one task's fault, whatever it is, does not stop the others
                kind = '' if isinstance(error, PipelineError | ValueError) else f'{type(error).__name__}: '
                outcome = Outcome('FAILED', error=f'{kind}{" ".join(str(error).split())}')
        seconds = time.monotonic() - began
        self._lines.ended(label, outcome.state, seconds, outcome.error)
        self._record({label: {**_as_json(outcome), 'seconds': round(seconds, 3), 'ended': _now()}})
        return outcome

    def _started(self, label: str, task: Message, scope: Scope, upstream: Mapping[str, Outcome]) -> Outcome:
        parameters, artifacts = bindings.inputs(task, scope, upstream)
        condition = (task.get('triggerPolicy') or {}).get('condition')
        given = {
            'parameterValues': parameters,
            'artifacts': {key: {'artifacts': listed} for key, listed in artifacts.items()},
        }
        if condition and not conditions.holds(condition, given):
            return Outcome('SKIPPED', error=f'condition {condition}')
        component = self._job.component(task['componentRef']['name'])
        defaults = {
            key: definition['defaultValue']
            for key, definition in ((component.get('inputDefinitions') or {}).get('parameters') or {}).items()
            if 'defaultValue' in definition
        }
        parameters = {**defaults, **parameters}
        if 'dag' in component:
            return self._dag(component['dag'], Scope(parameters, artifacts, f'{label}/'))
        executor = self._job.executor(component['executorLabel'])
        outputs = component.get('outputDefinitions', {}).get('artifacts', {})
        if 'importer' in executor:
            artifact = resolver.imported(executor['importer'], parameters, f'{self._run.name}/{label}')
            return Outcome('SUCCEEDED', {'parameters': {}, 'artifacts': {key: [artifact] for key in outputs}})
        if 'resolver' in executor:
            found = resolver.resolved(executor['resolver'], {'inputs': given}, self._runs.artifacts(self._run))
            return Outcome('SUCCEEDED', {'parameters': {}, 'artifacts': found})
        return self._container(label, task, component, executor['container'], parameters, artifacts)

    def _container(
        self, label: str, task: Message, component: Message, container: Message, parameters: Mapping[str, Any],
        artifacts: Mapping[str, Any],
    ) -> Outcome:  # fmt: skip
        identity = records.fingerprint({
            'container': [container.get(field) for field in ('image', 'command', 'args')],
            'outputs': component.get('outputDefinitions'),
            'parameters': parameters,
            'artifacts': {key: [artifact['uri'] for artifact in listed] for key, listed in artifacts.items()},
        })  # fmt: skip
        earlier = self._before.get(label)
        if earlier and earlier['state'] in DONE and earlier.get('fingerprint') == identity:
            return self._reused(label, identity, earlier['outputs'])
        cacheable = self._cache and (task.get('cachingOptions') or {}).get('enableCache')
        cached = self._runs.cached(identity) if cacheable else None
        if cached is not None:
            return self._reused(label, identity, cached)
        policy = task.get('retryPolicy') or {}
        pause = float(str(policy.get('backoffDuration', '0s')).rstrip('s'))
        attempts = 1 + int(policy.get('maxRetryCount', 0))
        attempt = functools.partial(self._attempt, label, component, container, parameters, artifacts, identity)
        for number in range(1, attempts + 1):
            self._record({label: {'attempts': number}})
            outcome = attempt()
            if outcome.state in DONE:
                self._runs.cache(identity, outcome.outputs)
            if outcome.state != 'FAILED' or number == attempts:
                break
            self._lines.note(label, f'attempt {number} of {attempts} failed: {outcome.error}')
            if self._ending.wait(min(pause, 3600)):
                return Outcome('CANCELLED')
            pause *= float(policy.get('backoffFactor', 2))
        return outcome

    def _reused(self, label: str, identity: str, outputs: Mapping[str, Any]) -> Outcome:
        self._record({label: {'fingerprint': identity}})
        return Outcome('CACHED', outputs)

    def _attempt(
        self, label: str, component: Message, container: Message, parameters: Mapping[str, Any],
        artifacts: Mapping[str, Any], identity: str,
    ) -> Outcome:  # fmt: skip
        folder = self._run.execution(label)
        execution = messages.executor_input(
            component, parameters, artifacts, folder, f'{self._root}/{folder.name}', f'{self._run.name}/{folder.name}',
            self._legacy,
        )  # fmt: skip
        names = {
            'pipeline_job_name': self._run.name, 'pipeline_job_resource_name': self._run.name,
            'pipeline_job_uuid': self._run.name, 'pipeline_task_name': label, 'pipeline_task_uuid': folder.name,
        }  # fmt: skip
        (folder / 'outputs').mkdir()
        records.write_json(folder / 'executor_input.json', execution)
        command = values.command_line(container, execution, names)
        environment = {pair['name']: pair.get('value', '') for pair in container.get('env') or ()}
        environment |= step.secrets(self._platform(component), {**os.environ, **self._place.environment})
        log = folder / 'log.txt'
        self._record({label: {'state': 'RUNNING', 'log': str(log), 'fingerprint': identity}})
        with self._free, self._lines.running(label):
            code = self._steps.run(command, environment, log, container.get('image'))
        if self._ending.is_set():
            return Outcome('CANCELLED')
        self._record({label: {'exit_code': code}})
        if code:
            return Outcome('FAILED', error=f'{step.reason(code, log)}; log: {log}')
        return Outcome('SUCCEEDED', messages.outputs(component, execution))

    def _platform(self, component: Message) -> Message:
        return self._job.platform.get(component['executorLabel']) or {}

    def _record(self, tasks: Mapping[str, Mapping[str, Any]]) -> None:
        with self._lock:
            for label, fields in tasks.items():
                self._summary['tasks'].setdefault(label, {}).update(fields)
            records.write_json(self._run.folder / 'summary.json', self._summary)


def _as_json(outcome: Outcome) -> dict[str, Any]:
    fields: dict[str, Any] = {'state': outcome.state, 'outputs': outcome.outputs}
    return {**fields, 'error': outcome.error} if outcome.error else fields


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat()
