"""CassandraExampleGen: the typed surface; executor.py does the work."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from tfx import types
from tfx.components.example_gen import utils
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.proto import example_gen_pb2
from tfx.types import component_spec, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from tfx_cassandra.components import config
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.dataset.files.split import EntitySplits, TimeSplits
from tfx_cassandra.components.dataset.join.audit import AuditLimits
from tfx_cassandra.components.dataset.spec.label import LabelSource
from tfx_cassandra.components.dataset.spec.span import SpanRange
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.example_gen import driver, executor
from tfx_cassandra.components.training_set import resolve
from tfx_cassandra.components.window import TimeWindow


class CassandraExampleGenSpec(component_spec.ComponentSpec):
    """Execution properties and outputs of CassandraExampleGen."""

    PARAMETERS = {
        'config': ExecutionParameter(type=str),
        standard_component_specs.OUTPUT_CONFIG_KEY: ExecutionParameter(type=example_gen_pb2.Output),
    }
    INPUTS: dict = {}
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

    def __init__(
        self,
        connection: CassandraConnection,
        views: FeatureView | Sequence[FeatureView],
        labels: LabelSource | None = None,
        window: TimeWindow | str | None = None,
        output_config: example_gen_pb2.Output | None = None,
        consistency: str = 'LOCAL_QUORUM',
        splits: int | None = None,
        page_rows: int = 5000,
        shards: int | None = None,
        shuffle_seed: int = 0,
        rows_per_second: float | None = None,
        bytes_per_second: float | None = None,
        availability_cut_off: bool = True,
        join_plan: str = 'auto',
        limits: AuditLimits | None = None,
        span: SpanRange | int | str | None = None,
        as_of: datetime.datetime | None = None,
        split: EntitySplits | TimeSplits | None = None,
        cache_by: str = 'configuration',
        history: int | None = None,
        emit_schema: bool = False,
        invalid_text: str = 'error',
        wide_varints: str = 'error',
    ) -> None:
        """Declares the component; nothing connects before it runs.

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
            day that has data. It becomes a window where the component runs.
          as_of: A reference time: cells written later are left out, and rows without a cell left. See dataset/as_of.py.
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
        views = (views,) if isinstance(views, FeatureView) else tuple(views)
        window = TimeWindow.parse(window) if isinstance(window, str) else window
        chosen: dict = {}
        if split is not None:
            if output_config is not None:
                raise invalid('split', split, 'not together with output_config')
            output_config, chosen = resolve.split_options(split)
        output_config = output_config or utils.make_default_output_config(utils.make_default_input_config())
        settings = config.ExampleGenConfig(
            connection, views, window, consistency, splits, page_rows, shards, shuffle_seed, rows_per_second,
            bytes_per_second, labels, availability_cut_off, join_plan, limits,
            span if span is None else SpanRange.parse(span), as_of, cache_by=cache_by, history=history,
            decoding=Decoding(invalid_text, wide_varints), **chosen,
        )  # fmt: skip
        resolve.check(settings, output_config)
        outputs = {standard_component_specs.EXAMPLES_KEY: types.Channel(type=standard_artifacts.Examples)}
        if emit_schema:
            outputs[standard_component_specs.SCHEMA_KEY] = types.Channel(type=standard_artifacts.Schema)
        super().__init__(
            spec=CassandraExampleGenSpec(config=config.to_json(settings), output_config=output_config, **outputs)
        )
