"""Which columns of a table are features, of what entity, at what time."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Literal

from tfx_cassandra.components.errors import invalid


@dataclasses.dataclass(frozen=True)
class FeatureView:
    """Says how a table holds features.

    Attributes:
      name: Name of the view, in messages and metadata.
      table: Table of the connection's keyspace.
      entity_columns: Columns that tell whose features a row holds; at least one.
      timestamp_column: Column of type timestamp: the time from which a value holds.
      features: Wide layout: feature columns. Long layout: values of feature_name_column that are wanted.
      ttl: How long a value counts as known after its timestamp, or None for ever.
      layout: 'wide' = one column per feature; 'long' = one row per feature and timestamp.
      feature_name_column: Long layout: the column that names the feature.
      value_column: Long layout: the column that holds the value.
      created_column: Column of the time a row was written; ties of timestamp go to the newest.
      prefix: Put before each feature's name in the examples.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    name: str
    table: str
    entity_columns: tuple[str, ...]
    timestamp_column: str
    features: tuple[str, ...]
    ttl: datetime.timedelta | None = None
    layout: Literal['wide', 'long'] = 'wide'
    feature_name_column: str | None = None
    value_column: str | None = None
    created_column: str | None = None
    prefix: str = ''

    def __post_init__(self) -> None:
        for field in ('entity_columns', 'features'):
            names = getattr(self, field)
            names = (names,) if isinstance(names, str) else tuple(names)
            object.__setattr__(self, field, names)
            if not names or len(set(names)) < len(names) or not all(isinstance(n, str) and n for n in names):
                raise invalid(field, names, 'one or more names, each once')
        for field in ('name', 'table', 'timestamp_column'):
            if not isinstance(getattr(self, field), str) or not getattr(self, field):
                raise invalid(field, getattr(self, field), 'a non-empty text')
        if self.layout not in ('wide', 'long'):
            raise invalid('layout', self.layout, "'wide' or 'long'")
        for field in ('feature_name_column', 'value_column'):
            if (getattr(self, field) is None) == (self.layout == 'long'):
                raise invalid(field, getattr(self, field), 'given with layout long, and only then')
        if self.ttl is not None and self.ttl <= datetime.timedelta(0):
            raise invalid('ttl', self.ttl, 'above zero')
        names = [*self.entity_columns, self.timestamp_column, *map(self.example_name, self.features)]
        if clash := sorted({name for name in names if names.count(name) > 1}):
            raise invalid('features', clash, 'no two of entity, timestamp and features with the same name')

    def example_name(self, feature: str) -> str:
        """Returns the name a feature has in the examples."""
        return self.prefix + feature

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that a scan for this view reads."""
        if self.feature_name_column is not None and self.value_column is not None:
            return (*self.entity_columns, self.timestamp_column, self.feature_name_column, self.value_column)
        return (*self.entity_columns, self.timestamp_column, *self.features)
