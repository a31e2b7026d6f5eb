"""The pipeline that evaluates the A/B test of the demo, and with an alias promotes: ABEvaluator -> ModelPromoter."""

from __future__ import annotations

import os
from collections.abc import Sequence

from tfx import v1 as tfx
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.orchestration.data_types import RuntimeParameter

from tfx_cassandra.components import ABEvaluator, CassandraConnection, ModelPromoter, TimeWindow
from tfx_cassandra.components.experiment.design import Arm
from tfx_cassandra.pipelines.flight_delay.experiment import EXPERIMENT, METRICS, REQUESTS_TABLE


def create_pipeline(
    connection: CassandraConnection,
    arms: Sequence[Arm],
    window: TimeWindow | RuntimeParameter,
    root: str | os.PathLike[str],
    metadata: str | os.PathLike[str] | None = None,
    experiment_id: str | RuntimeParameter = EXPERIMENT,
    alias: str | RuntimeParameter | None = None,
) -> tfx.dsl.Pipeline:
    """Builds the pipeline.

    Args:
      connection: The cluster with the logs and `model_versions`.
      arms: The control, then the treatments; their versions may be RuntimeParameters.
      window: Times of the requests, half-open.
      root: Folder or URI of the artifacts.
      metadata: SQLite file of the metadata; None where the orchestrator keeps them.
      experiment_id: The experiment.
      alias: The alias that goes to the winner; None to evaluate only.

    Returns:
      The pipeline, for LocalDagRunner or a compiler.
    """
    evaluator = ABEvaluator(
        connection=connection,
        experiment_id=experiment_id,
        control=arms[0],
        treatments=arms[1:],
        window=window,
        metrics=METRICS,
        requests_table=REQUESTS_TABLE,
        shards=8,
    )
    components: list[BaseComponent] = [evaluator]
    if alias is not None:
        components.append(ModelPromoter(evaluator.outputs['verdict'], connection, experiment_id, alias))
    local = tfx.orchestration.metadata.sqlite_metadata_connection_config
    return tfx.dsl.Pipeline(
        pipeline_name=EXPERIMENT,
        pipeline_root=os.fspath(root),
        metadata_connection_config=None if metadata is None else local(os.fspath(metadata)),
        components=components,
        enable_cache=False,  # the logs are not part of what TFX compares
    )
