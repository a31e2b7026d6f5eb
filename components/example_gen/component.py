"""CassandraExampleGen: the typed surface; executor.py does the work."""

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
    """Reads a window of features from Cassandra and emits it as splits of tf.Examples.

    The output, `outputs['examples']`, is what TFX's own ExampleGens emit: gzipped TFRecords of tf.Example, one folder a
    split, for every stock component. An example holds the view's entity columns, its timestamp (int64, ms since the
    epoch) and its features, each under its column's name (features with the view's prefix before it); a null is an
    absent feature. The artifact's custom properties tell what was read: `table`, `window`, `rows`, `examples`,
    `fingerprint`; beside the splits, `coverage.json` holds the same with the scan's ledger.

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
        connection: CassandraConnection,
        views: FeatureView | Sequence[FeatureView],
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
    ) -> None:
        """Declares the component; nothing connects before it runs.

        `window`, `span`, `as_of`, `consistency` and the connection's contact points, data center and keyspace may be
        RuntimeParameters or Placeholders of texts, which are resolved and checked where the component runs.

        Args:
          connection: How to reach the cluster. It stands in pipeline metadata as plain text; it holds no secret.
          views: Without labels the view whose rows become examples. Wide layout: one example a row. Long layout: one
            example per entity and timestamp. With labels the views that are joined to the events.
          labels: The events that become examples, one each, with the views' features as they were known at the event's
            time; None for the rows of the one view.
          window: Event times read, half-open `[start, end)`; also as text, 'START/END' in ISO-8601. None where
            span is given.
          output_config: Output splits by hash buckets as TFX defines them; None for train:eval = 2:1.
          consistency: Consistency level of every read.
          splits: Least number of token ranges read apart; None for as many as the table's size asks for.
          page_rows: Rows of a page of a read at most.
          shards: Files per split; None for one per 32 MB.
          shuffle_seed: Decides the order of the chunks within and across the files.
          rows_per_second, bytes_per_second: Limits of each table's scan, whatever the number of workers; None for none.
          availability_cut_off: Whether a value that was written after an event's time counts as unknown to it. Turn it
            off for data that was filled in later; the artifact says so.
          join_plan: 'scan' reads whole views, 'lookup' each event's values by key, 'auto' what costs less.
          limits: What the leakage audit must not exceed; the component fails if it does.
          span: Instead of a window: a SpanRange, the number of a day since 1970, or 'latest' for the latest complete
            day that has data. It becomes a window where the component runs. A parameter's text is 'latest', the number
            of a day, or JSON of a SpanRange such as '{"count": 7}'.
          as_of: A reference time, also as text in ISO-8601: cells written later are left out, and rows without a cell
            left. See scan/as_of.py.
          split: Splits by entity or by time, instead of output_config.
          cache_by: 'configuration': with caching on, an earlier run of the same configuration stands for this one;
            'content': only if the rows have not changed since, for which local orchestrators read the window once more.
          history: With labels: instead of each feature's newest value its last so many, oldest first, each as it was
            known at the event's time. The examples are tf.SequenceExamples then: features of views with a time are
            feature lists, everything else is the context. Views are scanned.
          emit_schema: Whether there is a second output, `outputs['schema']`: the examples' TensorFlow Metadata schema,
            made from the columns' CQL types, for ExampleValidator, Transform and Trainer in place of SchemaGen's.
          invalid_text: What text becomes that is not UTF-8 (of ascii columns: not ASCII): 'error', or 'replace' for
            U+FFFD in place of what is not.
          wide_varints: What varints beyond 64 bits become: 'error', or 'text' to read every varint as decimal text, so
            that its feature holds bytes.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        properties = config.to_properties(
            connection, window, span, as_of, consistency,
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
