"""A compiled pipeline: a PipelineJob (JSON, Vertex) or a PipelineSpec with its platform specification (YAML, Kubeflow).

Both become one `Job`. Its messages stay JSON objects, named as the protos of KFP name them; schema 2.0, which TFX
compiles by default, and 2.1 differ in how values are written, and `values.py` reads both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tfx_cassandra.components.errors import PipelineError, invalid
from tfx_cassandra.pipelines.vertex_local.values import literal

Message = Mapping[str, Any]

_KINDS = ('container', 'importer', 'resolver')
_TYPES = {
    'STRING': str, 'NUMBER_INTEGER': int, 'NUMBER_DOUBLE': float, 'BOOLEAN': bool, 'LIST': list, 'STRUCT': dict,
    'INT': int, 'DOUBLE': float,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Job:
    """What a compiled file says.

    Attributes:
      name: The pipeline's name.
      spec: The PipelineSpec.
      platform: By executor label, what Kubernetes gives the step's pod.
      root: The folder or URI of the artifacts that the file names; '' for none.
      values: Values of parameters that the file sets.
      digest: SHA-256 of the file's content.
    """

    name: str
    spec: Message
    platform: Message
    root: str
    values: Message
    digest: str

    def executor(self, label: str) -> Message:
        """Returns the executor of a component."""
        return self.spec['deploymentSpec']['executors'][label]

    def component(self, name: str) -> Message:
        """Returns a component's specification."""
        return self.spec['components'][name]

    @property
    def declared(self) -> Message:
        """The definition of each parameter of the pipeline."""
        return (self.spec['root'].get('inputDefinitions') or {}).get('parameters') or {}

    def parameters(self, given: Message) -> dict[str, Any]:
        """Returns the value of each parameter of the pipeline.

        Args:
          given: Values, texts as from a command line or of the parameter's type.

        Raises:
          ValueError: A parameter is unknown, has no value, or the value is not of its type.
        """
        declared = self.declared
        for name in given:
            if name not in declared:
                raise invalid('parameter', name, f'one of the pipeline: {", ".join(sorted(declared)) or "it has none"}')
        values = {}
        for name, definition in declared.items():
            if name in given or name in self.values:
                values[name] = _typed(name, given.get(name, self.values.get(name)), definition)
            elif 'defaultValue' in definition:
                values[name] = definition['defaultValue']
            elif not definition.get('isOptional'):
                raise invalid(f'parameter {name}', None, 'given, for it has no default (--parameter NAME=VALUE)')
        return values


def load(path: str | os.PathLike[str]) -> Job:
    """Reads a compiled pipeline.

    Raises:
      ValueError: The file cannot be read, or is no compiled pipeline.
      PipelineError: It needs what a local run does not have.
    """
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
        documents = [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = ' '.join(str(error).split())
        raise invalid('job', os.fspath(path), f'a readable file of JSON or YAML ({reason})') from error
    rule = 'a PipelineJob or a PipelineSpec, as `tfx-cassandra compile` writes it'
    first = documents[0] if documents else None
    spec = first.get('pipelineSpec', first) if isinstance(first, Mapping) else None
    if not isinstance(spec, Mapping) or not {'root', 'deploymentSpec', 'components', 'pipelineInfo'} <= set(spec):
        raise invalid('job', os.fspath(path), rule)
    try:
        job = _job(documents, spec)
        faults = list(_faults(job))
        for definition in job.declared.values():
            definition.get('parameterType')
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        raise invalid('job', os.fspath(path), f'{rule} ({reason})') from error
    for fault in faults:
        raise PipelineError(fault)
    return job


def _job(documents: Sequence[Any], spec: Message) -> Job:
    runtime = documents[0].get('runtimeConfig') or {}
    platform: dict[str, Any] = {}
    for document in documents[1:]:
        kubernetes = (document.get('platforms') or {}).get('kubernetes') or {}
        platform |= (kubernetes.get('deploymentSpec') or {}).get('executors') or {}
    return Job(
        name=spec['pipelineInfo']['name'],
        spec=spec,
        platform=platform,
        root=runtime.get('gcsOutputDirectory') or spec.get('defaultPipelineRoot') or '',
        values={**_legacy(runtime.get('parameters')), **(runtime.get('parameterValues') or {})},
        digest=hashlib.sha256(json.dumps(documents, sort_keys=True).encode()).hexdigest(),
    )


def _faults(job: Job) -> Iterator[str]:
    """Yields what of a job cannot run here, each as a message."""
    for name, component in {'root': job.spec['root'], **job.spec['components']}.items():
        for task, message in ((component.get('dag') or {}).get('tasks') or {}).items():
            reference = (message.get('componentRef') or {}).get('name')
            if reference not in job.spec['components']:
                yield f'{task}: got component {reference!r}, rule: one of the file'
            for iterator in ('parameterIterator', 'artifactIterator'):
                if iterator in message:
                    yield f'{task}: got a loop ({iterator}), rule: none, local runs have no loops'
        if 'dag' in component:
            continue
        label = component.get('executorLabel')
        executor = job.spec['deploymentSpec']['executors'].get(label) or {}
        kind = next(iter(executor), None)
        if kind not in _KINDS:
            yield f'{name}: got executor {label!r} of kind {kind!r}, rule: one of {", ".join(_KINDS)}'


def _legacy(values: Message | None) -> dict[str, Any]:
    return {name: literal(value) for name, value in (values or {}).items()}


def _typed(name: str, value: Any, definition: Message) -> Any:
    kind = _TYPES.get(definition.get('parameterType') or definition.get('type', 'STRING'), str)
    try:
        if not isinstance(value, str) or kind is str:
            fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
            parsed = value
        else:
            parsed = json.loads(value)
            fits = isinstance(parsed, kind) or (kind is float and isinstance(parsed, int))
    except ValueError:
        fits = False
    if not fits or (isinstance(parsed, bool) and kind is not bool):
        raise invalid(
            f'parameter {name}', value, f'of type {definition.get("parameterType") or definition.get("type")}'
        )
    return parsed
