"""Adapts TFX's artifacts and properties to EvaluateAb and to the writers of its verdict."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.types import artifact_utils

from tfx_cassandra.components import metrics, tracing
from tfx_cassandra.components.ab_evaluator import config
from tfx_cassandra.components.dataset.files import spool
from tfx_cassandra.components.experiment import record
from tfx_cassandra.components.experiment.evaluate import EvaluateAb
from tfx_cassandra.components.experiment.options import EvaluationOptions
from tfx_cassandra.components.experiment.results import Verdict
from tfx_cassandra.components.experiment.verdict_file import read_verdict

VERDICT_KEY = 'verdict'


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs ABEvaluator."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates the experiment, writes the artifact, and records the verdict in Cassandra.

        Raises:
          SchemaError, UnavailableError: The live cluster does not fit the configuration.
          CoverageError, ReadError: The logs could not be read (through Beam).
          RegistryError: An arm's version is not recorded; the artifact is complete all the same.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = config.from_properties(exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict[VERDICT_KEY])
        verdict = evaluate(self._make_beam_pipeline, settings, artifact.uri)
        for name in ('experiment_id', 'verdict'):
            artifact.set_string_custom_property(name, getattr(verdict, name))
        artifact.set_string_custom_property('winner', verdict.winner or '')
        artifact.set_string_custom_property('window', str(settings.design.window))


def evaluate(make_pipeline: Callable[[], beam.Pipeline], settings: EvaluationOptions, uri: str) -> Verdict:
    """Runs a pipeline that writes verdict.json and report.html into a directory, and records the verdict."""
    outcome = 'failed'
    try:
        with metrics.timed(metrics.AB_SECONDS), tracing.span('ab_run', settings.requests_table) as span:
            verdict = _evaluated(make_pipeline, settings, uri)
            span.set(experiment_id=verdict.experiment_id, verdict=verdict.verdict)
        outcome = verdict.verdict
    finally:
        metrics.AB_RUNS.add(1, outcome)
    return verdict


def _evaluated(make_pipeline: Callable[[], beam.Pipeline], settings: EvaluationOptions, uri: str) -> Verdict:
    # A unique name, because the directory may be the user's and hold other files.
    folder = os.path.join(uri, f'.spool-{uuid.uuid4().hex}')
    with spool.spooling(make_pipeline, folder) as pipeline:
        evaluated = pipeline | 'Evaluate' >> EvaluateAb(settings, folder)
        _ = evaluated | 'WriteFiles' >> beam.Map(record.write_files, uri)
    # Read back from the file, so that both hold the same numbers.
    verdict = read_verdict(uri, settings.design.experiment_id)
    record.record(settings.connection, verdict)
    return verdict
