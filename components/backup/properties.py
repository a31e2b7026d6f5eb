"""A backup as execution properties: what may differ from run to run is a property of its own, as of a connection."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfx_cassandra.components.backup.backup import PARAMETERS, CassandraBackup
from tfx_cassandra.components.checks import conform
from tfx_cassandra.components.parameters import known, property_of, text

_STAND_INS = {'uri': 'file:///', 'backup': None, 'keyspace': CassandraBackup.keyspace}
_PROPERTIES = {'uri': 'backup_uri', 'backup': 'backup_name', 'keyspace': 'backup_keyspace'}


def paths(source: str) -> dict[str, str]:
    """Returns the path of each property's field in a configuration that has the backup at a path."""
    return {_PROPERTIES[name]: f'{source}.{name}' for name in PARAMETERS}


def checked(source: Any) -> CassandraBackup | None:
    """Returns the backup to check a configuration with: open values have stand-ins.

    Raises:
      ValueError: It is not a CassandraBackup.
    """
    source = conform('source', source, CassandraBackup | None)
    if source is None:
        return None
    return dataclasses.replace(
        source, **{name: known(name, getattr(source, name), stand_in) for name, stand_in in _STAND_INS.items()}
    )


def declared(source: CassandraBackup | None) -> dict[str, Any]:
    """Returns the execution properties of a backup."""
    return {_PROPERTIES[name]: property_of(getattr(source, name, None)) for name in PARAMETERS}


def resolved(properties: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Returns the values of a run by their paths, for `protos.from_message`."""
    return {path: text(properties, name) or None for name, path in paths(source).items()}
