"""CassandraPusher's arguments <-> its execution properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfx_cassandra.components.checks import Count, Name, check_fields
from tfx_cassandra.components.driver import properties as cluster
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.parameters import known, optional, text
from tfx_cassandra.components.registry.claims import named
from tfx_cassandra.proto import cassandra_pb2

_RUN = ('experiment_id', 'model_id', 'ab_test_group', 'alias')
# Execution properties that may be parameters of a run, and the fields of PusherConfig that they set.
RUN = {**cluster.paths(), **{name: name for name in _RUN}}


@dataclasses.dataclass(frozen=True)
class PusherConfig:
    """The configuration of CassandraPusher; see the component for the fields."""

    connection: CassandraConnection
    experiment_id: Name
    model_id: Name
    ab_test_group: Name | None = None
    alias: Name | None = None
    max_metrics: Count = 1000

    def __post_init__(self) -> None:
        check_fields(self)
        for field in _RUN:
            if getattr(self, field) is not None:
                named(field, getattr(self, field))


def to_properties(connection: Any, max_metrics: int, **run: Any) -> dict[str, Any]:
    """Returns the execution properties, checked except for parameters.

    Args:
      connection: The component's, or one with parameters.
      max_metrics: The component's.
      run: experiment_id, model_id, ab_test_group and alias, or parameters for them.

    Raises:
      ValueError: An argument breaks its rule; the message names field, value and rule.
    """
    values = {name: known(name, value, name) for name, value in run.items()}
    config = PusherConfig(cluster.checked(connection), max_metrics=max_metrics, **values)
    return cluster.of_config(config, cassandra_pb2.PusherConfig(), connection, run)


def from_properties(properties: Mapping[str, Any]) -> PusherConfig:
    """Returns the configuration of a run; an empty `ab_test_group` or `alias` is none.

    Raises:
      ValueError: A value breaks its rule; the message names field, value and rule.
    """
    run: dict[str, Any] = {name: text(properties, name) for name in ('experiment_id', 'model_id')}
    run |= {name: optional(properties, name, str) for name in ('ab_test_group', 'alias')}
    return cluster.to_config(PusherConfig, cassandra_pb2.PusherConfig(), properties, run)
