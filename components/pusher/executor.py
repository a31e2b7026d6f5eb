"""Pushes a blessed model and records its version."""

from __future__ import annotations

import os
from typing import Any

from absl import logging
from tfx import types
from tfx.components.pusher import executor as tfx_executor
from tfx.proto.pusher_pb2 import PushDestination
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from tfx_cassandra.components import metrics as own_metrics
from tfx_cassandra.components import tracing
from tfx_cassandra.components.errors import RegistryError, invalid
from tfx_cassandra.components.experiment.verdict_file import treatment_verdicts
from tfx_cassandra.components.pusher import config as configs
from tfx_cassandra.components.pusher import metrics
from tfx_cassandra.components.pusher.config import PusherConfig
from tfx_cassandra.components.registry import publish
from tfx_cassandra.components.registry.push import push
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion

VERDICT_KEY = 'verdict'
_GATES = (standard_component_specs.INFRA_BLESSING_KEY, standard_component_specs.MODEL_BLESSING_KEY, VERDICT_KEY)


class Executor(tfx_executor.Executor):
    """Does what TFX's Pusher does, under a version claimed in Cassandra, and writes the version's row."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if it passes every gate; see `CassandraPusher` for inputs, outputs and properties.

        Raises:
          UnavailableError: No contact point answers; nothing was copied.
          SchemaError: The keyspace lacks the registry's tables; nothing was copied.
          RegistryError: The verdict is not on this model, or the version could not be claimed, published or recorded;
            running the push again resumes it.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        outcome = 'failed'
        try:
            with own_metrics.timed(own_metrics.PUSH_SECONDS), tracing.span('push', 'model_versions'):
                pushed = self._run(input_dict, output_dict, exec_properties)
            outcome = 'pushed' if pushed else 'not_pushed'
        finally:
            own_metrics.PUSHES.add(1, outcome)

    def _run(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> bool:
        """Pushes the model if it passes every gate; returns whether it was pushed."""
        pushed_model = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        config = configs.from_properties(exec_properties)
        base_directory = _base_directory(config, exec_properties[standard_component_specs.PUSH_DESTINATION_KEY])
        version = None
        if self.CheckBlessing(input_dict):
            version = self._push(config, self.GetModelPath(input_dict), base_directory, input_dict)
        if version is None:
            self._MarkNotPushed(pushed_model)
            return False
        publish.archive(self.GetModelPath(input_dict), pushed_model.uri, str(version.digest))
        self._MarkPushed(pushed_model, str(version.model_uri), version.version)
        for field in ('experiment_id', 'model_id'):
            pushed_model.set_string_custom_property(field, getattr(version, field))
        pushed_model.set_string_custom_property('created_at', version.created_at.isoformat())
        higher = _higher_versions(config, base_directory, int(version.version))
        if higher:
            pushed_model.set_string_custom_property('higher_versions', ', '.join(map(str, higher)))
        return True

    def _push(
        self,
        config: PusherConfig,
        model_path: str,
        base_directory: str,
        input_dict: dict[str, list[types.Artifact]],
    ) -> ModelVersion | None:
        """Claims, publishes and records the model, in this order; skips steps that an earlier run completed.

        Returns:
          The version, or None for a model with the verdict `harm`.
        """
        verdict_of = _verdicts(config, input_dict)
        with ModelRegistry(config.connection) as registry:
            verdict = _verdict(registry, config, publish.content_digest(model_path), verdict_of) if verdict_of else None
            if verdict == 'harm':
                return None
            version, stored = push(
                registry,
                config.experiment_id,
                config.model_id,
                model_path,
                base_directory,
                alias=config.alias,
                ab_test_group=config.ab_test_group,
                pipeline_run=self._pipeline_run(),
                verdict=verdict,
                **_facts(config, input_dict),
            )
        if stored != version:
            logging.info('Version %s was recorded by run %s; its row is kept.', stored.version, stored.pipeline_run)
        return version

    def _pipeline_run(self) -> str | None:
        # Kubeflow and Vertex give an executor no run, but a task id that is unique over runs.
        if self._context is None:
            return None
        return self._context.pipeline_run_id or self._context._unique_id


def _base_directory(config: PusherConfig, destination: str) -> str:
    directory: str = proto_utils.json_to_proto(destination, PushDestination()).filesystem.base_directory
    for name in ('experiment_id', 'model_id'):
        value = getattr(config, name)
        if f'{{{name}}}' in directory and (os.sep in value or value in (os.curdir, os.pardir)):
            raise invalid(name, value, 'the name of a folder, for the push destination holds it')
        directory = directory.replace(f'{{{name}}}', value)
    return directory


def _verdicts(config: PusherConfig, input_dict: dict[str, list[types.Artifact]]) -> dict[str, str]:
    """Returns the A/B test's verdict on each version of the model; empty without a verdict."""
    artifact = _optional(input_dict, VERDICT_KEY)
    return {} if artifact is None else treatment_verdicts(artifact.uri, config.experiment_id, config.model_id)


def _verdict(registry: ModelRegistry, config: PusherConfig, digest: str, verdict_of: dict[str, str]) -> str:
    """Returns the verdict on the files that are pushed; a verdict on another version does not apply to them."""
    claim = registry.claimed(config.experiment_id, config.model_id, digest)
    if claim is None or str(claim.version) not in verdict_of:
        pushed = 'a model without a version' if claim is None else f'version {claim.version}'
        rule = f'on what is pushed, which is {pushed} of {config.model_id!r}'
        raise RegistryError(f'verdict: got one on version {", ".join(sorted(verdict_of))}, rule: {rule}')
    return verdict_of[str(claim.version)]


def _facts(config: PusherConfig, input_dict: dict[str, list[types.Artifact]]) -> dict[str, Any]:
    """Returns the fields of ModelVersion that come from the inputs."""
    facts: dict[str, Any] = {'gates': tuple(name for name in _GATES if input_dict.get(name))}
    evaluation = _optional(input_dict, standard_component_specs.EVALUATION_KEY)
    if evaluation is not None:
        facts['metrics'] = metrics.flat_metrics(evaluation.uri, config.max_metrics)
        facts['evaluation_uri'] = evaluation.uri
    examples = _optional(input_dict, standard_component_specs.EXAMPLES_KEY)
    if examples is not None:
        properties = {name: examples.get_string_custom_property(name) for name in ('fingerprint', 'window')}
        facts |= {f'examples_{name}': value for name, value in properties.items() if value}
        name, digest = (examples.get_string_custom_property(f'backup_{part}') for part in ('name', 'digest'))
        if name and digest:
            facts['examples_backup'] = f'{name}@{digest}'
    return facts


def _higher_versions(config: PusherConfig, base_directory: str, version: int) -> list[int]:
    """Returns the versions in the directory above every pushed one, which are served instead; logs a warning."""
    higher = publish.higher_versions(base_directory, version)
    if higher:  # later versions of this model belong there
        with ModelRegistry(config.connection) as registry:
            last: int = registry.last_version(config.experiment_id, config.model_id) or version
        higher = [number for number in higher if number > last]
    if higher:
        logging.warning(
            'TensorFlow Serving goes on serving version %d in %s, not the pushed one, because its number is higher than'
            ' every version of %s. Move it elsewhere if it is not meant to be served.',
            higher[-1],
            base_directory,
            config.model_id,
        )
    return higher


def _optional(input_dict: dict[str, list[types.Artifact]], key: str) -> types.Artifact | None:
    return artifact_utils.get_single_instance(input_dict[key]) if input_dict.get(key) else None
