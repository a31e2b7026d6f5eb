"""ChampionModel: the typed surface; executor.py does the work."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration.data_types import RuntimeParameter
from tfx.types import standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_cassandra.components.champion import config, executor
from tfx_cassandra.components.checks import Name, checked
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.proto import cassandra_pb2

Parameter = RuntimeParameter | Placeholder


class ChampionModelSpec(ComponentSpec):
    """Execution properties, input and output of ChampionModel."""

    PARAMETERS = {
        'config': ExecutionParameter(type=cassandra_pb2.ChampionConfig),
        **{name: ExecutionParameter(type=str, optional=True) for name in config.RUN},
    }
    INPUTS = {executor.EXAMPLES_KEY: ChannelParameter(type=standard_artifacts.Examples, optional=True)}
    OUTPUTS = {executor.MODEL_KEY: ChannelParameter(type=standard_artifacts.Model)}


class ChampionModel(base_component.BaseComponent):
    """Hands on the model that an alias of the registry points at.

    The output, `outputs['model']`, is a Model that Trainer takes as `base_model` and BulkInferrer as `model`. Without
    such a version it holds no model. Its custom properties say what was found:

    - `found`: 1 or 0.
    - `experiment_id`, `model_id`, `version`: of the version; absent where there is none.
    - `new_data`: 0 if some version of the experiment was trained on these very `examples` (by their fingerprint), else
      1. A pipeline that should not train twice on the same data stands under
      `Cond(champion.outputs['model'].future()[0].custom_property('new_data') == 1)`.
    """

    SPEC_CLASS = ChampionModelSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    @checked
    def __init__(
        self,
        connection: CassandraConnection,
        experiment_id: Name | Parameter,
        alias: Name | Parameter = 'champion',
        examples: types.BaseChannel | None = None,
        required: bool = False,
    ) -> None:
        """Declares the lookup.

        `experiment_id`, `alias` and the connection's contact points, data center and keyspace may be RuntimeParameters
        or Placeholders of texts, which are resolved and checked where the component runs.

        Args:
          connection: The cluster and keyspace that hold the registry's tables.
          experiment_id: The experiment of the alias.
          alias: The alias.
          examples: Channel of CassandraExampleGen's Examples, which `new_data` is about.
          required: Whether it is an error that the alias does not exist.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        properties = config.to_properties(connection, required, experiment_id=experiment_id, alias=alias)
        spec = ChampionModelSpec(examples=examples, model=types.Channel(type=standard_artifacts.Model), **properties)
        super().__init__(spec=spec)
