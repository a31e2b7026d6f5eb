"""Which columns of a table are features, of what entity, at what time."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import ipaddress
import re
import uuid
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from tfx_cassandra.components.checks import Name, Rule, TableName, check_fields, conform
from tfx_cassandra.components.cql.values import alternatives, unboxed
from tfx_cassandra.components.errors import invalid

_MAP_ENTRY = re.compile(r"(?P<column>.+)\['(?P<key>.+)'\]", re.DOTALL)
_PLAIN = (bool, int, float, str)  # what a default may be made of
_VALUES = (
    *_PLAIN, bytes, uuid.UUID, ipaddress.IPv4Address, ipaddress.IPv6Address, decimal.Decimal, datetime.datetime,
    datetime.date, datetime.time,
)  # what a restriction may be made of  # fmt: skip
# The features of two Features may stand in one column, as long as their names in the examples differ.
_EACH_ONCE = Rule('one or more names, each once', lambda names: bool(names) and len(set(names)) == len(names))


class Source(NamedTuple):
    """A column, or the entry of a map column under one key."""

    column: str
    key: str | None = None

    @classmethod
    def parse(cls, text: str) -> Source:
        """Parses `column` or `column['key']`."""
        entry = _MAP_ENTRY.fullmatch(text)
        return cls(entry['column'], entry['key']) if entry else cls(text)


@dataclasses.dataclass(frozen=True)
class Feature:
    """A feature that is more than its plain name.

    Attributes:
      name: Wide layout: a column, or `column['key']` for one entry of a map. Long layout: its name in
        feature_name_column.
      rename: Its name in the examples; None for its own (`column.key` for an entry of a map).
      default: What an example holds where there is no value: a number, text, boolean, or a tuple of them for a feature
        of several values. None leaves the feature missing.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    name: Name
    rename: Name | None = None
    default: Any = None

    def __post_init__(self) -> None:
        check_fields(self)
        if isinstance(self.default, list):
            object.__setattr__(self, 'default', tuple(self.default))
        values = self.default if isinstance(self.default, tuple) else (self.default,)
        if self.default is not None and not all(isinstance(value, _PLAIN) for value in values):
            raise invalid('default', self.default, 'a number, a text, a boolean or a tuple of them')


