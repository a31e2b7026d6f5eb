"""Conditions of tasks: expressions of CEL on the task's inputs, evaluated by cel-python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_cassandra.components.errors import PipelineError


def holds(expression: str, inputs: Mapping[str, Any]) -> bool:
    """Returns whether a condition holds.

    Args:
      expression: Such as `inputs.artifacts['blessing'].artifacts[0].metadata['blessed'] == 1.0`.
      inputs: `inputs` of the task's ExecutorInput.

    Raises:
      PipelineError: It cannot be evaluated, as where an artifact lacks the property.
    """
    try:
        import celpy
    except ImportError as error:
        raise PipelineError('condition: cel-python is not installed: pip install "tfx-cassandra[kfp]"') from error
    environment = celpy.Environment()
    values = {'parameter_values': inputs.get('parameterValues') or {}, 'artifacts': inputs.get('artifacts') or {}}
    try:
        program = environment.program(environment.compile(expression))
        result = program.evaluate({'inputs': celpy.json_to_cel(_floats(values))})
    except Exception as error:  # of CEL's own kinds, which share no base
        reason = ' '.join(str(error).split())[:200]
        raise PipelineError(f'condition: got {expression}, rule: can be evaluated ({reason})') from error
    return bool(result)


def _floats(value: Any) -> Any:
    """Returns a JSON value with floats for its integers: a Value of protobuf has one kind of number."""
    if isinstance(value, Mapping):
        return {key: _floats(content) for key, content in value.items()}
    if isinstance(value, list):
        return [_floats(content) for content in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
