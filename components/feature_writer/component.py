"""CassandraFeatureWriter: the typed surface; executor.py does the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_cassandra.components.artifacts import WrittenRows
from tfx_cassandra.components.checks import Name, TableName, checked
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.feature_writer import config, executor
from tfx_cassandra.components.write.statement import Ttl
from tfx_cassandra.proto import cassandra_pb2

Parameter = RuntimeParameter | Placeholder


class CassandraFeatureWriterSpec(ComponentSpec):
    """Execution properties, input and output of CassandraFeatureWriter."""

    PARAMETERS = {
        'config': ExecutionParameter(type=cassandra_pb2.FeatureWriterConfig),
        **{name: ExecutionParameter(type=str, optional=True) for name in config.RUN},
    }
    INPUTS = {executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {executor.WRITTEN_KEY: ChannelParameter(type=WrittenRows)}


class CassandraFeatureWriter(base_beam_component.BaseBeamComponent):
    """Writes the examples of a pipeline into a table: predictions of BulkInferrer, features of Transform.

    Each example becomes a row. A feature of one value becomes a value of its column's CQL type: text from bytes,
    timestamps from milliseconds since the epoch, dates from days; lists, sets and vectors take all values. An absent
    feature is not written. Rows are upserts, so a repeated run writes the same rows again; with a write time from the
    examples, or from a column that the table declares as its event time, it also never overwrites a newer value.

    The output, `outputs['written']`, has the custom properties `table`, `rows`, `failed` and `checksum`: how many
    examples were written and how many were not, and a checksum of the rows written, whatever their order. A scan of
    the same columns, in the same order, has the same checksum.

    Example:
      writer = CassandraFeatureWriter(
          examples=inferrer.outputs['output_examples'], connection=connection, table='feature_store',
          columns={'model_id': 'flight_id', 'timestamp': 'scheduled_departure', 'value': 'late'},
          constants={'feature_name': 'late_probability'}, write_time_feature='scheduled_departure')
    """

    SPEC_CLASS = CassandraFeatureWriterSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    @checked
    def __init__(
        self,
        examples: types.BaseChannel,
        connection: CassandraConnection,
        table: TableName | Parameter,
        columns: Mapping | Sequence,
        constants: Mapping | None = None,
        write_time_feature: Name | None = None,
        ttl: Ttl | None = None,
        consistency: Consistency = 'LOCAL_QUORUM',
        max_errors: int = 0,
    ) -> None:
        """Declares the writes.

        `table` and the connection's contact points, data center and keyspace may be RuntimeParameters or Placeholders
        of texts, which are resolved and checked where the component runs.

        Args:
          examples: Channel of Examples, files of tf.Example; every split is written.
          connection: How to reach the cluster; its keyspace holds the table.
          table: The table, or keyspace.table.
          columns: The feature of each column, or a list of names that are both.
          constants: The text of columns that have the same value in every row.
          write_time_feature: The feature (milliseconds since the epoch) with each row's write time: of two writes to a
            cell the one with the later write time wins. None for the column that the table declares by
            `event_time=COLUMN` in its comment; without one, for the time of the write.
          ttl: How long the rows live, in whole seconds; None for the table's default.
          consistency: Consistency level of every write.
          max_errors: The component fails if more examples than this do not fit the table, or are not written.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        properties = config.to_properties(
            connection, table, columns=config.sources(columns, constants), write_time_feature=write_time_feature,
            ttl=ttl, consistency=consistency, max_errors=max_errors,
        )  # fmt: skip
        spec = CassandraFeatureWriterSpec(examples=examples, written=types.Channel(type=WrittenRows), **properties)
        super().__init__(spec=spec)
