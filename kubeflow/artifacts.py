"""Artifacts between a container step's messages and TFX: ExecutorInput -> TFX artifacts -> ExecutorOutput.

The messages are JSON objects of KFP's PipelineSpec. Nothing here imports kfp, which an image need not hold.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from typing import Any

import yaml
from ml_metadata.proto.metadata_store_pb2 import DOUBLE, INT, STRING, STRUCT  # type: ignore[attr-defined]
from tfx import types
from tfx.types import standard_artifacts
from tfx.types.artifact import CUSTOM_PROPERTIES_PREFIX
from tfx.types.experimental import simple_artifacts

from tfx_cassandra.components.errors import invalid

_IDS = 1 << 63  # of ML Metadata: what its int64 holds
# What open-source Kubeflow hands on in place of TFX's own types.
_SYSTEM = {
    'system.Model': standard_artifacts.Model,
    'system.Dataset': standard_artifacts.Examples,
    'system.Metrics': simple_artifacts.Metrics,
}


class Names:
    """The orchestrator's names of artifacts, which are text, by the integer ids that TFX knows them by."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def id_of(self, name: str) -> int:
        """Returns the id of a name, the same in every process; TFX's own entry point computes the same."""
        number = int(hashlib.sha256(name.encode()).hexdigest(), 16) % _IDS
        self._names[number] = name
        return number

    def name_of(self, number: int) -> str | None:
        """Returns the name behind an id, or None."""
        return self._names.get(number)


def read(lists: Mapping[str, Any], classes: Mapping[str, str], names: Names) -> dict[str, list[types.Artifact]]:
    """Returns the artifacts of an ExecutorInput's `inputs.artifacts` or `outputs.artifacts`.

    Args:
      lists: {key: {'artifacts': [RuntimeArtifact]}}.
      classes: The component's own declaration: the class path of each key's artifacts. It decides, because
        open-source Kubeflow hands artifacts on with `system.*` titles or without a type.
      names: Takes the artifacts' names.

    Raises:
      ValueError: An artifact has no type that TFX knows, and the component declares none.
    """
    return {
        key: [_read(key, message, classes.get(key), names) for message in listed.get('artifacts', ())]
        for key, listed in lists.items()
    }


def written(artifact: types.Artifact, names: Names) -> dict[str, Any]:
    """Returns an output artifact as a RuntimeArtifact: its name, URI and metadata."""
    proto = artifact.mlmd_artifact
    metadata = {name: _json(artifact, name, value) for name, value in proto.properties.items()}
    for name, value in proto.custom_properties.items():
        custom = CUSTOM_PROPERTIES_PREFIX + name if name in artifact.artifact_type.properties else name
        metadata[custom] = _json(artifact, name, value, custom=True)
    message = {'uri': artifact.uri, 'metadata': metadata}
    name_of = names.name_of(proto.id)
    return message if name_of is None else {'name': name_of, **message}


def _read(key: str, message: Mapping[str, Any], declared: str | None, names: Names) -> types.Artifact:
    artifact = (_imported(declared) if declared else _class_of(key, message.get('type') or {}))()
    if message.get('name'):
        artifact.mlmd_artifact.id = names.id_of(message['name'])
    artifact.mlmd_artifact.uri = message.get('uri', '')
    for name, value in (message.get('metadata') or {}).items():
        _set(artifact, name, value)
    for field in ('properties', 'customProperties'):  # of schema 2.0
        for name, value in (message.get(field) or {}).items():
            _set(artifact, name, legacy_value(value), custom=field == 'customProperties')
    artifact.set_mlmd_artifact(artifact.mlmd_artifact)  # TFX's getters look there, the setters write beside it
    return artifact


def legacy_value(value: Mapping[str, Any]) -> int | float | str:
    """Returns what a Value of schema 2.0 holds: {'intValue': '1'}, {'doubleValue': 1.0} or {'stringValue': 'a'}."""
    ((kind, content),) = value.items()
    return int(content) if kind == 'intValue' else float(content) if kind == 'doubleValue' else str(content)


def _set(artifact: types.Artifact, name: str, value: Any, custom: bool = False) -> None:
    properties = artifact.artifact_type.properties
    kind = None if custom else properties.get(name)
    if kind == INT and isinstance(value, int | float):
        setattr(artifact, name, int(value))
    elif kind == DOUBLE and isinstance(value, int | float):
        setattr(artifact, name, float(value))
    elif (kind == STRING and isinstance(value, str)) or kind == STRUCT:
        setattr(artifact, name, value)
    else:
        stripped = name.removeprefix(CUSTOM_PROPERTIES_PREFIX)
        # JSON knows no integers: a whole number stays a float, which the typed getters of TFX convert.
        number = float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        artifact.set_json_value_custom_property(stripped if stripped in properties else name, number)


def _json(artifact: types.Artifact, name: str, value: Any, custom: bool = False) -> Any:
    kind = value.WhichOneof('value')
    if kind == 'struct_value':
        return artifact.get_json_value_custom_property(name) if custom else getattr(artifact, name)
    if kind == 'int_value':
        return float(value.int_value)
    return getattr(value, kind) if kind else None


def _class_of(key: str, kind: Mapping[str, Any]) -> type[types.Artifact]:
    title = kind.get('schemaTitle') or (yaml.safe_load(kind.get('instanceSchema') or '') or {}).get('title') or ''
    space, _, name = title.rpartition('.')
    if title in _SYSTEM:
        return _SYSTEM[title]
    for module in (standard_artifacts, simple_artifacts):
        if space == 'tfx' and hasattr(module, name):
            return getattr(module, name)
    try:
        return _imported(title)
    except (ImportError, AttributeError, ValueError) as error:
        rule = 'a type of TFX, or one that the compiled step declares by --artifact_classes'
        raise invalid(f'artifact {key!r}', title or 'no type', rule) from error


def _imported(path: str) -> Any:
    module, _, name = path.rpartition('.')
    return getattr(importlib.import_module(module), name)
