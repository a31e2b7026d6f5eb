"""CassandraFeatureRetrieval's arguments <-> its execution properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from tfx_cassandra.components import protos
from tfx_cassandra.components.checks import Rule, check_fields
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver import properties as cluster
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.parameters import known, property_of, text
from tfx_cassandra.proto import cassandra_pb2

LATEST = 'latest'
# What varies from run to run: execution properties of their own, and the fields of RetrievalConfig they give.
RUN = {**cluster.paths(), 'as_of': 'as_of'}


@dataclasses.dataclass(frozen=True)
class RetrievalConfig:
    """What CassandraFeatureRetrieval looks up; see the component for the fields."""

    connection: CassandraConnection
    views: tuple[FeatureView, ...]
    as_of: Annotated[str, Rule("'latest' or the name of a feature", bool)] = LATEST
    missing: Literal['absent', 'error'] = 'absent'
    consistency: Consistency = 'LOCAL_QUORUM'

    def __post_init__(self) -> None:
        check_fields(self)
        names = [view.name for view in self.views]
        if not names or len(set(names)) < len(names):
            raise invalid('views', names, 'one or more views, each name once')
        features = [name for view in self.views for name in view.example_names]
        if clash := sorted({name for name in features if features.count(name) > 1}):
            raise invalid('views', clash, 'no two features with the same name; a prefix tells them apart')


def to_properties(
    connection: Any, views: tuple[FeatureView, ...], as_of: Any, missing: Literal['absent', 'error'], consistency: str
) -> dict[str, Any]:
    """Returns the execution properties for the component's arguments, checked as far as they are known.

    Raises:
      ValueError: An argument breaks its rule; the message names field, value and rule.
    """
    config = RetrievalConfig(cluster.checked(connection), views, known('as_of', as_of, LATEST), missing, consistency)
    return {
        'config': protos.to_message(config, cassandra_pb2.RetrievalConfig(), RUN.values()),
        **cluster.declared(connection),
        'as_of': property_of(as_of),
    }


def from_properties(properties: Mapping[str, Any]) -> RetrievalConfig:
    """Returns the configuration of a run.

    Raises:
      ValueError: A value breaks its rule; the message names field, value and rule.
    """
    given = cluster.resolved(properties) | {'as_of': text(properties, 'as_of')}
    message = protos.parsed(properties['config'], cassandra_pb2.RetrievalConfig())
    return protos.from_message(RetrievalConfig, message, given)
