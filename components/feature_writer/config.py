"""CassandraFeatureWriter's arguments <-> its execution properties."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from tfx_cassandra.components.checks import Name, Rule, TableName, check_fields
from tfx_cassandra.components.driver import properties as cluster
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.parameters import known, text
from tfx_cassandra.components.write.statement import Ttl
from tfx_cassandra.proto import cassandra_pb2

# What varies from run to run: execution properties of their own, and the fields of FeatureWriterConfig they give.
RUN = {**cluster.paths(), 'table': 'table'}


@dataclasses.dataclass(frozen=True)
class ColumnSource:
    """Where a column's values come from: a feature of the examples, or a constant."""

    column: Name
    feature: Name | None = None
    constant: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, 'columns.')
        if (self.feature is None) == (self.constant is None):
            raise invalid(f'columns.{self.column}', None, 'a feature or a constant')


@dataclasses.dataclass(frozen=True)
class FeatureWriterConfig:
    """What CassandraFeatureWriter writes where; see the component for the fields."""

    connection: CassandraConnection
    table: TableName
    columns: Annotated[tuple[ColumnSource, ...], Rule('one or more columns', bool)]
    write_time_feature: Name | None = None
    ttl: Ttl | None = None
    consistency: Consistency = 'LOCAL_QUORUM'
    max_errors: Annotated[int, Rule('an integer from 0 to 2^31 - 1', lambda count: 0 <= count < 2**31)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        names = [source.column for source in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise invalid('columns', twice, 'each column once, with a feature or a constant')
        if all(source.feature is None for source in self.columns):
            raise invalid('columns', names, 'a feature for at least one column')


def sources(columns: Any, constants: Mapping[str, str] | None) -> tuple[ColumnSource, ...]:
    """Returns the component's `columns` and `constants` in one form.

    Raises:
      ValueError: They are no mappings of texts, or a column stands in both.
    """
    if not isinstance(columns, Mapping):
        columns = {name: name for name in _texts('columns', columns)}
    _texts('columns', columns.values())
    _texts('constants', (constants or {}).values())
    found = [ColumnSource(column, feature) for column, feature in columns.items()]
    found += [ColumnSource(column, constant=value) for column, value in (constants or {}).items()]
    return tuple(found)


def _texts(field: str, given: Any) -> list[str]:
    names = [] if isinstance(given, str) else list(given)
    if isinstance(given, str) or not all(isinstance(name, str) for name in names):
        raise invalid(
            field, given if isinstance(given, str) else names, 'texts by column, or a list of names that are both'
        )
    return names


def to_properties(connection: Any, table: Any, **fields: Any) -> dict[str, Any]:
    """Returns the execution properties, checked as far as they are known.

    Args:
      connection, table: The component's, or with parameters.
      fields: The other fields of FeatureWriterConfig.

    Raises:
      ValueError: An argument breaks its rule; the message names field, value and rule.
    """
    config = FeatureWriterConfig(cluster.checked(connection), known('table', table, 'table'), **fields)
    return cluster.of_config(config, cassandra_pb2.FeatureWriterConfig(), connection, {'table': table})


def from_properties(properties: Mapping[str, Any]) -> FeatureWriterConfig:
    """Returns the configuration of a run.

    Raises:
      ValueError: A value breaks its rule; the message names field, value and rule.
    """
    run = {'table': text(properties, 'table')}
    return cluster.to_config(FeatureWriterConfig, cassandra_pb2.FeatureWriterConfig(), properties, run)
