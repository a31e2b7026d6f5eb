"""Compiled pipelines of shell commands: order, values, artifacts, conditions, retries, caching, failures, resuming."""

from __future__ import annotations

import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
import yaml

from tfx_cassandra.components.errors import PipelineError
from tfx_cassandra.pipelines import vertex_local

MODEL = {'artifactType': {'instanceSchema': 'title: tfx.Model\ntype: object\n'}}


def container(script: str, **more: Any) -> dict[str, Any]:
    return {'container': {'image': 'any', 'command': ['sh', '-ec', script], 'args': ['sh', '{{$}}'], **more}}


def task(name: str, **fields: Any) -> dict[str, Any]:
    return {'taskInfo': {'name': name}, 'componentRef': {'name': name}, **fields}


def job(tmp_path: pathlib.Path, tasks: dict[str, Any], executors: dict[str, Any], **spec: Any) -> pathlib.Path:
    """Writes a KFP YAML in which a task, its component and its executor have one name."""
    components = {
        name: {
            'executorLabel': name,
            'inputDefinitions': {
                'parameters': {key: {'parameterType': 'STRING'} for key in found['inputs'].get('parameters', ())},
                'artifacts': dict.fromkeys(found['inputs'].get('artifacts', ()), MODEL),
            },
            'outputDefinitions': found.pop('outputDefinitions', {}),
        }
        for name, found in ((name, {'inputs': {}, **one}) for name, one in tasks.items())
    }
    for name, one in tasks.items():
        components[name]['outputDefinitions'] = one.pop('outputs', {})
    content = {
        'pipelineInfo': {'name': 'shell'}, 'schemaVersion': '2.1.0', 'components': components,
        'deploymentSpec': {'executors': executors}, 'root': {'dag': {'tasks': tasks}}, **spec,
    }  # fmt: skip
    path = tmp_path / 'job.yaml'
    path.write_text(yaml.safe_dump(content))
    return path


def run(path: pathlib.Path, **options: Any) -> dict[str, Any]:
    return vertex_local.run_job(path, stream=io.StringIO(), runs=path.parent / 'runs', **options)


def produced(key: str = 'model') -> dict[str, Any]:
    return {'taskOutputArtifact': {'producerTask': 'make', 'outputArtifactKey': key}}


def pair(tmp_path: pathlib.Path, make: str, use: str, **of_use: Any) -> pathlib.Path:
    """A task that makes a model and one that takes it."""
    tasks = {
        'make': task('make', outputs={'artifacts': {'model': MODEL}}, cachingOptions={'enableCache': True}),
        'use': task('use', inputs={'artifacts': {'model': produced()}}, **of_use),
    }
    return job(tmp_path, tasks, {'make': container(make), 'use': container(use)})


WRITE = """uri=$(printf '%s' "$1" | sed 's/.*"model": {"artifacts": \\[{"name": "[^"]*", "uri": "\\([^"]*\\)".*/\\1/')
mkdir -p "$uri"; echo hello > "$uri/file"; echo made >> "$COUNT"
"""


def states(summary: dict[str, Any]) -> dict[str, str]:
    return {name: found['state'] for name, found in summary['tasks'].items()}


def test_artifacts_and_values_reach_the_next_task(tmp_path: pathlib.Path) -> None:
    tasks = {
        'first': task('first', outputs={'parameters': {'word': {'parameterType': 'STRING'}}}),
        'second': task('second', inputs={'parameters': {
            'word': {'taskOutputParameter': {'producerTask': 'first', 'outputParameterKey': 'word'}},
            'day': {'componentInputParameter': 'day'},
            'fixed': {'runtimeValue': {'constant': 'c'}},
        }}),
    }  # fmt: skip
    executors = {
        'first': {'container': {'image': 'any', 'command': [
            'sh', '-c', 'printf two > "$0"', "{{$.outputs.parameters['word'].output_file}}"]}},
        'second': {'container': {'image': 'any', 'command': [
            'sh', '-c', 'echo "$0 $1 $2 $3 $4" > $OUT', "{{$.inputs.parameters['word']}}",
            "{{$.inputs.parameters['day']}}", "{{$.inputs.parameters['fixed']}}", '{{$.pipeline_task_name}}',
            '{"IfPresent": {"InputName": "day", "Then": ["--day", "x"], "Else": []}}']}},
    }  # fmt: skip
    path = job(tmp_path, tasks, executors)
    content = yaml.safe_load(path.read_text())
    content['root']['inputDefinitions'] = {'parameters': {'day': {'parameterType': 'STRING', 'defaultValue': 'monday'}}}
    path.write_text(yaml.safe_dump(content))
    place = vertex_local.Place(environment={'OUT': str(tmp_path / 'out')})
    assert run(path, place=place)['state'] == 'SUCCEEDED'
    assert (tmp_path / 'out').read_text() == 'two monday c second --day\n'
    assert run(path, parameters={'day': 'friday'}, place=place, cache=False)['state'] == 'SUCCEEDED'
    assert (tmp_path / 'out').read_text() == 'two friday c second --day\n'


