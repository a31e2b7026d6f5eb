"""Adapts TFX's artifacts and properties to the scan and the dataset functions.

tables -> rows, one per example (training_set/) -> tfrecord.py -> data_tfrecord-*.gz of each split
       -> verified coverage of each scan -> coverage.json
       -> audit of the join -> audit.json, audit.md
"""

from __future__ import annotations

import json
import os
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from tfx_cassandra.components.dataset.files import spool
from tfx_cassandra.components.dataset.files.split import Splits
from tfx_cassandra.components.dataset.files.tfrecord import SPOOL, EncodeExamples, WriteChunks
from tfx_cassandra.components.example_gen import config as configs
from tfx_cassandra.components.scan.source import kept, source_of
from tfx_cassandra.components.training_set import choose, report, resolve, sources
from tfx_cassandra.components.training_set.options import TrainingSetOptions
from tfx_cassandra.components.training_set.read import ReadTrainingSet
from tfx_cassandra.components.training_set.sources import Sources

# Keys and properties are written out, for TFX's modules that define them import TensorFlow and its Model Analysis, ten
# of the seconds that a container needs to start.


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs CassandraExampleGen."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the window, writes the splits, and records in the artifact what was read.

        Raises:
          SchemaError, UnavailableError: The live cluster does not fit the configuration; nothing was started.
          CoverageError, ReadError, DatasetError: The data could not be read or converted to examples (through Beam).
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config, splits = configs.from_properties(exec_properties)
        artifact = artifact_utils.get_single_instance(output_dict['examples'])
        artifact.split_names = artifact_utils.encode_split_names(splits.names)
        with kept(config.training_set.origin):
            settings = resolve.windowed(config.training_set)
            tables = self._write(settings, config, splits, artifact.uri)
        for schema in output_dict.get('schema', ()):
            report.write_schema(settings, tables, schema.uri)
        report.check_audit(artifact, settings)
        _describe(artifact, settings)

    def _write(
        self, settings: TrainingSetOptions, config: configs.ExampleGenConfig, splits: Splits, uri: str
    ) -> Sources:
        """Writes the files of the splits, the coverage and the audit into a folder; returns what tables were read."""
        reference = settings.as_of or resolve.moment(settings)
        with source_of(settings.origin).held():
            tables = sources.describe(settings)
            lookups = choose.lookups(settings, tables)
        spooled = os.path.join(uri, SPOOL)
        with spool.spooling(self._make_beam_pipeline, spooled) as pipeline:
            training_set = pipeline | 'Read' >> ReadTrainingSet(settings, tables, lookups, reference, spooled)
            encoding = EncodeExamples(tables.kinds, splits, settings.window, settings.sequences)
            encoded = training_set.rows | 'Encode' >> encoding
            written = encoded.chunks | 'Write' >> WriteChunks(splits.names, uri, config.shards, config.shuffle_seed)
            overflows = beam.pvalue.AsDict(encoded.overflows)
            _ = training_set.coverage | 'WriteCoverage' >> beam.Map(
                report.write_coverage,
                overflows=overflows,
                counts=beam.pvalue.AsDict(written.counts),
                checksum=beam.pvalue.AsSingleton(written.checksum),
                settings=settings,
                sources=tables,
                uri=uri,
            )
            if settings.labels is not None:
                _ = training_set.audit | 'WriteAudit' >> beam.Map(
                    report.write_audit, settings, reference, uri, overflows=overflows
                )
        return tables


def _describe(artifact: types.Artifact, settings: TrainingSetOptions) -> None:
    with fileio.open(os.path.join(artifact.uri, report.COVERAGE_FILE)) as file:
        coverage = json.load(file)
    formats = example_gen_pb2.PayloadFormat
    payload = formats.FORMAT_TF_SEQUENCE_EXAMPLE if settings.sequences else formats.FORMAT_TF_EXAMPLE
    artifact.set_string_custom_property('payload_format', formats.Name(payload))
    for name in ('table', 'window', 'fingerprint', 'as_of', 'backup_name', 'backup_digest'):
        if name in coverage:
            artifact.set_string_custom_property(name, coverage[name])
    artifact.set_int_custom_property('rows', coverage['rows'])
    artifact.set_int_custom_property('examples', sum(coverage['examples'].values()))
    if settings.span is not None:
        artifact.set_int_custom_property('span', coverage['spans'][1])
        artifact.set_int_custom_property('version', report.version(coverage['fingerprint']))
