"""Where a step's artifacts lie: at their URIs, or in the folders of the launcher of open-source Kubeflow.

That launcher copies input artifacts into a local folder before a step, and uploads what the step leaves in a local
folder afterwards. A step that reads and writes there needs no client for the object store (TensorFlow has none for
minio://), keeps a model's nested folders, and leaves no folder markers: TensorFlow up to 2.16 writes objects of zero
bytes named like folders to Google Cloud Storage, which the launcher of the next step takes for files
(kubeflow/pipelines#13476).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from absl import logging
from tfx import types

# scheme -> folder, as the launcher has them (backend/src/v2/component, LocalPathForURI)
_FOLDERS = {'gs': '/gcs', 'minio': '/minio', 's3': '/s3'}
_POD = 'KFP_POD_NAME'  # set in the containers of open-source Kubeflow, not on Vertex


def moved(
    artifacts: Iterable[types.Artifact], beam_args: Sequence[str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Points artifacts to the launcher's folders where the step runs under it; a local path stays.

    With a distributed Beam runner nothing is moved: its workers cannot see the container's folders.

    Args:
      artifacts: Inputs and outputs, whose `uri` is changed.
      beam_args: Options of the step's Beam pipelines.
      environ: The container's environment.

    Returns:
      The URI by folder, for `restored`.
    """
    if _POD not in environ or _distributed(beam_args):
        return {}
    uris = {}
    for artifact in artifacts:
        folder = local_folder(artifact.uri)
        if folder is not None:
            uris[folder] = artifact.uri
            artifact.uri = folder
    return uris


def restored(artifacts: Iterable[types.Artifact], uris: Mapping[str, str]) -> None:
    """Gives the artifacts their URIs back."""
    for artifact in artifacts:
        artifact.uri = uris.get(artifact.uri, artifact.uri)


def local_folder(uri: str) -> str | None:
    """Returns the launcher's folder for a URI; None where it has none, as for a local path."""
    scheme, separator, path = uri.partition('://')
    return f'{_FOLDERS[scheme]}/{path}' if separator and scheme in _FOLDERS else None


def remove_markers(uris: Iterable[str]) -> int:
    """Removes the objects of zero bytes that stand for folders below gs:// URIs; returns their number.

    A failure is logged only: the step's work is done.
    """
    removed = 0
    for uri in uris:
        if not uri.startswith('gs://'):
            continue
        try:
            removed += _remove_markers(uri)
        except Exception as error:
            logging.warning('Folder markers below %s were not removed: %s', uri, error)
    return removed


def _remove_markers(uri: str) -> int:
    from google.cloud import storage  # type: ignore[attr-defined]

    bucket, _, prefix = uri.removeprefix('gs://').partition('/')
    client = storage.Client()
    found = client.list_blobs(bucket, prefix=f'{prefix.rstrip("/")}/')
    markers = [blob for blob in found if blob.name.endswith('/') and not blob.size]
    for blob in markers:
        blob.delete()
    return len(markers)


def _distributed(beam_args: Sequence[str]) -> bool:
    words = [word for argument in beam_args for word in argument.split('=', 1)]
    runners = [words[place + 1] for place, word in enumerate(words[:-1]) if word == '--runner']
    return bool(runners) and runners[-1].rpartition('.')[2] not in ('DirectRunner', 'BundleBasedDirectRunner')
