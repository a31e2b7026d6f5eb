"""A connection as execution properties: the cluster and the keyspace of a pipeline may differ from run to run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfx_cassandra.components.checks import conform
from tfx_cassandra.components.driver.connection import PARAMETERS, CassandraConnection
from tfx_cassandra.components.parameters import known, property_of, text


def paths(connection: str = 'connection') -> dict[str, str]:
    """Returns the path of each property's field in a configuration that has the connection at a path."""
    return {name: f'{connection}.{name}' for name in PARAMETERS}


def checked(connection: Any) -> CassandraConnection:
    """Returns the connection to check a configuration with: open values have their defaults.

    Raises:
      ValueError: It is not a CassandraConnection.
    """
    connection = conform('connection', connection, CassandraConnection)
    defaults = CassandraConnection()
    values = {name: known(name, getattr(connection, name), getattr(defaults, name)) for name in PARAMETERS}
    return dataclasses.replace(connection, **values)


def declared(connection: CassandraConnection) -> dict[str, Any]:
    """Returns the execution properties of a connection; contact points are one text, with commas."""
    forms = {'contact_points': ','.join}
    return {name: property_of(getattr(connection, name), forms.get(name, str)) for name in PARAMETERS}


def resolved(properties: Mapping[str, Any], connection: str = 'connection') -> dict[str, Any]:
    """Returns the values of a run by their paths, for `protos.from_message`."""
    values: dict[str, Any] = {name: text(properties, name) for name in PARAMETERS}
    points = values['contact_points'].split(',')
    values['contact_points'] = tuple(point.strip() for point in points if point.strip())
    return {path: values[name] for name, path in paths(connection).items()}
