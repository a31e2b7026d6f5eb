"""Values in a compiled pipeline: where a task's inputs come from, and placeholders in command lines.

{{$}}                                    the whole ExecutorInput
{{$.inputs.parameters['window']}}        a value of it
{{$.outputs.artifacts['model'].uri}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tfx_cassandra.components.errors import PipelineError

Message = Mapping[str, Any]

_PLACEHOLDER = re.compile(r"\{\{\$((?:\.[a-z_]+(?:\[\d+\])?|\['[^']*'\]|\[\d+\])*)\}\}")
_PART = re.compile(r"\.([a-z_]+)|\['([^']*)'\]|\[(\d+)\]")


def constant(value: Message) -> Any:
    """Returns a literal of a ValueOrRuntimeParameter: `constant` of schema 2.1, or `constantValue` of 2.0."""
    return value['constant'] if 'constant' in value else literal(value['constantValue'])


def literal(value: Message) -> Any:
    """Returns what a Value of schema 2.0 holds, such as {'intValue': '1'} or {'stringValue': 'a'}."""
    ((kind, content),) = value.items()
    return int(content) if kind == 'intValue' else content


def command_line(container: Message, execution: Message, names: Message) -> list[str]:
    """Returns the command of a container with its arguments, every placeholder replaced.

    Args:
      container: The PipelineContainerSpec.
      execution: The ExecutorInput.
      names: What `{{$.pipeline_job_name}}` and its siblings stand for.

    Raises:
      PipelineError: A placeholder names what does not exist.
    """
    words = [*(container.get('command') or ()), *(container.get('args') or ())]
    return [text for word in words for text in _structured(word, execution, names)]


def replaced(text: str, execution: Message, names: Message) -> str:
    """Returns a text with its placeholders replaced."""

    def value(match: re.Match[str]) -> str:
        found = _looked_up(match[0], match[1], execution, names)
        return found if isinstance(found, str) else json.dumps(found)

    return _PLACEHOLDER.sub(value, text)


def _structured(word: Any, execution: Message, names: Message) -> list[str]:
    """Returns the words that one of KFP stands for: Concat and IfPresent are JSON, also as text."""
    if isinstance(word, str) and word.startswith(('{"Concat"', '{"IfPresent"')):
        word = json.loads(word)
    if isinstance(word, str):
        return [replaced(word, execution, names)]
    if isinstance(word, Sequence):
        return [text for part in word for text in _structured(part, execution, names)]
    if 'Concat' in word:
        return [''.join(text for part in word['Concat'] for text in _structured(part, execution, names))]
    if 'IfPresent' in word:
        choice, given = word['IfPresent'], execution['inputs']
        present = any(choice['InputName'] in given.get(kind, ()) for kind in ('parameterValues', 'artifacts'))
        chosen = choice.get('Then' if present else 'Else')
        return _structured(chosen, execution, names) if chosen else []
    raise PipelineError(f'argument: got {word!r}, rule: a text, Concat or IfPresent')


def _looked_up(whole: str, path: str, execution: Message, names: Message) -> Any:
    parts = [name or key or int(index) for name, key, index in _PART.findall(path)]
    if not parts:
        return execution
    if len(parts) == 1 and parts[0] in names:
        return names[str(parts[0])]
    if parts[:1] == ['json_escape']:  # {{$.json_escape[1]}}: the whole, escaped so often
        text = json.dumps(execution)
        for _ in range(int(parts[1])):
            text = json.dumps(text)[1:-1]
        return text
    side, kind, *rest = (*map(str, parts), None)
    try:
        if side == 'outputs' and kind in ('output_file', 'output_metadata_uri'):
            return execution['outputs']['outputFile']
        if kind == 'parameters':
            key = rest[0]
            if side == 'inputs':
                return execution['inputs']['parameterValues'][key]
            return execution['outputs']['parameters'][key]['outputFile']
        if kind == 'artifacts':
            key, *fields = rest
            return _field(execution[str(side)]['artifacts'][key]['artifacts'][0], fields)
    except (KeyError, IndexError, TypeError):
        pass
    raise PipelineError(f'placeholder: got {whole}, rule: an input or output of the component')


def _field(artifact: Message, fields: Sequence[Any]) -> Any:
    field = fields[0]
    if field == 'path':
        return artifact['uri']
    if field == 'value':
        with open(artifact['uri'], encoding='utf-8') as file:
            return file.read()
    return artifact['metadata'][fields[1]] if field == 'metadata' else artifact[field]
