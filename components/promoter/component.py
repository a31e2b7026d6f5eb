"""ModelPromoter: the typed surface; executor.py does the work."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_cassandra.components.artifacts import AbVerdict, Promotion
from tfx_cassandra.components.checks import Name, checked
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.promoter import config, executor
from tfx_cassandra.proto import cassandra_pb2

Parameter = RuntimeParameter | Placeholder


class ModelPromoterSpec(ComponentSpec):
    """Execution properties, input and output of ModelPromoter."""

    PARAMETERS = {
        'config': ExecutionParameter(type=cassandra_pb2.PromoterConfig),
        **{name: ExecutionParameter(type=str, optional=True) for name in config.RUN},
    }
    INPUTS = {executor.VERDICT_KEY: ChannelParameter(type=AbVerdict)}
    OUTPUTS = {executor.PROMOTION_KEY: ChannelParameter(type=Promotion)}


class ModelPromoter(base_component.BaseComponent):
    """Points an alias at the version that has won an A/B test.

    With the verdict `ship` the alias goes to the winner; with any other verdict it stays, and is created at the control
    if it does not exist. It only moves forward (see `ModelRegistry.advance`), so a repeated run undoes neither a later
    push nor a rollback.

    The output, `outputs['promotion']`, has the custom properties `verdict`, `alias`, and of where the alias points then
    `model_id` and `version`; `moved` is 1 if this verdict has put it there.
    """

    SPEC_CLASS = ModelPromoterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    @checked
    def __init__(
        self,
        verdict: types.BaseChannel,
        connection: CassandraConnection,
        experiment_id: Name | Parameter,
        alias: Name | Parameter = 'champion',
    ) -> None:
        """Declares the promotion.

        `experiment_id`, `alias` and the connection's contact points, data center and keyspace may be RuntimeParameters
        or Placeholders of texts, which are resolved and checked where the component runs.

        Args:
          verdict: Channel of ABEvaluator's AbVerdict.
          connection: The cluster and keyspace that hold the registry's tables.
          experiment_id: The experiment of the test and the alias.
          alias: The alias.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        properties = config.to_properties(connection, experiment_id=experiment_id, alias=alias)
        spec = ModelPromoterSpec(verdict=verdict, promotion=types.Channel(type=Promotion), **properties)
        super().__init__(spec=spec)
