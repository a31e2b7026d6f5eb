"""Moves an alias by a verdict."""

from __future__ import annotations

from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from tfx_cassandra.components.experiment.verdict_file import read_verdict
from tfx_cassandra.components.promoter import config as configs
from tfx_cassandra.components.registry.registry import ModelRegistry

VERDICT_KEY, PROMOTION_KEY = 'verdict', 'promotion'


class Executor(base_executor.BaseExecutor):
    """Runs ModelPromoter."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Moves the alias if the verdict says so; see `ModelPromoter` for the output.

        Raises:
          UnavailableError, SchemaError: The registry cannot be read.
          RegistryError: The version is not recorded, or the cluster did not settle the move.
          ValueError: The verdict is on another experiment.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = configs.from_properties(exec_properties)
        promotion = artifact_utils.get_single_instance(output_dict[PROMOTION_KEY])
        verdict = read_verdict(artifact_utils.get_single_instance(input_dict[VERDICT_KEY]).uri, config.experiment_id)
        arms = {arm.arm: arm for arm in verdict.arms}
        chosen = arms[verdict.winner or verdict.control.arm]
        reason = f'A/B test of {verdict.design.window}: {verdict.verdict}'
        with ModelRegistry(config.connection) as registry:
            move = registry.alias(config.experiment_id, config.alias)
            if verdict.winner or move is None:
                move = registry.advance(
                    config.experiment_id, config.alias, chosen.model_id, chosen.version, reason=reason
                )
        moved = move.names(chosen.model_id, chosen.version) and move.reason == reason
        promotion.set_int_custom_property('moved', int(moved))
        values = {'verdict': verdict.verdict, 'alias': config.alias, 'model_id': move.model_id, 'version': move.version}
        for name, value in values.items():
            promotion.set_string_custom_property(name, value)
