"""Copies the version that an alias points at into a Model artifact."""

from __future__ import annotations

from typing import Any

from absl import logging
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from tfx_cassandra.components.champion import config as configs
from tfx_cassandra.components.champion.config import ChampionConfig
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion

EXAMPLES_KEY, MODEL_KEY = 'examples', 'model'


class Executor(base_executor.BaseExecutor):
    """Runs ChampionModel."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Finds the version and copies its model; see `ChampionModel` for the output.

        Raises:
          UnavailableError, SchemaError: The registry cannot be read.
          RegistryError: The alias is required and does not exist, or its version has no model to copy.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = configs.from_properties(exec_properties)
        model = artifact_utils.get_single_instance(output_dict[MODEL_KEY])
        examples = input_dict.get(EXAMPLES_KEY)
        fingerprint = (
            artifact_utils.get_single_instance(examples).get_string_custom_property('fingerprint') if examples else ''
        )
        with ModelRegistry(config.connection) as registry:
            version = _champion(registry, config)
            trained = {found.examples_fingerprint for found in registry.list(config.experiment_id)}
        model.set_int_custom_property('new_data', int(not fingerprint or fingerprint not in trained))
        model.set_int_custom_property('found', int(version is not None))
        if version is None:
            logging.info('%s of %s points at no version.', config.alias, config.experiment_id)
            return
        if not version.model_uri:
            rule = 'recorded with the URI of its model'
            raise RegistryError(f'version: got {version.version} of {version.model_id}, rule: {rule}')
        io_utils.copy_dir(version.model_uri, path_utils.serving_model_dir(model.uri))
        for field in ('experiment_id', 'model_id', 'version'):
            model.set_string_custom_property(field, getattr(version, field))


def _champion(registry: ModelRegistry, config: ChampionConfig) -> ModelVersion | None:
    move = registry.alias(config.experiment_id, config.alias)
    if move is not None:
        return registry.recorded(config.experiment_id, move.model_id, move.version)
    if config.required:
        raise RegistryError(f'alias: got {config.alias!r}, rule: one of experiment {config.experiment_id!r}')
    return None
