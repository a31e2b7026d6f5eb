"""The declaration of CassandraFeatureRetrieval; executor.py does the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import channel, component_spec, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.checks import checked
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.feature_retrieval import config, executor
from tfx_cassandra.proto import cassandra_pb2


class CassandraFeatureRetrievalSpec(component_spec.ComponentSpec):
    """Input, execution properties and output of CassandraFeatureRetrieval."""

    PARAMETERS = {
        'config': ExecutionParameter(type=cassandra_pb2.RetrievalOptions),
        **{name: ExecutionParameter(type=str, optional=True) for name in config.RUN},
    }
    INPUTS = {executor.SOURCE_KEY: ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {standard_component_specs.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples)}


class CassandraFeatureRetrieval(base_beam_component.BaseBeamComponent):
    """Adds features from Cassandra to examples that a pipeline already has.

    The output, `outputs['examples']`, has the splits of the input and, for each example, that example with the views'
    features. Each distinct key is read once by a worker. A feature that is not found is absent.
    `retrieval.json`, next to the splits, has the numbers of examples, lookups and missing features.

    Example:
      enriched = CassandraFeatureRetrieval(
          examples=example_gen.outputs['examples'], connection=CassandraConnection(), as_of='scheduled_departure',
          views=FeatureView('aircraft', 'aircraft', ('tail_number',), 'since', ('seats', 'engines')))
    """

    SPEC_CLASS = CassandraFeatureRetrievalSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    @checked
    def __init__(
        self,
        examples: channel.BaseChannel,
        connection: CassandraConnection | None = None,
        views: FeatureView | Sequence[FeatureView] = (),
        as_of: str | RuntimeParameter | Placeholder = 'latest',
        missing: Literal['absent', 'error'] = 'absent',
        consistency: Consistency = 'LOCAL_QUORUM',
        source: CassandraBackup | None = None,
    ) -> None:
        """Declares the component; nothing connects before it runs.

        `as_of`, the connection's contact points, data center and keyspace, and the backup's URI, name and keyspace may
        be RuntimeParameters or Placeholders of text, which are resolved and checked at run time.

        Args:
          examples: A channel of Examples with tf.Examples, which have each view's entity columns as features.
          connection: How to reach the cluster; None if `source` is given. Pipeline metadata stores it as plain text; it
            holds no secret.
          views: The views that are looked up. Their entity, with the feature name in the long layout, must be the
            whole key of their table before the time.
          as_of: 'latest', or the name of a feature of the examples with milliseconds since 1970: then a feature has the
            newest value with a timestamp at or before it. A value is not older than the view's ttl at that time.
          missing: 'absent': an example may lack a feature; 'error': it may not.
          consistency: Consistency level of every read.
          source: Instead of a connection: a backup, as of its moment. Each view's table is scanned once and joined to
            the examples, which come in another order; 'latest' counts a ttl back from the moment of the backup.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        properties = config.to_properties(connection, views, as_of, missing, consistency, source)
        enriched = types.Channel(type=standard_artifacts.Examples)
        super().__init__(spec=CassandraFeatureRetrievalSpec(source_examples=examples, examples=enriched, **properties))
