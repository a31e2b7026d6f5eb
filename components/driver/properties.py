"""Configurations as execution properties; what may differ from run to run, as the cluster, is a property of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from google.protobuf.message import Message

from tfx_cassandra.components import protos
from tfx_cassandra.components.checks import conform
from tfx_cassandra.components.driver.connection import PARAMETERS, CassandraConnection
from tfx_cassandra.components.parameters import known, property_of, text

T = TypeVar('T')


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


def of_config(config: Any, message: Message, connection: CassandraConnection, run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the execution properties of a component: its configuration, and each value of a run as its text.

    Args:
      config: A dataclass with a field `connection` and a field for each name of `run`.
      message: An empty message of its fields.
      connection: The component's, or one with parameters.
      run: The component's other arguments that may be parameters.
    """
    return {
        'config': protos.to_message(config, message, {*paths().values(), *run}),
        **declared(connection),
        **{name: property_of(value) for name, value in run.items()},
    }


def to_config(kind: type[T], message: Message, properties: Mapping[str, Any], run: Mapping[str, Any]) -> T:
    """Returns the configuration of a run; the reverse of `of_config`.

    Args:
      kind: The dataclass.
      message: An empty message of its fields.
      properties: The execution properties.
      run: The values of this run, parsed.

    Raises:
      ValueError: A value breaks its rule; the message names field, value and rule.
    """
    return protos.from_message(kind, protos.parsed(properties['config'], message), {**resolved(properties), **run})
