"""ChampionModel's arguments <-> its execution properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfx_cassandra.components.checks import Name, check_fields
from tfx_cassandra.components.driver import properties as cluster
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.parameters import known, text
from tfx_cassandra.components.registry.claims import named
from tfx_cassandra.proto import cassandra_pb2

_RUN = ('experiment_id', 'alias')
# What varies from run to run: execution properties of their own, and the fields of ChampionConfig they give.
RUN = {**cluster.paths(), **{name: name for name in _RUN}}


@dataclasses.dataclass(frozen=True)
class ChampionConfig:
    """Which alias of which experiment ChampionModel looks up; see the component for the fields."""

    connection: CassandraConnection
    experiment_id: Name
    alias: Name = 'champion'
    required: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        for field in _RUN:
            named(field, getattr(self, field))


def to_properties(connection: Any, required: bool, **run: Any) -> dict[str, Any]:
    """Returns the execution properties, checked as far as they are known.

    Args:
      connection: The component's, or one with parameters.
      required: The component's.
      run: experiment_id and alias, or parameters for them.

    Raises:
      ValueError: An argument breaks its rule; the message names field, value and rule.
    """
    values = {name: known(name, value, name) for name, value in run.items()}
    config = ChampionConfig(cluster.checked(connection), required=required, **values)
    return cluster.of_config(config, cassandra_pb2.ChampionConfig(), connection, run)


def from_properties(properties: Mapping[str, Any]) -> ChampionConfig:
    """Returns the configuration of a run.

    Raises:
      ValueError: A value breaks its rule; the message names field, value and rule.
    """
    run = {name: text(properties, name) for name in _RUN}
    return cluster.to_config(ChampionConfig, cassandra_pb2.ChampionConfig(), properties, run)
