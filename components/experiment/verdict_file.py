"""Reads `verdict.json`, the verdict of an A/B test, in full or only what a push needs of it.

Local files are read without TFX, which takes seconds to import: the `tfx-cassandra` command should not wait for it.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from tfx_cassandra.components import protos
from tfx_cassandra.components.driver.errors import one_line
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.experiment.results import Verdict
from tfx_cassandra.components.registry.versions import VERDICTS
from tfx_cassandra.proto import cassandra_pb2

# The file in the directory of an AbVerdict: JSON of the proto `Verdict`, its fields named as in the proto.
VERDICT_FILE = 'verdict.json'


def read_verdict(uri: str, experiment_id: str | None = None) -> Verdict:
    """Reads the verdict in a directory that ABEvaluator wrote.

    Args:
      uri: The directory, or the artifact's URI.
      experiment_id: The experiment it must belong to; None for any.

    Raises:
      RegistryError: There is none, it cannot be read or parsed, or it belongs to another experiment.
    """
    path, text = _read(uri)
    try:
        verdict = protos.from_json(Verdict, cassandra_pb2.Verdict, text)
    except (TypeError, ValueError) as error:
        # The cause of a text that is not JSON; the error itself repeats the text.
        cause = ' '.join(str(error.__cause__ or error).split())
        rule = f'a verdict as ABEvaluator writes it ({cause})'
        raise RegistryError(f'verdict: got {path!r}, rule: {rule}') from error
    if experiment_id is not None:
        _check_experiment(verdict.experiment_id, experiment_id)
    return verdict


def treatment_verdicts(uri: str, experiment_id: str, model_id: str) -> dict[str, str]:
    """Reads the verdict on each version of one model that an A/B test compared with its control.

    Only the fields that a push needs are read, so a file with fields of a later release is good enough.

    Args:
      uri: The directory, or the artifact's URI.
      experiment_id: The experiment it must belong to.
      model_id: The model whose versions are wanted.

    Returns:
      One of `VERDICTS` by version.

    Raises:
      RegistryError: There is no such file, it cannot be read or parsed, or it is a verdict of another experiment or on
        other models.
    """
    path, text = _read(uri)
    try:
        content = json.loads(text)
        found, treatments = content['experiment_id'], [_treatment(arm) for arm in content['treatments']]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        rule = f'JSON with experiment_id and treatments, each with model_id, version and verdict ({one_line(error)})'
        raise RegistryError(f'verdict: got {path!r}, rule: {rule}') from error
    _check_experiment(found, experiment_id)
    verdicts = {version: verdict for model, version, verdict in treatments if model == model_id}
    if not verdicts:
        models = ', '.join(sorted({repr(model) for model, _, _ in treatments})) or 'no model'
        raise RegistryError(f'verdict: got one on {models}, rule: on model {model_id!r}')
    return verdicts


def _read(uri: str) -> tuple[str, str]:
    """Returns the path of a directory's verdict and its text."""
    path = os.path.join(uri, VERDICT_FILE)
    try:
        return path, _text(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RegistryError(f'verdict: got {uri!r}, rule: a directory that holds {VERDICT_FILE}') from error
    except OSError as error:
        raise RegistryError(f'verdict: got {path!r}, rule: readable ({one_line(error)})') from error
    except ValueError as error:
        raise RegistryError(f'verdict: got {path!r}, rule: text in UTF-8 ({one_line(error)})') from error


def _text(path: str) -> str:
    local = path.removeprefix('file://')
    if '://' not in local:
        return pathlib.Path(local).read_text(encoding='utf-8')
    import tensorflow as tf
    from tfx.dsl.io import fileio

    try:
        if not fileio.exists(path):
            raise FileNotFoundError(path)
        with fileio.open(path) as file:
            return str(file.read())
    except tf.errors.OpError as error:
        raise OSError(one_line(error)) from error


def _check_experiment(found: str, experiment_id: str) -> None:
    if found != experiment_id:
        raise RegistryError(f'verdict: got one of experiment {found!r}, rule: of {experiment_id!r}')


def _treatment(arm: dict[str, Any]) -> tuple[str, str, str]:
    """Returns (model_id, version, verdict)."""
    if arm['verdict'] not in VERDICTS:
        raise ValueError(f'verdict {arm["verdict"]!r} is not one of {", ".join(VERDICTS)}')
    for field in ('model_id', 'version'):
        if not isinstance(arm[field], str):
            raise TypeError(f'{field} {arm[field]!r} is not a text')
    return arm['model_id'], arm['version'], arm['verdict']
