"""The declaration of CassandraExampleGen; executor.py does the work."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, Literal

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import example_gen_pb2
from tfx.types import component_spec, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.checks import Count, Int64, Rate, checked
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.dataset.files.split import EntitySplits, TimeSplits
from tfx_cassandra.components.dataset.join.audit import AuditLimits
from tfx_cassandra.components.dataset.spec.label import LabelSource
from tfx_cassandra.components.dataset.spec.span import SpanRange
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.example_gen import config, driver, executor
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.proto import cassandra_pb2

Parameter = RuntimeParameter | Placeholder


class CassandraExampleGenSpec(component_spec.ComponentSpec):
    """Execution properties and outputs of CassandraExampleGen."""

    PARAMETERS = {
        'config': ExecutionParameter(type=cassandra_pb2.ExampleGenConfig),
        **{name: ExecutionParameter(type=str, optional=True) for name in config.RUN},
        standard_component_specs.OUTPUT_CONFIG_KEY: ExecutionParameter(type=example_gen_pb2.Output),
    }
    INPUTS: dict[str, Any] = {}
    OUTPUTS = {
        standard_component_specs.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples),
        standard_component_specs.SCHEMA_KEY: ChannelParameter(type=standard_artifacts.Schema, optional=True),
    }


class CassandraExampleGen(base_beam_component.BaseBeamComponent):
    """Reads a window of features from Cassandra and writes splits of tf.Examples.

    The output `outputs['examples']` has the format of TFX's own ExampleGens: gzipped TFRecords of tf.Example, a folder
    per split. An example holds the view's entity columns, its timestamp (int64, milliseconds since 1970) and its
    features, named as their columns (features with the view's prefix); a null is an absent feature. The artifact's
    custom properties describe the read: `table`, `window`, `rows`, `examples`, `fingerprint`. `coverage.json`, next to
    the splits, holds the same and the token ranges that were read.

    Example:
      examples = CassandraExampleGen(
          connection=CassandraConnection(contact_points=('10.0.0.1',)),
          views=FeatureView('flights', 'flights', ('flight_id',), 'scheduled_departure', ('distance', 'late')),
          window=TimeWindow.parse('2013-01-01T00:00Z/2013-02-01T00:00Z'))
    """

    SPEC_CLASS = CassandraExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)
    DRIVER_CLASS = driver.Driver

    @checked
    def __init__(
        self,
        connection: CassandraConnection | None = None,
        views: FeatureView | Sequence[FeatureView] = (),
        labels: LabelSource | None = None,
        window: TimeWindow | str | Parameter | None = None,
        output_config: example_gen_pb2.Output | None = None,
        consistency: str | Parameter = 'LOCAL_QUORUM',
        splits: Count | None = None,
        page_rows: Count = 5000,
        shards: Count | None = None,
        shuffle_seed: Int64 = 0,
        rows_per_second: Rate | None = None,
        bytes_per_second: Rate | None = None,
        availability_cut_off: bool = True,
        join_plan: Literal['auto', 'scan', 'lookup'] = 'auto',
        limits: AuditLimits | None = None,
        span: SpanRange | int | str | Parameter | None = None,
        as_of: datetime.datetime | str | Parameter | None = None,
        split: EntitySplits | TimeSplits | None = None,
        cache_by: Literal['configuration', 'content'] = 'configuration',
        history: Count | None = None,
        emit_schema: bool = False,
        invalid_text: Literal['error', 'replace'] = 'error',
        wide_varints: Literal['error', 'text'] = 'error',
        source: CassandraBackup | None = None,
    ) -> None:
        """Declares the component; nothing connects before it runs.

        `window`, `span`, `as_of`, `consistency`, the connection's contact points, data center and keyspace, and the
        backup's URI, name and keyspace may be RuntimeParameters or Placeholders of text, which are resolved and checked
        at run time.

        Args:
          connection: How to reach the cluster; None if `source` is given. Pipeline metadata stores it as plain text; it
            holds no secret.
          views: Without labels the view whose rows become examples: in the wide layout one example per row, in the long
            layout one per entity and timestamp. With labels the views that are joined to the events.
          labels: The events, each of which becomes an example with the views' features as known at its time; None to
            make examples from the rows of a single view.
          window: Event times read, half-open `[start, end)`; also as text, 'START/END' in ISO-8601. None if `span` is
            given.
          output_config: Output splits by hash buckets as TFX defines them; None for train:eval = 2:1.
          consistency: Consistency level of every read.
          splits: Minimum number of token ranges that are read separately; None to derive it from the table's size.
          page_rows: Maximum rows of a page; with `source`, of a record batch as it is read from files.
          shards: Files per split; None for one per 32 MB.
          shuffle_seed: Seed for the order of the chunks within and across the files.
          rows_per_second, bytes_per_second: Limits of each table's scan over all workers; None for no limit.
          availability_cut_off: Whether values that were written after an event's time are hidden from it. Turn it off
            for backfilled data; the artifact records that.
          join_plan: 'scan' reads whole views, 'lookup' reads each event's values by key, 'auto' takes the cheaper.
          limits: Limits for the leakage audit; the component fails if one is exceeded.
          span: Instead of a window: a SpanRange, the number of a day since 1970, or 'latest' for the latest complete
            day with data. It is resolved to a window at run time. The text of a parameter is 'latest', the number of a
            day, or JSON of a SpanRange such as '{"count": 7}'.
          as_of: Reference time, also as text in ISO-8601: cells written later are left out, and so are rows of which no
            cell is left. See scan/as_of.py.
          split: Splits by entity or by time, instead of output_config.
          cache_by: With caching on, 'configuration' reuses the examples of an earlier run with the same configuration;
            'content' only if the rows are unchanged, for which local orchestrators read the window once more.
          history: With labels: the number of each feature's last values that an example gets, oldest first, as known at
            the event's time; None for the newest one alone. The examples are then tf.SequenceExamples: features of
            views with a time are feature lists, everything else is context. All views are scanned.
          emit_schema: Whether there is a second output, `outputs['schema']`: the examples' TensorFlow Metadata schema,
            derived from the columns' CQL types, for ExampleValidator, Transform and Trainer in place of SchemaGen's.
          invalid_text: What to do with text that is not UTF-8 (in ascii columns: not ASCII): 'error', or 'replace' each
            invalid part by U+FFFD.
          wide_varints: What to do with varints beyond 64 bits: 'error', or 'text' to read every varint as decimal text,
            so that its feature holds bytes.
          source: Instead of a connection: a backup, whose files are read without the cluster, as of its moment. All
            views are scanned, `consistency` has no meaning, and the examples of one backup are always the same.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        properties = config.to_properties(
            connection, source, window, span, as_of, consistency,
            read={
                'splits': splits, 'page_rows': page_rows, 'rows_per_second': rows_per_second,
                'bytes_per_second': bytes_per_second, 'decoding': Decoding(invalid_text, wide_varints),
            },
            training_set={
                'views': views, 'labels': labels,
                'availability_cut_off': availability_cut_off, 'join_plan': join_plan, 'limits': limits,
                'history': history,
            },
            output_config=output_config, split=split, shards=shards, shuffle_seed=shuffle_seed, cache_by=cache_by,
        )  # fmt: skip
        outputs = {standard_component_specs.EXAMPLES_KEY: types.Channel(type=standard_artifacts.Examples)}
        if emit_schema:
            outputs[standard_component_specs.SCHEMA_KEY] = types.Channel(type=standard_artifacts.Schema)
        super().__init__(spec=CassandraExampleGenSpec(**properties, **outputs))