def test_a_step_sees_nothing_of_this_process(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CANARY', 'bird')
    path = job(
        tmp_path, {'a': task('a')}, {'a': container('env; pwd; echo SEEN=$SEEN', env=[{'name': 'SEEN', 'value': '1'}])}
    )
    summary = run(path)
    log = pathlib.Path(summary['tasks']['a']['log']).read_text()
    assert 'SEEN=1' in log
    assert 'bird' not in log
    assert str(pathlib.Path.cwd()) not in log.splitlines()


def test_a_secret_comes_from_the_environment_and_stands_in_no_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = job(tmp_path, {'a': task('a')}, {'a': container('test "$PASSWORD" = canary')})
    executor = {'secretAsEnv': [{'secretName': 's', 'keyToEnv': [{'secretKey': 'k', 'envVar': 'PASSWORD'}]}]}
    platform = {'platforms': {'kubernetes': {'deploymentSpec': {'executors': {'a': executor}}}}}
    path.write_text(path.read_text() + '---\n' + yaml.safe_dump(platform))
    summary = run(path)
    assert 's/k' in summary['tasks']['a']['error']
    assert 'PASSWORD' in summary['tasks']['a']['error']
    monkeypatch.setenv('PASSWORD', 'canary')
    assert run(path)['state'] == 'SUCCEEDED'
    found = [file for file in tmp_path.rglob('*') if file.is_file() and 'canary' in file.read_text()]
    assert found == [path] or not found


def test_equal_executions_are_reused_and_others_are_not(tmp_path: pathlib.Path) -> None:
    count = tmp_path / 'count'
    place = vertex_local.Place(environment={'COUNT': str(count)})
    path = pair(tmp_path, WRITE, 'true')
    first, second = run(path, place=place), run(path, place=place)
    assert states(first) == {'make': 'SUCCEEDED', 'use': 'SUCCEEDED'}
    assert states(second) == {'make': 'CACHED', 'use': 'SUCCEEDED'}  # only `make` allows it
    assert count.read_text() == 'made\n'
    assert states(run(path, place=place, cache=False))['make'] == 'SUCCEEDED'
    uri = first['tasks']['make']['outputs']['artifacts']['model'][0]['uri']
    os.remove(f'{uri}/file')
    os.rmdir(uri)
    assert states(run(path, place=place))['make'] in ('SUCCEEDED', 'CACHED')
    assert count.read_text().count('made') >= 2


def test_a_failure_names_the_step_and_keeps_the_others(tmp_path: pathlib.Path) -> None:
    path = pair(tmp_path, 'echo "OSError: disk full" >&2; exit 3', 'true')
    content = yaml.safe_load(path.read_text())
    content['root']['dag']['tasks']['other'] = task('other')
    content['components']['other'] = {'executorLabel': 'other'}
    content['deploymentSpec']['executors']['other'] = container('true')
    path.write_text(yaml.safe_dump(content))
    summary = run(path)
    assert summary['state'] == 'FAILED'
    assert states(summary) == {'make': 'FAILED', 'use': 'SKIPPED', 'other': 'SUCCEEDED'}
    assert 'exit code 3: OSError: disk full' in summary['tasks']['make']['error']
    assert summary['tasks']['use']['error'] == 'without make'


@pytest.mark.skipif(os.geteuid() != 0, reason='only the user root may enter a root folder')
def test_the_image_of_each_step_is_asked_for(tmp_path: pathlib.Path) -> None:
    path = job(tmp_path, {'a': task('a'), 'b': task('b')}, {'a': container('true'), 'b': container('true')})
    content = yaml.safe_load(path.read_text())
    content['deploymentSpec']['executors']['b']['container']['image'] = 'other@sha256:0'
    path.write_text(yaml.safe_dump(content))
    summary = run(path, place=vertex_local.Place(images={'any': '/'}))
    assert (summary['state'], states(summary)) == ('FAILED', {'a': 'SUCCEEDED', 'b': 'FAILED'})
    assert summary['tasks']['b']['error'] == "image: got 'other@sha256:0', rule: one with a root folder: any"


def test_137_is_explained(tmp_path: pathlib.Path) -> None:
    summary = run(job(tmp_path, {'a': task('a')}, {'a': container('kill -9 $$')}))
    assert summary['tasks']['a']['error'].startswith('exit code 137 (killed: out of memory, or by hand)')


def test_a_failed_run_is_continued(tmp_path: pathlib.Path) -> None:
    count, ready = tmp_path / 'count', tmp_path / 'ready'
    place = vertex_local.Place(environment={'COUNT': str(count), 'READY': str(ready)})
    path = pair(tmp_path, WRITE, 'test -e $READY')
    first = run(path, place=place, cache=False)
    assert states(first) == {'make': 'SUCCEEDED', 'use': 'FAILED'}
    ready.touch()
    again = run(path, place=place, cache=False, resume=first['run'])
    assert again['run'] == first['run']
    assert states(again) == {'make': 'CACHED', 'use': 'SUCCEEDED'}
    assert count.read_text() == 'made\n'
    with pytest.raises(ValueError, match=r'resume: got .nobody., rule: a run of'):
        run(path, resume='nobody')
    path.write_text(path.read_text().replace('READY', 'STEADY'))
    with pytest.raises(ValueError, match='rule: a run of this very file'):
        run(path, resume=first['run'])


def test_a_step_is_tried_again(tmp_path: pathlib.Path) -> None:
    script = 'echo x >> $COUNT; test $(wc -l < $COUNT) -ge 3'
    retry = {'maxRetryCount': 2, 'backoffDuration': '0.01s'}
    place = vertex_local.Place(environment={'COUNT': str(tmp_path / 'count')})
    path = job(tmp_path, {'a': task('a', retryPolicy=retry)}, {'a': container(script)})
    summary = run(path, place=place)
    assert summary['state'] == 'SUCCEEDED'
    assert len(list((tmp_path / 'runs' / summary['run']).glob('a_*'))) == 3


@pytest.mark.parametrize(('blessed', 'state'), [(1, 'SUCCEEDED'), (0, 'SKIPPED')])
def test_conditions(blessed: int, state: str, tmp_path: pathlib.Path) -> None:
    pytest.importorskip('celpy', reason='conditions need cel-python')
    output = json.dumps({'artifacts': {'model': {'artifacts': [{'metadata': {'blessed': blessed}}]}}})
    make = f"""file=$(printf '%s' "$1" | sed 's/.*"outputFile": "\\([^"]*\\)".*/\\1/'); echo '{output}' > "$file" """
    condition = "inputs.artifacts['model'].artifacts[0].metadata['blessed'] == 1.0"
    path = pair(tmp_path, make, 'true', triggerPolicy={'condition': condition})
    assert states(run(path)) == {'make': 'SUCCEEDED', 'use': state}


def test_an_exit_handler_runs_after_a_failure(tmp_path: pathlib.Path) -> None:
    tasks = {
        'inner': task('inner'),
        'last': task(
            'last', dependentTasks=['inner'], triggerPolicy={'strategy': 'ALL_UPSTREAM_TASKS_COMPLETED'},
            inputs={'parameters': {'status': {'taskFinalStatus': {'producerTask': 'inner'}}}},
        ),
    }  # fmt: skip
    summary = run(job(tmp_path, tasks, {'inner': container('exit 1'), 'last': container('printf %s "$1"')}))
    assert states(summary) == {'inner': 'FAILED', 'last': 'SUCCEEDED'}
    assert summary['state'] == 'FAILED'
    assert '"state": "FAILED"' in pathlib.Path(summary['tasks']['last']['log']).read_text()


def test_importers_and_resolvers(tmp_path: pathlib.Path) -> None:
    tasks = {
        'make': task('make', outputs={'artifacts': {'model': MODEL}}),
        'find': task('find', outputs={'artifacts': {'model': MODEL}}),
        'fetch': task('fetch', outputs={'artifacts': {'result': MODEL}}),
        'show': task('show', inputs={'artifacts': {
            'found': {'taskOutputArtifact': {'producerTask': 'find', 'outputArtifactKey': 'model'}},
            'fetched': {'taskOutputArtifact': {'producerTask': 'fetch', 'outputArtifactKey': 'result'}},
        }}, dependentTasks=['make']),
    }  # fmt: skip
    executors = {
        'make': container('true'),
        'find': {
            'resolver': {'outputArtifactQueries': {'model': {'filter': 'schema_title="tfx.Model" AND state=LIVE'}}}
        },
        'fetch': {'importer': {'artifactUri': {'constant': '/data/here'}, 'typeSchema': MODEL['artifactType']}},
        'show': container('printf %s "$1"'),
    }
    path = job(tmp_path, tasks, executors)
    first, second = run(path), run(path, cache=False)
    assert first['tasks']['find']['outputs']['artifacts']['model'] == []
    made = first['tasks']['make']['outputs']['artifacts']['model'][0]
    (found,) = second['tasks']['find']['outputs']['artifacts']['model']
    assert found['uri'] in (made['uri'], '/data/here')  # the newest, of two tasks that ran at once
    log = pathlib.Path(second['tasks']['show']['log']).read_text()
    assert '/data/here' in log
    assert found['uri'] in log


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda spec: spec['root']['dag']['tasks']['a'].update(parameterIterator={}), 'a: got a loop'),
        (lambda spec: spec['deploymentSpec']['executors'].update(a={'customJob': {}}), "of kind 'customJob'"),
        (lambda spec: spec['root']['dag']['tasks']['a']['componentRef'].update(name='b'), "got component 'b'"),
        (lambda spec: spec['root']['dag']['tasks']['a'].update(dependentTasks=['z']), "got upstream task 'z'"),
        (lambda spec: spec['root']['dag']['tasks']['a'].update(dependentTasks=['a']), 'got a circle'),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused(change: Any, message: str, tmp_path: pathlib.Path) -> None:
    path = job(tmp_path, {'a': task('a')}, {'a': container('true')})
    spec = yaml.safe_load(path.read_text())
    change(spec)
    path.write_text(yaml.safe_dump(spec))
    with pytest.raises(PipelineError, match=message):
        run(path)


