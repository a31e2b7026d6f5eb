"""Continuous training: each run trains on the newest span, starting from the champion, and skips data it has seen.

CassandraExampleGen(span) -> ChampionModel -> if there is new data:
    StatisticsGen -> SchemaGen -> Transform -> Trainer(base_model) -> Evaluator -> CassandraPusher(alias)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import tensorflow_model_analysis as tfma
from tfx import v1 as tfx

from tfx_cassandra.components import CassandraConnection, CassandraExampleGen, CassandraPusher, ChampionModel


def create_pipeline(
    name: str,
    connection: CassandraConnection,
    state: str,
    example_gen: CassandraExampleGen,
    *,
    preprocessing_fn: str,
    run_fn: str,
    eval_config: tfma.EvalConfig,
    experiment_id: Any,
    model_id: Any,
    alias: Any = 'champion',
    train_steps: int = 1000,
    eval_steps: int = 40,
    custom_config: Mapping[str, Any] | None = None,
    enable_cache: bool = False,
) -> tfx.dsl.Pipeline:
    """Builds the pipeline; run it once a span, and again as often as you like.

    Args:
      name: The pipeline's name, lower case with dashes.
      connection: The cluster that holds the registry; its parameters may be open.
      state: Folder or URI of artifacts (`NAME/`) and pushed models (`serving/MODEL_ID/`).
      example_gen: Reads the span: CassandraExampleGen with `span=` or `window=`, which may be a RuntimeParameter.
      preprocessing_fn: Of Transform, MODULE.FUNCTION.
      run_fn: Of Trainer, MODULE.FUNCTION; `fn_args.base_model` is the champion's folder, which may not exist.
      eval_config: What Evaluator measures, with the thresholds that bless a model.
      experiment_id, model_id: The version's key in `model_versions`; texts or RuntimeParameters.
      alias: The alias that is trained from and moved to the new version.
      train_steps, eval_steps: Batches.
      custom_config: Handed to `run_fn`.
      enable_cache: Whether equal executions are reused.

    Returns:
      The pipeline, for LocalDagRunner or a compiler.
    """
    examples = example_gen.outputs['examples']
    champion = ChampionModel(connection, experiment_id, alias, examples)
    new_data = champion.outputs['model'].future()[0].custom_property('new_data') == 1
    with tfx.dsl.Cond(new_data):
        statistics = tfx.components.StatisticsGen(examples=examples)
        schema = tfx.components.SchemaGen(statistics=statistics.outputs['statistics'], infer_feature_shape=False)
        transform = tfx.components.Transform(
            examples=examples,
            schema=schema.outputs['schema'],
            preprocessing_fn=preprocessing_fn,
            disable_statistics=True,
        )
        trainer = tfx.components.Trainer(
            run_fn=run_fn,
            examples=transform.outputs['transformed_examples'],
            transform_graph=transform.outputs['transform_graph'],
            base_model=champion.outputs['model'],
            train_args=tfx.proto.TrainArgs(num_steps=train_steps),
            eval_args=tfx.proto.EvalArgs(num_steps=eval_steps),
            custom_config=dict(custom_config or {}),
        )
        evaluator = tfx.components.Evaluator(examples=examples, model=trainer.outputs['model'], eval_config=eval_config)
        folder = os.path.join(state, 'serving', model_id if isinstance(model_id, str) else '{model_id}')
        pusher = CassandraPusher(
            model=trainer.outputs['model'],
            connection=connection,
            experiment_id=experiment_id,
            model_id=model_id,
            push_destination=tfx.proto.PushDestination(
                filesystem=tfx.proto.PushDestination.Filesystem(base_directory=folder)
            ),
            model_blessing=evaluator.outputs['blessing'],
            evaluation=evaluator.outputs['evaluation'],
            examples=examples,
            alias=alias,
        )
    return tfx.dsl.Pipeline(
        pipeline_name=name,
        pipeline_root=os.path.join(state, name),
        components=[example_gen, champion, statistics, schema, transform, trainer, evaluator, pusher],
        enable_cache=enable_cache,
    )
