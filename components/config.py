"""Frozen dataclasses <-> protos: the only module that knows both.

A message has the name and the fields of its dataclass, so one pair of functions converts them all. What differs is
the spelling: a datetime travels as ISO-8601 text, a timedelta `x` as seconds in the field `x_seconds`, values of any
plain type as JSON in `x_json`; and a name may stand for a message that has nothing else.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import ipaddress
import json
import typing
import uuid
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from tfx_cassandra.components.cql.types import DEFAULT, Decoding
from tfx_cassandra.components.dataset.join.audit import AuditLimits
from tfx_cassandra.components.dataset.spec.label import Label, LabelSource
from tfx_cassandra.components.dataset.spec.span import SpanRange
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection, Tls, consistency_level
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment import design, results
from tfx_cassandra.components.experiment.design import Design
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.proto import cassandra_pb2

T = TypeVar('T')


@dataclasses.dataclass(frozen=True)
class ExampleGenConfig:
    """What CassandraExampleGen reads; see the component for the fields."""

    connection: CassandraConnection
    views: tuple[FeatureView, ...]
    window: TimeWindow | None
    consistency: str = 'LOCAL_QUORUM'
    splits: int | None = None
    page_rows: int = 5000
    shards: int | None = None
    shuffle_seed: int = 0
    rows_per_second: float | None = None
    bytes_per_second: float | None = None
    labels: LabelSource | None = None
    availability_cut_off: bool = True
    join_plan: str = 'auto'
    limits: AuditLimits | None = None
    span: SpanRange | None = None
    as_of: datetime.datetime | None = None
    entity_split: tuple[str, ...] = ()
    time_split: str | None = None
    gap: datetime.timedelta | None = None
    starts: tuple[str, ...] = ()
    cache_by: str = 'configuration'
    history: int | None = None
    decoding: Decoding = DEFAULT

    @property
    def sequences(self) -> tuple[str, ...]:
        """The features whose history the examples hold: those of views with a time. Empty without a history."""
        timed = [view for view in self.views if self.history is not None and view.timestamp_column is not None]
        return tuple(name for view in timed for name in view.example_names)

    @property
    def event_times(self) -> TimeWindow:
        """The window, which a span has once it is resolved (example_gen/resolve.py)."""
        if self.window is None:
            raise invalid('window', None, 'resolved from its span before anything is read')
        return self.window


@dataclasses.dataclass(frozen=True)
class PusherConfig:
    """Where CassandraPusher records what it pushed; see the component for the fields."""

    connection: CassandraConnection
    experiment_id: str
    model_id: str
    ab_test_group: str | None = None
    alias: str | None = None
    max_metrics: int = 1000


@dataclasses.dataclass(frozen=True)
class ABEvaluatorConfig:
    """What ABEvaluator compares and where it reads; see the component for the fields."""

    connection: CassandraConnection
    design: Design
    requests_table: str = 'inference_results'
    consistency: str = 'LOCAL_QUORUM'
    splits: int | None = None
    page_rows: int = 5000
    shards: int = 64
    as_of: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True)
class RetrievalConfig:
    """What CassandraFeatureRetrieval looks up; see the component for the fields."""

    connection: CassandraConnection
    views: tuple[FeatureView, ...]
    as_of: str = 'latest'
    missing: str = 'absent'
    consistency: str = 'LOCAL_QUORUM'

    def __post_init__(self) -> None:
        consistency_level(self.consistency)
        if not isinstance(self.as_of, str) or not self.as_of:
            raise invalid('as_of', self.as_of, "'latest' or the name of a feature")
        if self.missing not in ('absent', 'error'):
            raise invalid('missing', self.missing, "'absent' or 'error'")
        names = [view.name for view in self.views]
        if not names or len(set(names)) < len(names):
            raise invalid('views', names, 'one or more views, each name once')
        features = [name for view in self.views for name in view.example_names]
        if clash := sorted({name for name in features if features.count(name) > 1}):
            raise invalid('views', clash, 'no two features with the same name; a prefix tells them apart')


_QUOTED = 80  # characters of a text that cannot be read

_DATACLASSES: dict[str, Any] = {
    c.__name__: c
    for c in (
        ABEvaluatorConfig, AuditLimits, CassandraConnection, Decoding, ExampleGenConfig, Feature, FeatureView, Label,
        LabelSource, PusherConfig, RetrievalConfig, SpanRange, TimeWindow, Tls, design.Arm, design.Design,
        design.Metric, results.AaCheck, results.ArmEstimate, results.ArmResult, results.HeavyUnit, results.MetricResult,
        results.Point, results.Verdict,
    )
}  # fmt: skip


def to_json(config: object) -> str:
    """Serializes a configuration as the JSON of its proto, the form execution properties take."""
    return json_format.MessageToJson(_to_proto(config), preserving_proto_field_name=True, indent=0, sort_keys=True)


def from_json(kind: type[T], text: str) -> T:
    """Parses what `to_json` wrote; the dataclasses check their fields again.

    Raises:
      ValueError: The text is not the JSON of such a message, or a field breaks its rule.
    """
    message = getattr(cassandra_pb2, kind.__name__)()
    try:
        json_format.Parse(text, message)
    # A list where an object belongs is a TypeError or AttributeError of json_format, deep nesting a RecursionError.
    except (json_format.ParseError, TypeError, AttributeError, RecursionError) as error:
        reason = ' '.join(str(error).splitlines()[:1])
        raise invalid('config', text[:_QUOTED], f'JSON of {kind.__name__} ({reason})') from error
    return _from_proto(kind, message)


def _to_proto(value: Any) -> Message:
    message = getattr(cassandra_pb2, type(value).__name__)()
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        if content is None:
            continue
        if f'{field.name}_json' in message.DESCRIPTOR.fields_by_name:
            setattr(message, f'{field.name}_json', json.dumps(content, default=_tagged))
        elif isinstance(content, datetime.timedelta):
            setattr(message, f'{field.name}_seconds', content.total_seconds())
        elif isinstance(content, datetime.datetime):
            setattr(message, field.name, content.isoformat())
        elif dataclasses.is_dataclass(content):
            getattr(message, field.name).CopyFrom(_to_proto(content))
        elif isinstance(content, tuple):
            nested = message.DESCRIPTOR.fields_by_name[field.name].message_type
            whole = [_DATACLASSES[nested.name](x) if nested and isinstance(x, str) else x for x in content]
            items = [_to_proto(item) if dataclasses.is_dataclass(item) else item for item in whole]
            getattr(message, field.name).extend(items)
        else:
            setattr(message, field.name, content)
    return message


def _from_proto(kind: type[T], message: Message) -> T:
    values = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        values[field.name] = _field(message, field.name, str(hints[field.name]))
    made = kind(**values)  # its own checks speak first
    for name, value in values.items():
        if value is None and dataclasses.is_dataclass(hints[name]):
            raise invalid(name, None, 'given')
    return made


# What JSON has no form for travels as text, with the name of its type: {"uuid": "..."}.
_TAGS: dict[type, tuple[str, typing.Callable[[Any], str], typing.Callable[[str], Any]]] = {
    bytes: ('blob', bytes.hex, bytes.fromhex),
    uuid.UUID: ('uuid', str, uuid.UUID),
    ipaddress.IPv4Address: ('inet', str, ipaddress.ip_address),
    ipaddress.IPv6Address: ('inet', str, ipaddress.ip_address),
    decimal.Decimal: ('decimal', str, decimal.Decimal),
    datetime.datetime: ('timestamp', datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    datetime.date: ('date', datetime.date.isoformat, datetime.date.fromisoformat),
    datetime.time: ('time', datetime.time.isoformat, datetime.time.fromisoformat),
}


def _tagged(value: Any) -> dict[str, str]:
    for kind, (tag, write, _) in _TAGS.items():
        if isinstance(value, kind):
            return {tag: write(value)}
    raise TypeError(f'got {value!r}, rule: a value that has a form in JSON')


def _untagged(content: dict[str, str]) -> Any:
    ((tag, text),) = content.items()
    return {known: read for known, _, read in _TAGS.values()}[tag](text)


def _field(message: Message, name: str, hint: str) -> Any:
    fields = message.DESCRIPTOR.fields_by_name
    descriptor = next(fields[spelt] for spelt in (name, f'{name}_seconds', f'{name}_json') if spelt in fields)
    if descriptor.has_presence and not message.HasField(descriptor.name):
        return None
    content = getattr(message, descriptor.name)
    if descriptor.name == f'{name}_json':
        return json.loads(content, object_hook=_untagged)
    if descriptor.name == f'{name}_seconds':
        try:
            return datetime.timedelta(seconds=content)
        except (OverflowError, ValueError) as error:
            raise invalid(descriptor.name, content, 'as many seconds as a time span can have') from error
    if 'datetime' in hint:
        try:
            return datetime.datetime.fromisoformat(content)
        except ValueError as error:
            raise invalid(name, content, 'a moment in ISO 8601') from error
    repeated = hint.startswith('tuple')
    if descriptor.message_type is None:
        return tuple(content) if repeated else content
    nested = _DATACLASSES[descriptor.message_type.name]
    if repeated:
        return tuple(_from_proto(nested, item) for item in content)
    return _from_proto(nested, content)
