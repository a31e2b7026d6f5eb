"""CassandraFeatureRetrieval's arguments <-> its execution properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tfx_cassandra.components import protos
from tfx_cassandra.components.backup import properties as backups
from tfx_cassandra.components.driver import properties as cluster
from tfx_cassandra.components.lookup.options import LATEST, RetrievalOptions
from tfx_cassandra.components.parameters import known, property_of, text
from tfx_cassandra.proto import cassandra_pb2

# Execution properties that may be parameters of a run, and the fields of RetrievalOptions that they set.
RUN = {**cluster.paths(), **backups.paths('source'), 'as_of': 'as_of'}


def to_properties(
    connection: Any, views: Any, as_of: Any, missing: Literal['absent', 'error'], consistency: str, source: Any
) -> dict[str, Any]:
    """Returns the execution properties for the component's arguments, checked except for parameters.

    Raises:
      ValueError: An argument breaks its rule; the message names field, value and rule.
    """
    config = RetrievalOptions(
        None if connection is None else cluster.checked(connection), views, known('as_of', as_of, LATEST), missing,
        consistency, backups.checked(source),
    )  # fmt: skip
    return {
        'config': protos.to_message(config, cassandra_pb2.RetrievalOptions(), RUN.values()),
        **(dict.fromkeys(cluster.paths()) if connection is None else cluster.declared(connection)),
        **backups.declared(source),
        'as_of': property_of(as_of),
    }


def from_properties(properties: Mapping[str, Any]) -> RetrievalOptions:
    """Returns the configuration of a run.

    Raises:
      ValueError: A value breaks its rule; the message names field, value and rule.
    """
    run = {
        **cluster.resolved(properties),
        **backups.resolved(properties, 'source'),
        'as_of': text(properties, 'as_of'),
    }
    message = protos.parsed(properties['config'], cassandra_pb2.RetrievalOptions())
    return protos.from_message(RetrievalOptions, message, run)
