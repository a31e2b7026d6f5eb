"""Batch prediction: the champion's answers for a window of examples, written back into Cassandra.

CassandraExampleGen -> ChampionModel -> BulkInferrer -> CassandraFeatureWriter
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tfx import v1 as tfx

from tfx_cassandra.components import (
    CassandraConnection,
    CassandraExampleGen,
    CassandraFeatureWriter,
    ChampionModel,
)


def create_pipeline(
    name: str,
    connection: CassandraConnection,
    state: str,
    example_gen: CassandraExampleGen,
    *,
    experiment_id: Any,
    alias: Any = 'champion',
    outputs: Mapping[str, str],
    table: Any,
    columns: Mapping[str, str],
    constants: Mapping[str, str] | None = None,
    write_time_feature: str | None = None,
    signature: str = 'serving_default',
) -> tfx.dsl.Pipeline:
    """Builds the pipeline.

    Args:
      name: The pipeline's name, lower case with dashes.
      connection: The cluster that holds the registry and the table; its parameters may be open.
      state: Folder or URI of the artifacts.
      example_gen: Reads the examples that are predicted.
      experiment_id, alias: The version that predicts.
      outputs: Of the model's outputs, the feature that each becomes.
      table: The table of the predictions.
      columns: The feature of each column, of those of the examples and of `outputs`.
      constants: The text of columns with the same value in each row.
      write_time_feature: See CassandraFeatureWriter.
      signature: The model's signature, which takes serialized tf.Examples.

    Returns:
      The pipeline, for LocalDagRunner or a compiler. Predictions are upserts: a repeated run writes the same rows.
    """
    champion = ChampionModel(connection, experiment_id, alias, required=True)
    columns_of_outputs = [
        tfx.proto.OutputColumnsSpec(
            predict_output=tfx.proto.PredictOutput(
                output_columns=[
                    tfx.proto.PredictOutputCol(output_key=key, output_column=feature)
                    for key, feature in outputs.items()
                ]
            ),
            signature_name=signature,
        )
    ]
    inferrer = tfx.components.BulkInferrer(
        examples=example_gen.outputs['examples'],
        model=champion.outputs['model'],
        model_spec=tfx.proto.ModelSpec(model_signature_name=[signature]),
        output_example_spec=tfx.proto.OutputExampleSpec(output_columns_spec=columns_of_outputs),
    )
    writer = CassandraFeatureWriter(
        examples=inferrer.outputs['output_examples'],
        connection=connection,
        table=table,
        columns=columns,
        constants=constants,
        write_time_feature=write_time_feature,
    )
    return tfx.dsl.Pipeline(
        pipeline_name=name,
        pipeline_root=os.path.join(state, name),
        components=[example_gen, champion, inferrer, writer],
        enable_cache=False,  # the table and the alias are not part of what is compared
    )
