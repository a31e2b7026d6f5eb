"""Tasks without a process: importers, which name an artifact, and resolvers, which find one of an earlier run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from tfx_cassandra.components.errors import PipelineError
from tfx_cassandra.pipelines.vertex_local import values

Message = Mapping[str, Any]

_CONDITION = re.compile(
    r"""(?P<field>[\w.]+)\s*=\s*(?:"(?P<text>[^"]*)"|(?P<number>-?[\d.]+(?:e[+-]?\d+)?)|(?P<word>\w+))"""
)
_NUMBER, _TEXT = '.number_value', '.string_value'


def imported(importer: Message, parameters: Message, name: str) -> Message:
    """Returns the artifact that an importer names.

    Args:
      importer: The ImporterSpec.
      parameters: Values of the task's inputs.
      name: Of the artifact.
    """
    uri = importer['artifactUri']
    source = parameters[uri['runtimeParameter']] if 'runtimeParameter' in uri else values.constant(uri)
    metadata = dict(importer.get('metadata') or {})
    return {'name': name, 'uri': source, 'type': importer.get('typeSchema') or {}, 'metadata': metadata}


def resolved(resolver: Message, execution: Message, artifacts: Iterable[Message]) -> dict[str, list[Message]]:
    """Returns, of each of a resolver's outputs, the newest artifact that fulfils its query, or none.

    Args:
      resolver: The ResolverSpec.
      execution: The ExecutorInput, for placeholders in queries.
      artifacts: Of earlier runs, the newest first.

    Raises:
      PipelineError: A query cannot be understood.
    """
    queries = {
        key: _conditions(_filled(query['filter'], execution))
        for key, query in resolver['outputArtifactQueries'].items()
    }
    found: dict[str, list[Message]] = {key: [] for key in queries}
    for artifact in artifacts:
        for key, conditions in queries.items():
            if not found[key] and all(_fits(artifact, *condition) for condition in conditions):
                found[key] = [artifact]
    return found


def title(kind: Message) -> str:
    """Returns the title of an artifact's type."""
    return kind.get('schemaTitle') or (yaml.safe_load(kind.get('instanceSchema') or '') or {}).get('title') or ''


def _filled(query: str, execution: Message) -> str:
    try:
        return values.replaced(query, execution, {})
    except PipelineError:
        return 'name=""'  # it asks for the artifact that another one names, and there is no other


def _conditions(query: str) -> list[tuple[str, str]]:
    conditions = []
    for part in query.split(' AND '):
        match = _CONDITION.fullmatch(part.strip())
        if match is None:
            raise PipelineError(f'query of a resolver: got {part}, rule: field=value, joined by AND')
        conditions.append((match['field'], match['text'] if match['text'] is not None else match[0].split('=')[1]))
    return conditions


def _fits(artifact: Message, field: str, wanted: str) -> bool:
    if field == 'state':  # every artifact that is recorded is live
        return wanted.strip() == 'LIVE'
    if field == 'schema_title':
        return title(artifact['type']) == wanted
    if field.startswith('metadata.'):
        key = field.removeprefix('metadata.').removesuffix(_NUMBER).removesuffix(_TEXT)
        value = artifact['metadata'].get(key)
        return value is not None and (float(value) == float(wanted) if field.endswith(_NUMBER) else value == wanted)
    return artifact.get(field) == wanted
