"""Runs a pipeline on this machine: one line per component on the terminal, all other output in a log."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import re
import sys
from typing import TYPE_CHECKING, TextIO

from tfx_cassandra.components.progress import Step, step

if TYPE_CHECKING:
    from ml_metadata.proto.metadata_store_pb2 import Artifact  # type: ignore[attr-defined]
    from tfx.orchestration.pipeline import Pipeline

# TensorFlow, TFX and their C++ libraries write to the process's standard streams as soon as they are imported, so they
# are imported after `output_to`.


def output_to(log: pathlib.Path) -> TextIO:
    """Redirects all further output of the process, including C++ code and child processes, to a log.

    This cannot be undone, because TensorFlow still writes while the interpreter shuts down.

    Args:
      log: File to append to; its folder is created.

    Returns:
      The former standard output: the terminal, or where the user redirected it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.fdopen(os.dup(1), 'w', buffering=1)
    with log.open('ab') as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    return terminal


def run(pipeline: Pipeline, terminal: TextIO) -> None:
    """Runs a pipeline with TFX's LocalDagRunner and writes one line per component, with its duration.

    Args:
      pipeline: The pipeline.
      terminal: Stream for the lines.

    Raises:
      Exception: The error of the component that failed; later components do not run.
    """
    from absl import logging as absl_logging
    from tfx.orchestration.local.local_dag_runner import LocalDagRunner

    absl_logging.set_verbosity(absl_logging.INFO)
    logger = absl_logging.get_absl_logger()
    with contextlib.ExitStack() as running:
        handler = _ComponentLines(running, terminal)
        logger.addHandler(handler)
        try:
            LocalDagRunner().run(pipeline)
        finally:
            logger.removeHandler(handler)


def last_outputs(
    metadata_path: str | os.PathLike[str], pipeline_root: str | os.PathLike[str]
) -> dict[tuple[str, str], Artifact]:
    """Returns the artifacts of the latest run, including reused ones.

    Args:
      metadata_path: The pipeline's SQLite file.
      pipeline_root: The pipeline's folder of artifacts, as passed to the pipeline.

    Returns:
      Artifacts of ML Metadata by (component, output), such as `('Trainer', 'model')`.
    """
    from tfx.orchestration import metadata

    with metadata.Metadata(metadata.sqlite_metadata_connection_config(os.fspath(metadata_path))) as handle:
        run = max(handle.store.get_contexts_by_type('pipeline_run'), key=lambda context: context.id)
        artifacts = handle.store.get_artifacts_by_context(run.id)
    outputs = {}
    for artifact in artifacts:
        # <pipeline root>/<component>/<output>/<execution>...
        component, output, *_ = os.path.relpath(artifact.uri, pipeline_root).split(os.sep)
        outputs[component, output] = artifact
    return outputs


class _ComponentLines(logging.Handler):
    """Converts LocalDagRunner's log messages about components to steps; it has no other hook.

    `running` holds the step of the component that runs, so that closing `running` on an error ends the step as failed.
    """

    def __init__(self, running: contextlib.ExitStack, terminal: TextIO) -> None:
        super().__init__(logging.INFO)
        self._running, self._terminal = running, terminal
        self._step: Step | None = None

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if started := re.fullmatch(r'Component (\S+) is running\.', message):
            self._step = self._running.enter_context(step(started[1], self._terminal))
        elif re.fullmatch(r'Component \S+ is finished\.', message):
            self._running.close()
        elif self._step and re.fullmatch(r'A cached execution \d+ is used\.', message):
            self._step.update('reused')
