"""ExecutorInput and ExecutorOutput: what a step is told, and what of it comes back."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from tfx_cassandra.components.errors import PipelineError
from tfx_cassandra.pipelines.vertex_local import values

Message = Mapping[str, Any]


def executor_input(
    component: Message, parameters: Message, artifacts: Mapping[str, Any], folder: pathlib.Path, root: str, name: str,
    legacy: bool,
) -> dict[str, Any]:  # fmt: skip
    """Returns the ExecutorInput of an execution.

    Args:
      component: The ComponentSpec.
      parameters: Values of the inputs.
      artifacts: Artifacts of the inputs, a list each.
      folder: The execution's, for its output file and output parameters.
      root: Folder or URI below which the output artifacts lie.
      name: Prefix of the output artifacts' names.
      legacy: Whether values are written as schema 2.0 has them.
    """
    outputs = component.get('outputDefinitions') or {}
    given = {key: _legacy(value) for key, value in parameters.items()} if legacy else dict(parameters)
    return {
        'inputs': {
            'parameters' if legacy else 'parameterValues': given,
            'artifacts': {key: {'artifacts': list(listed)} for key, listed in artifacts.items()},
        },
        'outputs': {
            'outputFile': str(folder / 'executor_output.json'),
            'parameters': {key: {'outputFile': str(folder / 'outputs' / key)} for key in outputs.get('parameters', ())},
            'artifacts': {
                key: {
                    'artifacts': [
                        {
                            'name': f'{name}/{key}',
                            'uri': f'{root}/{key}',
                            'type': definition['artifactType'],
                            'metadata': dict(definition.get('metadata') or {}),
                        }
                    ]
                }
                for key, definition in (outputs.get('artifacts') or {}).items()
            },
        },
    }


def outputs(component: Message, execution: Message) -> dict[str, Any]:
    """Returns what an execution has made: {'parameters': {key: value}, 'artifacts': {key: [artifact]}}.

    Raises:
      PipelineError: A file is not JSON, or an output parameter is missing.
    """
    asked = execution['outputs']
    path = asked['outputFile']
    written: dict[str, Any] = {}
    if os.path.exists(path):
        try:
            with open(path, encoding='utf-8') as file:
                written = json.load(file)
        except ValueError as error:
            raise PipelineError(f'executor output: got {path}, rule: a file of JSON ({error})') from error
    artifacts = {}
    for key, listed in asked['artifacts'].items():
        declared = listed['artifacts'][0]
        changed = (((written.get('artifacts') or {}).get(key) or {}).get('artifacts') or [{}])[0]
        metadata = {**declared['metadata'], **(changed.get('metadata') or {})}
        artifacts[key] = [{**declared, 'uri': changed.get('uri') or declared['uri'], 'metadata': metadata}]
    definitions = (component.get('outputDefinitions') or {}).get('parameters') or {}
    parameters = {key: _parameter(key, written, asked, definition) for key, definition in definitions.items()}
    return {'parameters': parameters, 'artifacts': artifacts}


def _parameter(key: str, written: Message, asked: Message, definition: Message) -> Any:
    if key in (written.get('parameterValues') or {}):
        return written['parameterValues'][key]
    if key in (written.get('parameters') or {}):
        return values.literal(written['parameters'][key])
    path = asked['parameters'][key]['outputFile']
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
    except FileNotFoundError as error:
        raise PipelineError(f'output parameter: got no value of {key}, rule: one, in {path}') from error
    is_text = (definition.get('parameterType') or definition.get('type')) == 'STRING'
    return text if is_text else json.loads(text)


def _legacy(value: Any) -> dict[str, Any]:
    if isinstance(value, bool | int):
        return {'intValue': str(int(value))}
    return {'doubleValue': value} if isinstance(value, float) else {'stringValue': value}
