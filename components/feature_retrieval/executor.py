"""Adapts TFX's artifacts and properties to the retrieval.

files of a split -> lists of examples -> retrieve, or join to scans -> framed chunks -> data_tfrecord-*.gz of the split
                                      -> statistics, summed -> retrieval.json
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.components.example_gen import utils
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs

from tfx_cassandra.components.artifacts import example_files
from tfx_cassandra.components.backup.tables import digest_of, name_and_digest
from tfx_cassandra.components.dataset.files.decode import records
from tfx_cassandra.components.dataset.files.spool import spooling
from tfx_cassandra.components.dataset.files.tfrecord import SPOOL, WriteChunks
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.feature_retrieval import config
from tfx_cassandra.components.lookup.latest import no_moments
from tfx_cassandra.components.lookup.options import LATEST, RetrievalOptions
from tfx_cassandra.components.lookup.retrieve import Retrieve, Retriever, now
from tfx_cassandra.components.scan.source import kept, source_of
from tfx_cassandra.components.training_set.enrich import EnrichByScan, scanned_views

RETRIEVAL_FILE = 'retrieval.json'
SOURCE_KEY = 'source_examples'  # an input and an output cannot both be called examples


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs CassandraFeatureRetrieval."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Enriches the examples of every split.

        Raises:
          SchemaError, UnavailableError: The live cluster does not fit the configuration; nothing was started.
          DatasetError, ReadError: The examples could not be enriched (through Beam).
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = config.from_properties(exec_properties)
        sources = input_dict[SOURCE_KEY]
        artifact = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        files = {split: example_files(sources, split) for split in _splits(sources)}
        splits, spooled = list(files), os.path.join(artifact.uri, SPOOL)
        with kept(settings.origin):
            enrich = _by_key(settings) if settings.source is None else _by_scan(settings, artifact, spooled)
            artifact.split_names = artifact_utils.encode_split_names(splits)
            examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
            with spooling(self._make_beam_pipeline, spooled) as pipeline:
                _write(enrich(pipeline, files), splits, settings, artifact.uri)
        for name in (utils.SPAN_PROPERTY_NAME, utils.VERSION_PROPERTY_NAME):
            if sources[0].has_custom_property(name):
                artifact.set_int_custom_property(name, sources[0].get_int_custom_property(name))


def _write(
    enriched: Sequence[beam.pvalue.DoOutputsTuple], splits: Sequence[str], settings: RetrievalOptions, uri: str
) -> None:
    """Writes the examples of all splits into a folder, and what became of their features."""
    chunks = [outputs.chunks for outputs in enriched] | 'Chunks' >> beam.Flatten()
    _ = chunks | 'Write' >> WriteChunks(splits, uri)
    statistics = [outputs.statistics for outputs in enriched] | 'Statistics' >> beam.Flatten()
    numbers = statistics | 'Sum' >> beam.CombinePerKey(sum)  # type: ignore[arg-type]
    _ = (
        chunks.pipeline
        | beam.Create([os.path.join(uri, RETRIEVAL_FILE)])
        | 'WriteStatistics' >> beam.Map(_write_statistics, settings.as_of, numbers=beam.pvalue.AsDict(numbers))
    )


Enrich = Callable[[beam.Pipeline, Mapping[str, list[str]]], list[beam.pvalue.DoOutputsTuple]]


def _by_key(settings: RetrievalOptions) -> Enrich:
    """Returns what enriches the files of each split by lookups: `chunks`, `statistics`: ((split, name), number)."""
    present = now()
    with connections.session(settings.live, keep=True) as session:
        Retriever(settings, present).lookups(session)

    def enrich(pipeline: beam.Pipeline, files: Mapping[str, list[str]]) -> list[beam.pvalue.DoOutputsTuple]:
        return [
            _read(pipeline, split, paths)
            | f'Retrieve[{split}]'
            >> beam.ParDo(Retrieve(settings, present, split)).with_outputs('statistics', main='chunks')
            for split, paths in files.items()
        ]

    return enrich


def _by_scan(settings: RetrievalOptions, artifact: types.Artifact, spooled: str) -> Enrich:
    """Returns what does the same by scans of the backup's tables, and records in the artifact which backup it is."""
    with source_of(settings.origin).held():
        views = scanned_views(settings)
        request = views[0].read.request
        moment = source_of(request.connection).moment(request)
    names, digests = zip(*(name_and_digest(view.read.table) for view in views), strict=True)
    artifact.set_string_custom_property('backup_name', names[0])
    artifact.set_string_custom_property('backup_digest', digest_of(digests))

    def enrich(pipeline: beam.Pipeline, files: Mapping[str, list[str]]) -> list[beam.pvalue.DoOutputsTuple]:
        lists = [
            _read(pipeline, split, paths) | f'Split[{split}]' >> beam.Map(lambda some, split=split: (split, some))
            for split, paths in files.items()
        ]
        return [lists | beam.Flatten() | 'Enrich' >> EnrichByScan(settings, views, moment, spooled)]

    return enrich


def _read(pipeline: beam.Pipeline, split: str, paths: list[str]) -> beam.PCollection:
    """Reads the files of a split as lists of serialized examples."""
    return (
        pipeline
        | f'Files[{split}]' >> beam.Create(paths)
        | f'Share[{split}]' >> beam.Reshuffle()
        | f'Read[{split}]' >> beam.FlatMap(records)
    )


def _splits(sources: Sequence[types.Artifact]) -> list[str]:
    names = artifact_utils.decode_split_names(sources[0].split_names)
    if any(set(artifact_utils.decode_split_names(source.split_names)) != set(names) for source in sources):
        raise DatasetError(f'examples: got {[s.split_names for s in sources]}, rule: the same splits in each')
    return names


def _write_statistics(path: str, as_of: str, numbers: Mapping[tuple[str, str], int]) -> None:
    """Writes retrieval.json: for each split the examples, the lookups sent, and for each feature who lacks it.

    Raises:
      DatasetError: No example of any split has a moment.
    """
    content: dict[str, dict[str, int]] = {}
    for (split, statistic), number in sorted(numbers.items()):
        content.setdefault(split, {})[statistic] = number
    examples, without_moment = (
        sum(statistics.get(name, 0) for statistics in content.values()) for name in ('examples', f'missing {as_of}')
    )
    if as_of != LATEST and 0 < examples == without_moment:
        raise no_moments(as_of)
    with fileio.open(path, 'w') as file:
        file.write(json.dumps(content, indent=2) + '\n')
