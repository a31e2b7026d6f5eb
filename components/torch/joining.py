"""Joins a training set into spool files, by a Beam pipeline; see joined.py."""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from tfx_cassandra.components.dataset.files import spool
from tfx_cassandra.components.dataset.files.spool import Spooling, serialized
from tfx_cassandra.components.dataset.join.audit import Audit
from tfx_cassandra.components.progress import step
from tfx_cassandra.components.scan.ledger import Coverage
from tfx_cassandra.components.scan.source import source_of
from tfx_cassandra.components.torch.joined import MANIFEST, VERSION, read_file
from tfx_cassandra.components.training_set import choose, resolve, sources
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.training_set.read import ReadTrainingSet
from tfx_cassandra.components.training_set.sources import Sources

_Piece = tuple[str, int, int, int, int]  # path, offset, bytes, rows, CRC-32


def join(settings: TrainingSetOptions, folder: str, files: str, joined: str, beam_args: Sequence[str]) -> None:
    """Joins a training set, and writes its manifest.

    Args:
      settings: What is joined.
      folder: Where the manifest is written.
      files: The folder of the spool files.
      joined: A hash of the settings.
      beam_args: Options of the pipeline.

    Raises:
      DatasetError: A feature exceeds a limit of the audit.
    """
    settings = resolve.windowed(settings)
    reference = settings.as_of or resolve.moment(settings)
    with source_of(settings.origin).held():
        tables = sources.describe(settings)
        lookups = choose.lookups(settings, tables)
    spool.clean(files)  # of an attempt that failed
    spooled = os.path.join(folder, 'spool')
    manifest = os.path.join(folder, MANIFEST)
    part = f'{manifest}.part'
    spool.clean(part)

    def make_pipeline() -> beam.Pipeline:
        return beam.Pipeline(options=PipelineOptions(list(beam_args)))

    with step(f'join the training set into {folder}'), spool.spooling(make_pipeline, spooled) as pipeline:
        training_set = pipeline | 'Read' >> ReadTrainingSet(settings, tables, lookups, reference, spooled)
        pieces = (
            training_set.rows | 'Write' >> beam.ParDo(_WriteRows(spooled, files)) | 'Pieces' >> beam.combiners.ToList()
        )
        _ = training_set.coverage | 'Manifest' >> beam.Map(
            _write_manifest,
            beam.pvalue.AsSingleton(pieces),
            beam.pvalue.AsSingleton(training_set.audit),
            settings=settings,
            tables=tables,
            content={'version': VERSION, 'joined': joined, 'labels_known_at': reference.isoformat()},
            path=part,
        )
    if settings.limits is not None:
        settings.limits.check(json.loads(read_file(part))['audit'])
    FileSystems.rename([part], [manifest])  # so that whoever finds it finds all of it


class _WriteRows(Spooling):
    """Record batch -> a piece: its place in the bundle's spool file, its rows and its CRC."""

    def process(self, batch: pa.RecordBatch) -> Iterator[_Piece]:
        if batch.num_rows:
            content = serialized(batch)
            yield (*self._file.append(content), batch.num_rows, zlib.crc32(content))


def _write_manifest(
    coverage: Mapping[str, Coverage], pieces: list[_Piece], audit: Audit, settings: TrainingSetOptions,
    tables: Sources, content: dict[str, Any], path: str,
) -> None:  # fmt: skip
    content = content | {
        'id': uuid.uuid4().hex,
        'window': str(settings.window),
        'rows': sum(piece[3] for piece in pieces),
        'columns': list(tables.columns),
        'required': [name for name, column in tables.columns.items() if column.required],
        'decimals': [name for name, column in tables.columns.items() if column.cql == 'decimal'],
        'tables': {name: {'rows': read.rows, 'checksum': f'{read.checksum:016x}'} for name, read in coverage.items()},
        'audit': audit.report(settings.availability_cut_off),
        'pieces': sorted(pieces),
    }
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write(json.dumps(content).encode())
