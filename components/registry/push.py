"""Pushes a model that has passed its gates: claim, publish, record, and perhaps point an alias at it.

CassandraPusher does so for the model of a pipeline, and a training script for a model of any framework.
"""

from __future__ import annotations

from typing import Any

from tfx_cassandra.components.registry import publish
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion


def push(
    registry: ModelRegistry, experiment_id: str, model_id: str, model_path: str, base_directory: str,
    *, alias: str | None = None, **fields: Any,
) -> tuple[ModelVersion, ModelVersion]:  # fmt: skip
    """Pushes a model; steps that an earlier, interrupted push has completed are skipped, so it may be repeated.

    Args:
      registry: An open registry.
      experiment_id: The experiment whose versions are compared.
      model_id: The model.
      model_path: The folder of its files, of any format.
      base_directory: The folder of its versions, each a folder named by its number, as TensorFlow Serving expects it.
      alias: Points at the version once it is recorded, unless an A/B test has not found it good enough; None for no
        alias.
      fields: Further fields of `ModelVersion`, such as metrics, gates and verdict.

    Returns:
      (the version that was pushed, the row that is stored: that of the first push of these files)

    Raises:
      RegistryError: The model is unreadable, or could not be claimed, published or recorded.
      ValueError: A value breaks its rule.
    """
    digest = publish.content_digest(model_path)
    claim = registry.claim(experiment_id, model_id, digest)
    directory = publish.publish(model_path, base_directory, claim.version, digest)
    version = ModelVersion(
        experiment_id=experiment_id,
        model_id=model_id,
        version=str(claim.version),
        created_at=claim.created_at,
        digest=digest,
        model_uri=directory,
        **fields,
    )
    # Last, so that a row of model_versions always has a complete directory, and its reader can load the model.
    # In the other order a crash would leave a row without a directory.
    stored = registry.record(version)
    if alias is not None and version.verdict in (None, 'ship'):
        registry.advance(experiment_id, alias, model_id, version.version, reason=f'pushed by {version.pipeline_run}')
    return version, stored
