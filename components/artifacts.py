"""The artifacts of this package, and what its components ask of TFX's examples."""

from __future__ import annotations

from tfx.types import artifact

from tfx_cassandra.components.errors import DatasetError


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


def check_payload(examples: artifact.Artifact) -> None:
    """Checks that examples are files of tf.Example.

    Raises:
      DatasetError: They have another format.
    """
    from tfx.components.util import examples_utils  # imports more than a class of artifacts needs
    from tfx.proto import example_gen_pb2

    if examples_utils.get_payload_format(examples) != example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE:
        got = examples_utils.get_payload_format_string(examples)
        raise DatasetError(f'examples: got {got}, rule: FORMAT_TF_EXAMPLE')