@pytest.mark.parametrize('text', ['', '{', '[]', 'a: b', '{"pipelineSpec": 1}', '\x00'])
def test_other_files_are_refused(text: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'job.yaml'
    path.write_text(text)
    with pytest.raises(ValueError, match=r'^job: got .*, rule: '):
        run(path)


@pytest.mark.parametrize(
    ('kind', 'text', 'value'),
    [('NUMBER_INTEGER', '3', 3), ('NUMBER_DOUBLE', '3', 3), ('NUMBER_INTEGER', '3.5', None), ('BOOLEAN', 'true', True),
     ('NUMBER_INTEGER', 'true', None), ('STRING', '3', '3'), ('LIST', '[1]', [1]), ('STRUCT', '[1]', None)],
)  # fmt: skip
def test_parameters_are_typed(kind: str, text: str, value: Any, tmp_path: pathlib.Path) -> None:
    path = job(tmp_path, {'a': task('a')}, {'a': container('true')})
    content = yaml.safe_load(path.read_text())
    content['root']['inputDefinitions'] = {'parameters': {'p': {'parameterType': kind}}}
    path.write_text(yaml.safe_dump(content))
    loaded = vertex_local.load(path)
    if value is None:
        with pytest.raises(ValueError, match=f'^parameter p: got .*, rule: of type {kind}'):
            loaded.parameters({'p': text})
    else:
        assert loaded.parameters({'p': text}) == {'p': value}
    with pytest.raises(ValueError, match='parameter p: got None, rule: given'):
        loaded.parameters({})
    with pytest.raises(ValueError, match="parameter: got 'q', rule: one of the pipeline: p"):
        loaded.parameters({'q': '1'})


def test_steps_that_depend_on_nothing_run_at_once_up_to_the_limit(tmp_path: pathlib.Path) -> None:
    script = 'mkdir -p $DIR; touch $DIR/$$; sleep 0.5; ls $DIR | wc -l; rm $DIR/$$'
    tasks = {name: task(name) for name in 'abc'}
    path = job(tmp_path, tasks, {name: container(script) for name in 'abc'})
    for limit in (1, 3):
        place = vertex_local.Place(environment={'DIR': str(tmp_path / f'd{limit}')})
        summary = run(path, place=place, parallel=limit)
        counts = [int(pathlib.Path(found['log']).read_text()) for found in summary['tasks'].values()]
        assert max(counts) <= limit
        assert limit == 1 or max(counts) > 1


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_no_step_outlives_its_runner(number: int, tmp_path: pathlib.Path) -> None:
    path = job(tmp_path, {'a': task('a')}, {'a': container('echo $$ > $PID; exec sleep 60')})
    pid = tmp_path / 'pid'
    command = [
        sys.executable, '-m', 'tfx_cassandra.components.cli.main', 'run-job', str(path), '--runs',
        str(tmp_path / 'runs'), '--env', f'PID={pid}',
    ]  # fmt: skip
    runner = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()) and time.monotonic() < until:
        time.sleep(0.1)
    runner.send_signal(number)
    assert runner.wait(30) == (130 if number == signal.SIGINT else -number)
    step = int(pid.read_text())
    while pathlib.Path(f'/proc/{step}').exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not pathlib.Path(f'/proc/{step}').exists()
