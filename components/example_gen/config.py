"""CassandraExampleGen's arguments <-> its execution properties."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Mapping
from typing import Any, Literal

from tfx.proto import example_gen_pb2
from tfx.utils import proto_utils

from tfx_cassandra.components import protos
from tfx_cassandra.components.backup import properties as backups
from tfx_cassandra.components.checks import Count, Int64, Name, check_fields
from tfx_cassandra.components.dataset.files.split import EntitySplits, HashSplits, Splits, TimeSplits
from tfx_cassandra.components.dataset.spec.span import SpanRange
from tfx_cassandra.components.driver import properties as cluster
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.parameters import is_open, known, optional, property_of, text
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.training_set import resolve
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.window import TimeWindow, parse_moment
from tfx_cassandra.proto import cassandra_pb2

# Execution properties that may be parameters of a run, and the fields of ExampleGenConfig that they set.
RUN = {
    **cluster.paths('training_set.connection'),
    **backups.paths('training_set.source'),
    'window': 'training_set.window',
    'span': 'training_set.span',
    'as_of': 'training_set.as_of',
    'consistency': 'training_set.read.consistency',
}


@dataclasses.dataclass(frozen=True)
class ExampleGenConfig:
    """The configuration of CassandraExampleGen; see the component for the fields."""

    training_set: TrainingSetOptions
    shards: Count | None = None
    shuffle_seed: Int64 = 0
    entity_split: tuple[Name, ...] = ()
    time_split: Name | None = None
    gap: datetime.timedelta | None = None
    starts: tuple[datetime.datetime, ...] = ()
    cache_by: Literal['configuration', 'content'] = 'configuration'

    def __post_init__(self) -> None:
        check_fields(self)


def to_properties(
    connection: Any, source: Any, window: Any, span: Any, as_of: Any, consistency: Any, read: Mapping[str, Any],
    training_set: Mapping[str, Any], output_config: example_gen_pb2.Output | None,
    split: EntitySplits | TimeSplits | None, **files: Any,
) -> dict[str, Any]:  # fmt: skip
    """Returns the execution properties for the component's arguments, checked except for parameters.

    Args:
      connection, source, window, span, as_of, consistency: The component's arguments, or parameters for them.
      read: The other fields of ReadOptions.
      training_set: The other fields of TrainingSetOptions.
      output_config, split: The component's arguments.
      files: The other fields of ExampleGenConfig.

    Raises:
      ValueError: An argument breaks its rule; the message names field, value and rule.
    """
    if split is not None:
        if output_config is not None:
            raise invalid('split', split, 'not together with output_config')
        output_config, fields = split_options(split)
        files |= fields
    output_config = output_config or _default_output_config()
    window = window if window is None or is_open(window) else TimeWindow.parse(window)
    span = span if span is None or is_open(span) else parse_span(span)
    as_of = parse_moment('as_of', as_of) if isinstance(as_of, str) else as_of
    settings = TrainingSetOptions(
        None if connection is None else cluster.checked(connection),
        source=backups.checked(source),
        window=known('window', window, None),
        span=known('span', span, None),
        as_of=known('as_of', as_of, None),
        read=ReadOptions(known('consistency', consistency, 'LOCAL_QUORUM'), **read),
        **training_set,
    )
    if settings.window is None and settings.span is None and (is_open(window) or is_open(span)):
        settings = dataclasses.replace(settings, span=SpanRange(count=1))  # the checks require a window or a span
    config = ExampleGenConfig(settings, **files)
    check(config, output_config)
    return {
        'config': protos.to_message(config, cassandra_pb2.ExampleGenConfig(), RUN.values()),
        'output_config': output_config,
        **(dict.fromkeys(cluster.paths()) if connection is None else cluster.declared(connection)),
        **backups.declared(source),
        'window': property_of(window),
        'span': property_of(span, span_text),
        'as_of': property_of(as_of, datetime.datetime.isoformat),
        'consistency': property_of(consistency),
    }


def _default_output_config() -> example_gen_pb2.Output:
    from tfx.components.example_gen import utils  # takes TensorFlow along, which a run does not need

    return utils.make_default_output_config(utils.make_default_input_config())


def from_properties(properties: Mapping[str, Any]) -> tuple[ExampleGenConfig, Splits]:
    """Returns the configuration of a run and its splits; an empty `window`, `span` or `as_of` is None.

    Raises:
      ValueError: A value breaks its rule; the message names field, value and rule.
    """
    resolved = {
        **cluster.resolved(properties, 'training_set.connection'),
        **backups.resolved(properties, 'training_set.source'),
        RUN['window']: optional(properties, 'window', TimeWindow.parse),
        RUN['span']: optional(properties, 'span', parse_span),
        RUN['as_of']: optional(properties, 'as_of', lambda moment: parse_moment('as_of', moment)),
        RUN['consistency']: text(properties, 'consistency'),
    }
    message = protos.parsed(properties['config'], cassandra_pb2.ExampleGenConfig())
    config = protos.from_message(ExampleGenConfig, message, resolved)
    output_config = proto_utils.json_to_proto(properties['output_config'], example_gen_pb2.Output())
    return config, check(config, output_config)


def parse_span(span: SpanRange | int | str) -> SpanRange:
    """Returns the SpanRange of an argument or its text: 'latest', the number of a day, or JSON of a SpanRange."""
    if isinstance(span, str) and span.startswith('{'):
        return protos.from_json(SpanRange, cassandra_pb2.SpanRange, span, 'span')
    return SpanRange.parse(int(span) if isinstance(span, str) and re.fullmatch('-?[0-9]{1,19}', span) else span)


def span_text(span: SpanRange) -> str:
    """Returns the text of a SpanRange for `parse_span`."""
    if span == SpanRange(count=1):
        return 'latest'
    if span.first is not None and span == SpanRange(first=span.first):
        return str(span.first)
    return protos.to_json(span, cassandra_pb2.SpanRange, indent=None)


def check(config: ExampleGenConfig, output_config: example_gen_pb2.Output) -> Splits:
    """Returns the splits of the examples; raises ValueError for a configuration that is wrong for every cluster."""
    splits, settings = splits_of(config, output_config), config.training_set
    resolve.check(settings)
    keys = splits.columns if isinstance(splits, EntitySplits) else [getattr(splits, 'feature', None)]
    if sequences := [name for name in keys if name in settings.sequences]:
        raise invalid('split', sequences, 'by features that are not sequences')
    if isinstance(splits, TimeSplits):
        if splits.column != settings.event_column:
            raise invalid('split', splits.column, f'the time column of the examples, {settings.event_column}')
        if settings.window is not None:
            splits.windows(settings.window)
    return splits


def splits_of(config: ExampleGenConfig, output_config: example_gen_pb2.Output) -> Splits:
    """Returns the splits that TFX's output configuration and the component's own fields describe.

    Raises:
      ValueError: There are no usable splits.
    """
    split_config = output_config.split_config
    buckets = tuple((split.name, split.hash_buckets) for split in split_config.splits)
    if config.entity_split:
        return EntitySplits(buckets, config.entity_split)
    if config.time_split is not None:
        return TimeSplits(buckets, config.time_split, config.gap or datetime.timedelta(0), config.starts)
    return HashSplits(buckets, split_config.partition_feature_name or None)


def split_options(split: EntitySplits | TimeSplits) -> tuple[example_gen_pb2.Output, dict[str, Any]]:
    """Returns TFX's output configuration and the fields of ExampleGenConfig for splits; the reverse of `splits_of`."""
    buckets = [example_gen_pb2.SplitConfig.Split(name=name, hash_buckets=count) for name, count in split.buckets]
    output = example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=buckets))
    if isinstance(split, EntitySplits):
        return output, {'entity_split': split.columns}
    return output, {'time_split': split.column, 'gap': split.gap, 'starts': split.starts}
