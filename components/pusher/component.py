"""CassandraPusher: pushes a blessed model as TFX's Pusher does and records the version in Cassandra."""

from __future__ import annotations

from typing import Annotated

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.dsl.placeholder.placeholder import Placeholder
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto.pusher_pb2 import PushDestination, Versioning
from tfx.types import component_spec, standard_artifacts, standard_component_specs
from tfx.types.system_executions import Deploy

from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.checks import Count, Name, Rule, checked
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.pusher import config, executor
from tfx_cassandra.proto import cassandra_pb2

Parameter = RuntimeParameter | Placeholder

_VERSIONINGS = (Versioning.AUTO, Versioning.UNIX_TIMESTAMP)
_Destination = Annotated[
    PushDestination,
    Rule(
        'a PushDestination with filesystem.base_directory, and with filesystem.versioning AUTO or UNIX_TIMESTAMP',
        lambda to: bool(to.filesystem.base_directory) and to.filesystem.versioning in _VERSIONINGS,
    ),
]


class CassandraPusherSpec(component_spec.ComponentSpec):
    """Inputs, outputs and execution properties of CassandraPusher."""

    PARAMETERS = {
        'config': component_spec.ExecutionParameter(type=cassandra_pb2.PusherConfig),
        **{name: component_spec.ExecutionParameter(type=str, optional=True) for name in config.RUN},
        standard_component_specs.PUSH_DESTINATION_KEY: component_spec.ExecutionParameter(type=PushDestination),
    }
    INPUTS = {
        standard_component_specs.MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model),
        standard_component_specs.MODEL_BLESSING_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelBlessing, optional=True
        ),
        standard_component_specs.INFRA_BLESSING_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.InfraBlessing, optional=True
        ),
        standard_component_specs.EVALUATION_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation, optional=True
        ),
        standard_component_specs.EXAMPLES_KEY: component_spec.ChannelParameter(
            type=standard_artifacts.Examples, optional=True
        ),
        executor.VERDICT_KEY: component_spec.ChannelParameter(type=AbVerdict, optional=True),
    }
    OUTPUTS = {
        standard_component_specs.PUSHED_MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.PushedModel),
    }
    TYPE_ANNOTATION = Deploy


class CassandraPusher(base_component.BaseComponent):
    """Pushes a blessed model into a TensorFlow Serving directory and writes its row into `model_versions`.

    The version is claimed in Cassandra before anything is copied, so a push is idempotent: repeated after a crash, or
    run by many processes at once, it ends with one directory and one row. A model that is not blessed, or whose verdict
    is `harm`, is not pushed: the output artifact is marked `pushed = 0`, and nothing else is written.

    Outputs:
      pushed_model: A PushedModel with TFX's custom properties (`pushed`, `pushed_destination`, `pushed_version`) and
        the rest of the row's key: `experiment_id`, `model_id`, `created_at` (ISO-8601). `higher_versions` lists the
        versions in the directory above every pushed one, which TensorFlow Serving serves instead.
    """

    SPEC_CLASS = CassandraPusherSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    @checked
    def __init__(
        self,
        model: types.BaseChannel,
        connection: CassandraConnection,
        experiment_id: Name | Parameter,
        model_id: Name | Parameter,
        push_destination: _Destination,
        model_blessing: types.BaseChannel | None = None,
        infra_blessing: types.BaseChannel | None = None,
        evaluation: types.BaseChannel | None = None,
        ab_test_group: Name | Parameter | None = None,
        examples: types.BaseChannel | None = None,
        verdict: types.BaseChannel | None = None,
        alias: Name | Parameter | None = None,
        max_metrics: Count = 1000,
    ) -> None:
        """Declares the push.

        `experiment_id`, `model_id`, `ab_test_group`, `alias` and the connection's contact points, data center and
        keyspace may be RuntimeParameters or Placeholders of text, which are resolved and checked at run
        time; an `ab_test_group` or `alias` that resolves to '' is None.

        Args:
          model: Channel of the Model to push.
          connection: The cluster and keyspace that hold the registry's tables.
          experiment_id: The experiment whose versions are compared.
          model_id: The model.
          push_destination: A file system destination; versions are Unix seconds, as in TFX. Its base directory may hold
            `{experiment_id}` and `{model_id}`, for values that are known only when the component runs.
          model_blessing: Channel of the Evaluator's ModelBlessing; without it the Evaluator does not gate.
          infra_blessing: Channel of the InfraValidator's InfraBlessing; without it the InfraValidator does not gate.
          evaluation: Channel of the Evaluator's ModelEvaluation, which becomes the row's `metrics`.
          ab_test_group: The arm that the version serves in an A/B test.
          examples: Channel of the Examples that the model was trained on, whose custom properties `fingerprint` and
            `window` are recorded.
          verdict: Channel of ABEvaluator's AbVerdict on this version: `harm` stops the push.
          alias: The alias to point at the version once it is recorded; with a verdict, only if that is `ship`. It only
            moves forward, see `ModelRegistry.advance`.
          max_metrics: The maximum number of metrics that are recorded, those of the overall slice first.

        Raises:
          ValueError: An argument breaks its rule; the message names field, value and rule.
        """
        properties = config.to_properties(
            connection,
            max_metrics,
            experiment_id=experiment_id,
            model_id=model_id,
            ab_test_group=ab_test_group,
            alias=alias,
        )
        spec = CassandraPusherSpec(
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            evaluation=evaluation,
            examples=examples,
            verdict=verdict,
            push_destination=push_destination,
            pushed_model=types.Channel(type=standard_artifacts.PushedModel),
            **properties,
        )
        super().__init__(spec=spec)