@dataclasses.dataclass(frozen=True)
class FeatureView:
    """Says how a table holds features.

    Attributes:
      name: Name of the view, in messages and metadata.
      table: Table of the connection's keyspace; `keyspace.table` for one of another.
      entity_columns: Columns, or entries of maps such as `metadata['user_id']`, that tell whose features a row holds;
        at least one.
      timestamp_column: Column of type timestamp: the time from which a value holds. None where the table has no time:
        what it holds then holds always.
      features: Names, or Features where a name is not enough. Wide layout: feature columns or entries of maps. Long
        layout: values of feature_name_column that are wanted.
      ttl: How long a value counts as known: one of exactly this age is already too old. None for ever.
      layout: 'wide' = one column per feature; 'long' = one row per feature and timestamp.
      feature_name_column: Long layout: the column that names the feature.
      value_column: Long layout: the column that holds the value.
      created_column: Column of type timestamp, the time a row was written; ties of timestamp go to the newest. None for
        Cassandra's own write time of each cell.
      prefix: Put before each feature's name in the examples.
      join_columns: Columns of the label source that hold the entity, in the order of entity_columns; empty where they
        have the entity's own names.
      where: Column -> value, or several values of which a row must have one. They are compared as values of the
        column's CQL type, in any form that cql/parsers.py tells: an id as uuid.UUID or as text, for one.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    name: Name
    table: TableName
    entity_columns: Annotated[tuple[Name, ...], _EACH_ONCE]
    timestamp_column: Name | None
    features: Annotated[tuple[Name | Feature, ...], _EACH_ONCE]
    ttl: datetime.timedelta | None = None
    layout: Literal['wide', 'long'] = 'wide'
    feature_name_column: Name | None = None
    value_column: Name | None = None
    created_column: Name | None = None
    prefix: str = ''
    join_columns: Annotated[
        tuple[Name, ...], Rule('names, each once', lambda names: len(set(names)) == len(names))
    ] = ()
    where: Mapping[str, Any] | tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, 'where', restrictions(self.where))
        check_fields(self)
        # One spelling of each view, so that equal views are equal.
        plain = [f.name if isinstance(f, Feature) and f == Feature(f.name) else f for f in self.features]
        object.__setattr__(self, 'features', tuple(plain))
        if self.join_columns and len(self.join_columns) != len(self.entity_columns):
            raise invalid('join_columns', self.join_columns, f'one for each of {self.entity_columns}')
        for field in ('feature_name_column', 'value_column'):
            if (getattr(self, field) is None) == (self.layout == 'long'):
                raise invalid(field, getattr(self, field), 'given with layout long, and only then')
        if self.ttl is not None and (self.ttl <= datetime.timedelta(0) or self.timestamp_column is None):
            raise invalid('ttl', self.ttl, 'above zero, and None where there is no timestamp_column')
        names = [*self.entity_names, *filter(None, [self.timestamp_column]), *self.example_names]
        if clash := sorted(name for name, count in collections.Counter(names).items() if count > 1):
            raise invalid('features', clash, 'no two of entity, timestamp and features with the same name')

    def example_name(self, feature: str | Feature) -> str:
        """Returns the name a feature has in the examples."""
        full = feature if isinstance(feature, Feature) else Feature(feature)
        own = full.name if self.layout == 'long' else '.'.join(filter(None, Source.parse(full.name)))
        return self.prefix + (full.rename or own)

    def source(self, feature: Feature) -> Source:
        """Returns where the values of a feature stand."""
        return Source(self.value_column) if self.value_column else Source.parse(feature.name)

    @property
    def full_features(self) -> tuple[Feature, ...]:
        """The features, each as a Feature."""
        return tuple(f if isinstance(f, Feature) else Feature(f) for f in self.features)

    @property
    def example_names(self) -> tuple[str, ...]:
        """The names of the features in the examples, in order."""
        return tuple(map(self.example_name, self.features))

    @property
    def entity(self) -> tuple[Source, ...]:
        """Where the parts of the entity stand."""
        return tuple(map(Source.parse, self.entity_columns))

    @property
    def entity_names(self) -> tuple[str, ...]:
        """The names of the entity's parts in the view's own examples: that of the column, or of the map's key."""
        return tuple(source.key or source.column for source in self.entity)

    @property
    def spine_columns(self) -> tuple[str, ...]:
        """The label source's columns that hold the entity, in the order of `entity`."""
        return self.join_columns or self.entity_names

    @property
    def value_columns(self) -> tuple[str, ...]:
        """The table's columns that hold values, each once."""
        return tuple(dict.fromkeys(self.source(feature).column for feature in self.full_features))

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that a scan for this view reads."""
        times = (self.timestamp_column, self.created_column, self.feature_name_column)
        entity = (source.column for source in self.entity)
        return tuple(dict.fromkeys([*entity, *filter(None, times), *self.value_columns]))

    @property
    def filters(self) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        """(column, values) that a row of this view has one of."""
        wanted = tuple(feature.name for feature in self.full_features)
        named = ((self.feature_name_column, wanted),) if self.feature_name_column is not None else ()
        return (*named, *restrictions(self.where))


def restrictions(where: Mapping[str, Any] | Collection[tuple[str, Any]]) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    """Returns restrictions in their one form, (column, values) each.

    Raises:
      ValueError: A column has no value, or one of a kind that no column is compared with.
    """
    pairs = []
    conform('where', where, Mapping[str, Any] | tuple[tuple[str, Any], ...])
    for column, value in where.items() if isinstance(where, Mapping) else where:
        values = tuple(map(_restriction, alternatives(value)))
        if not values or not all(map(_is_restriction, values)):
            rule = 'numbers, texts or booleans, at least one a column (or ids, addresses, times, bytes)'
            raise invalid('where', {column: value}, rule)
        pairs.append((column, values))
    return tuple(pairs)


def _restriction(value: Any) -> Any:
    """Returns a value in a form that is equal for equal values and can be hashed."""
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    # A value of a column of tuples or lists is a collection itself.
    return tuple(map(_restriction, value)) if isinstance(value, (list, tuple, set, frozenset)) else unboxed(value)


def _is_restriction(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_restriction, value))
    return isinstance(value, _VALUES) and not getattr(value, 'nanosecond', 0)  # which JSON would lose
