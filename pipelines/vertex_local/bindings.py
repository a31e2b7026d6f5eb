"""Which value or artifact each input of a task is bound to, and what a nested DAG hands out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfx_cassandra.components.errors import PipelineError
from tfx_cassandra.pipelines.vertex_local import values

Message = Mapping[str, Any]

DONE = ('SUCCEEDED', 'CACHED')


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a task ended: SUCCEEDED, CACHED, SKIPPED, FAILED or CANCELLED, with its outputs or the reason."""

    state: str
    outputs: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {'parameters': {}, 'artifacts': {}})
    error: str = ''


@dataclasses.dataclass(frozen=True)
class Scope:
    """What the tasks of a DAG are given: the pipeline's parameters, or the inputs of a nested DAG."""

    parameters: Mapping[str, Any]
    artifacts: Mapping[str, Any]
    prefix: str = ''


def upstream(name: str, task: Message, tasks: Message) -> list[str]:
    """Returns the tasks that must have ended before one: those it names, and those whose outputs it takes."""
    found = set(task.get('dependentTasks') or ())
    given = task.get('inputs') or {}
    for source in (*(given.get('artifacts') or {}).values(), *(given.get('parameters') or {}).values()):
        for kind in ('taskOutputArtifact', 'taskOutputParameter', 'taskFinalStatus'):
            if kind in source:
                found.add(_producer(source[kind], tasks))
    unknown = sorted(found - set(tasks))
    if unknown:
        raise PipelineError(f'{name}: got upstream task {unknown[0]!r}, rule: a task of the same DAG')
    return sorted(found)


def _producer(source: Message, tasks: Message) -> str:
    # TFX names the producer of a parameter <task>_task.
    name = source['producerTask']
    return name if name in tasks else name.removesuffix('_task')


def inputs(task: Message, scope: Scope, ended: Mapping[str, Outcome]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the values and the artifacts of a task's inputs."""
    given = task.get('inputs') or {}
    artifacts: dict[str, Any] = {}
    for key, source in (given.get('artifacts') or {}).items():
        if 'componentInputArtifact' in source:
            artifacts[key] = scope.artifacts[source['componentInputArtifact']]
        else:
            produced = source['taskOutputArtifact']
            outcome = ended[_producer(produced, ended)]
            artifacts[key] = outcome.outputs['artifacts'].get(produced['outputArtifactKey'], [])
    sources = (given.get('parameters') or {}).items()
    parameters = {key: _parameter(key, source, scope, ended) for key, source in sources}
    lookup = {'inputs': {'parameterValues': {**scope.parameters, **parameters}, 'artifacts': {}}}
    # A constant of KFP may hold placeholders of the task's other inputs.
    filled = {
        key: values.replaced(value, lookup, {}) if isinstance(value, str) and '{{$.inputs' in value else value
        for key, value in parameters.items()
    }
    return {key: value for key, value in filled.items() if value is not None}, artifacts


def _parameter(key: str, source: Message, scope: Scope, ended: Mapping[str, Outcome]) -> Any:
    if source.get('parameterExpressionSelector'):
        selector = source['parameterExpressionSelector']
        raise PipelineError(f'input {key}: got the expression {selector}, rule: none, local runs evaluate none')
    if 'componentInputParameter' in source:
        return scope.parameters.get(source['componentInputParameter'])
    if 'taskOutputParameter' in source:
        produced = source['taskOutputParameter']
        return ended[_producer(produced, ended)].outputs['parameters'].get(produced['outputParameterKey'])
    if 'taskFinalStatus' in source:
        producer = _producer(source['taskFinalStatus'], ended)
        outcome = ended[producer]
        state = 'SUCCEEDED' if outcome.state in DONE else outcome.state
        return {'state': state, 'error': {'message': outcome.error}, 'pipelineTaskName': producer}
    value = source['runtimeValue']
    return scope.parameters[value['runtimeParameter']] if 'runtimeParameter' in value else values.constant(value)


def dag_outputs(dag: Message, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """Returns what a nested DAG hands to the tasks beside it."""
    outputs: dict[str, Any] = {'parameters': {}, 'artifacts': {}}
    declared = dag.get('outputs') or {}
    for key, chosen in (declared.get('artifacts') or {}).items():
        outputs['artifacts'][key] = [
            artifact
            for selector in chosen['artifactSelectors']
            for artifact in outcomes[selector['producerSubtask']]
            .outputs['artifacts']
            .get(selector['outputArtifactKey'], ())
        ]
    for key, chosen in (declared.get('parameters') or {}).items():
        selector = chosen.get('valueFromParameter')
        selectors = [selector] if selector else chosen['valueFromOneof']['parameterSelectors']
        for producer in selectors:
            made = outcomes[producer['producerSubtask']].outputs['parameters']
            if producer['outputParameterKey'] in made:
                outputs['parameters'][key] = made[producer['outputParameterKey']]
    return outputs
