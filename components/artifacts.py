"""The artifacts of this package, and what its components ask of TFX's examples."""

from __future__ import annotations

from collections.abc import Iterable

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


def example_files(examples: Iterable[artifact.Artifact], split: str) -> list[str]:
    """Returns the TFRecord files of a split, by name.

    Raises:
      DatasetError: The examples are no files of tf.Example.
    """
    from tfx.components.util import examples_utils  # imports more than a class of artifacts needs
    from tfx.dsl.io import fileio
    from tfx.proto import example_gen_pb2

    for each in (sources := list(examples)):
        if examples_utils.get_payload_format(each) != example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE:
            got = examples_utils.get_payload_format_string(each)
            raise DatasetError(f'examples: got {got}, rule: FORMAT_TF_EXAMPLE')
    patterns = examples_utils.get_split_file_patterns(sources, split)
    return sorted(str(path) for pattern in patterns for path in fileio.glob(pattern))
