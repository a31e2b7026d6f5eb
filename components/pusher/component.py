"""CassandraPusher: pushes a blessed model as TFX's Pusher does and records the version in Cassandra."""

from __future__ import annotations

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.proto.pusher_pb2 import PushDestination, Versioning
from tfx.types import component_spec, standard_artifacts, standard_component_specs
from tfx.types.system_executions import Deploy

from tfx_cassandra.components import config as configs
from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.config import PusherConfig
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.pusher import executor
from tfx_cassandra.components.registry.claims import named


class CassandraPusherSpec(component_spec.ComponentSpec):
    """Inputs, outputs and properties of CassandraPusher; `config` is the JSON of a PusherConfig."""

    PARAMETERS = {
        executor.CONFIG_KEY: component_spec.ExecutionParameter(type=str),
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

    def __init__(
        self,
        model: types.BaseChannel,
        connection: CassandraConnection,
        experiment_id: str,
        model_id: str,
        push_destination: PushDestination,
        model_blessing: types.BaseChannel | None = None,
        infra_blessing: types.BaseChannel | None = None,
        evaluation: types.BaseChannel | None = None,
        ab_test_group: str | None = None,
        examples: types.BaseChannel | None = None,
        verdict: types.BaseChannel | None = None,
        alias: str | None = None,
        max_metrics: int = 1000,
    ) -> None:
        """Declares the push.

        Args:
          model: Channel of the Model to push.
          connection: The cluster and keyspace that hold the registry's tables.
          experiment_id: The experiment whose versions are compared.
          model_id: The model.
          push_destination: A file system destination; versions are Unix seconds, as in TFX.
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
        if not isinstance(connection, CassandraConnection):
            raise invalid('connection', connection, 'a CassandraConnection')
        named('experiment_id', experiment_id)
        named('model_id', model_id)
        for field, value in (('ab_test_group', ab_test_group), ('alias', alias)):
            if value is not None:
                named(field, value)
        if isinstance(max_metrics, bool) or not isinstance(max_metrics, int) or max_metrics < 1:
            raise invalid('max_metrics', max_metrics, 'an integer from 1')
        _check(push_destination)
        config = PusherConfig(connection, experiment_id, model_id, ab_test_group, alias, max_metrics)
        spec = CassandraPusherSpec(
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            evaluation=evaluation,
            examples=examples,
            verdict=verdict,
            config=configs.to_json(config),
            push_destination=push_destination,
            pushed_model=types.Channel(type=standard_artifacts.PushedModel),
        )
        super().__init__(spec=spec)


def _check(push_destination: object) -> None:
    if (
        not isinstance(push_destination, PushDestination)
        or push_destination.WhichOneof('destination') != 'filesystem'
        or not push_destination.filesystem.base_directory
    ):
        got = ' '.join(str(push_destination).split())
        raise invalid('push_destination', got, 'a PushDestination with filesystem.base_directory')
    versioning = push_destination.filesystem.versioning
    if versioning not in (Versioning.AUTO, Versioning.UNIX_TIMESTAMP):
        raise invalid('push_destination.filesystem.versioning', versioning, 'AUTO or UNIX_TIMESTAMP')
