"""Reads what an A/B test says of the model that is to be pushed: no more of the file than a push needs."""

from __future__ import annotations

import json
import os
from typing import Any

from tfx.dsl.io import fileio

from tfx_cassandra.components.artifacts import VERDICT_FILE
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.experiment.record import check_experiment
from tfx_cassandra.components.registry.publish import FAILURES, one_line
from tfx_cassandra.components.registry.versions import VERDICTS


def verdicts(uri: str, experiment_id: str, model_id: str) -> dict[str, str]:
    """Returns the verdict on each version of one model that an A/B test compared with its control.

    Args:
      uri: The directory of an AbVerdict artifact.
      experiment_id: The experiment of the push.
      model_id: The model of the push.

    Raises:
      RegistryError: The file cannot be read, or is a verdict of another experiment or on other models.
    """
    path = os.path.join(uri, VERDICT_FILE)
    try:
        with fileio.open(path, 'r') as file:
            found = json.loads(file.read())
        experiment, arms = found['experiment_id'], [_arm(treatment) for treatment in found['treatments']]
    except FAILURES as error:
        raise RegistryError(f'verdict: got {path!r}, rule: readable ({one_line(error)})') from error
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        rule = f'JSON with experiment_id and treatments, each with model_id, version and verdict ({one_line(error)})'
        raise RegistryError(f'verdict: got {path!r}, rule: {rule}') from error
    check_experiment(experiment, experiment_id)
    mine = {version: verdict for model, version, verdict in arms if model == model_id}
    if not mine:
        models = ', '.join(sorted({repr(model) for model, _, _ in arms})) or 'no model'
        raise RegistryError(f'verdict: got one on {models}, rule: on model {model_id!r}')
    return mine


def _arm(treatment: dict[str, Any]) -> tuple[str, str, str]:
    """Returns (model_id, version, verdict)."""
    if treatment['verdict'] not in VERDICTS:
        raise ValueError(f'verdict {treatment["verdict"]!r} is not one of {", ".join(VERDICTS)}')
    for field in ('model_id', 'version'):
        if not isinstance(treatment[field], str):
            raise TypeError(f'{field} {treatment[field]!r} is not a text')
    return treatment['model_id'], treatment['version'], treatment['verdict']
