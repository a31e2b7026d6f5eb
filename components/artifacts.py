"""The artifacts of this package: what an A/B test has found, and what followed from it."""

from __future__ import annotations

from tfx.types import artifact


class AbVerdict(artifact.Artifact):
    """A directory that holds `verdict.json`, the verdict of one A/B test on its treatments.

    CassandraPusher reads of it: `experiment_id`, and of each of `treatments` its `model_id`, `version` and `verdict`,
    which is one of `ship`, `hold`, `harm` and `invalid`.
    """

    TYPE_NAME = 'tfx_cassandra.AbVerdict'  # Kubeflow and Vertex want a namespace


class Promotion(artifact.Artifact):
    """Says in its custom properties where an alias points after a verdict; see ModelPromoter."""

    TYPE_NAME = 'tfx_cassandra.Promotion'


class WrittenRows(artifact.Artifact):
    """Says in its custom properties what CassandraFeatureWriter has written."""

    TYPE_NAME = 'tfx_cassandra.WrittenRows'
