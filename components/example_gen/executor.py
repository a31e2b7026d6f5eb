"""Adapts TFX's artifacts and properties to the scan and the dataset functions.

scan -> (long layout: shard -> pivot) -> tfrecord.WriteExamples -> data_tfrecord-*.gz of each split
     -> coverage, verified -> coverage.json
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from tfx import types
from tfx.components.example_gen import utils
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import proto_utils

from tfx_cassandra.components import config
from tfx_cassandra.components.config import ExampleGenConfig
from tfx_cassandra.components.dataset import examples, pivot
from tfx_cassandra.components.dataset.tfrecord import WriteExamples
from tfx_cassandra.components.dataset.view import FeatureView
from tfx_cassandra.components.example_gen import resolve
from tfx_cassandra.components.scan import ledger, read
from tfx_cassandra.components.scan.query import Table
from tfx_cassandra.components.store import connection as connections

COVERAGE_FILE = 'coverage.json'
_PIVOT_SHARDS = 64  # an upper part of the table, 1/64, is what one worker holds while it pivots


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs CassandraExampleGen."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads the window, writes the splits and tells in the artifact what was read.

        Raises:
          SchemaError, UnavailableError: The live cluster does not fit the configuration; nothing was started.
          CoverageError, ReadError, DatasetError: The data could not be read or turned into examples (through Beam).
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        settings = config.from_json(ExampleGenConfig, exec_properties['config'])
        output_config = example_gen_pb2.Output()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.OUTPUT_CONFIG_KEY], output_config)
        settings = resolve.windowed(settings)
        splits = resolve.splits_of(settings, output_config)
        artifact = artifact_utils.get_single_instance(output_dict[standard_component_specs.EXAMPLES_KEY])
        artifact.split_names = artifact_utils.encode_split_names(splits.names)
        (options,), (view,) = resolve.read_options(settings), settings.views
        with connections.session(settings.connection) as session:
            scan = options.scan(session)
        kinds = example_kinds(scan.table, view)
        with self._make_beam_pipeline() as pipeline:
            scanned = pipeline | 'Scan' >> read.ScanTable(options)
            rows = scanned.batches | 'OneRowAnExample' >> OneRowAnExample(view)
            written = rows | 'Write' >> WriteExamples(
                kinds, splits, artifact.uri, settings.shards, settings.shuffle_seed, settings.window
            )
            _ = scanned.coverage | 'WriteCoverage' >> beam.Map(
                write_coverage,
                counts=beam.pvalue.AsDict(written.counts),
                checksum=beam.pvalue.AsSingleton(written.checksum),
                settings=settings,
                cql=scan.cql(scan.times),
                uri=artifact.uri,
            )
        _describe(artifact, settings)


def example_kinds(table: Table, view: FeatureView) -> Mapping[str, examples.Kind]:
    """Returns the tf.Example kind of every feature name; raises SchemaError for a column that can have none."""
    kinds = {}
    for column in (*view.entity_columns, view.timestamp_column):
        kinds[column] = examples.kind_of(f'view {view.name}', column, table.type_of(f'view {view.name}', column))
    for feature in view.features:
        column = view.value_column or feature
        kind = examples.kind_of(f'view {view.name}', column, table.type_of(f'view {view.name}', column))
        kinds[view.example_name(feature)] = kind
    return kinds


class OneRowAnExample(beam.PTransform):
    """Record batches as read -> record batches with one row an example and the example's names as columns."""

    def __init__(self, view: FeatureView) -> None:
        super().__init__()
        self._view = view

    def expand(self, batches: beam.PCollection) -> beam.PCollection:
        if self._view.layout == 'wide':
            return batches | beam.Map(_renamed, self._view)
        return (
            batches
            | 'Shard' >> beam.FlatMap(pivot.shard, self._view, _PIVOT_SHARDS)
            | 'Gather' >> beam.GroupByKey()
            | 'Pivot' >> beam.MapTuple(lambda _, shard, view=self._view: pivot.pivot(list(shard), view))
        )


def write_coverage(
    coverage: ledger.Coverage, counts: Mapping[str, int], checksum: str, settings: ExampleGenConfig, cql: str, uri: str
) -> None:
    """Writes coverage.json: what was asked, what was read, and how many examples each split got."""
    (view,) = settings.views
    content = {
        'table': f'{settings.connection.keyspace}.{view.table}',
        'window': str(settings.window),
        **({'spans': [settings.span.first, settings.span.last]} if settings.span else {}),
        **({'as_of': settings.as_of.isoformat()} if settings.as_of else {}),
        'cql': cql,
        'fingerprint': fingerprint(coverage, counts, checksum, settings, cql),
        'examples': dict(sorted(counts.items())),
        'examples_checksum': checksum,
        **coverage.as_json(),
    }
    with fileio.open(os.path.join(uri, COVERAGE_FILE), 'w') as file:
        file.write(json.dumps(content, indent=2) + '\n')


def fingerprint(
    coverage: ledger.Coverage, counts: Mapping[str, int], checksum: str, settings: ExampleGenConfig, cql: str
) -> str:
    """Returns the fingerprint of the content: of the rows read, or with as_of of the examples that were kept of them.

    What writers add meanwhile is read too, and left out after; so the rows read differ where the examples do not.
    """
    if settings.as_of is None:
        return coverage.fingerprint(cql, str(settings.window))
    content = f'{cql}\n{settings.window}\n{settings.as_of.isoformat()}\n{sum(counts.values())}\n{checksum}'
    return hashlib.sha256(content.encode()).hexdigest()


def _describe(artifact: types.Artifact, settings: ExampleGenConfig) -> None:
    with fileio.open(os.path.join(artifact.uri, COVERAGE_FILE)) as file:
        coverage = json.load(file)
    examples_utils.set_payload_format(artifact, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    for name in ('table', 'window', 'fingerprint', 'as_of'):
        if name in coverage:
            artifact.set_string_custom_property(name, coverage[name])
    artifact.set_int_custom_property('rows', coverage['rows'])
    artifact.set_int_custom_property('examples', sum(coverage['examples'].values()))
    if settings.span is not None:
        artifact.set_int_custom_property(utils.SPAN_PROPERTY_NAME, coverage['spans'][1])
        artifact.set_int_custom_property(utils.VERSION_PROPERTY_NAME, version(coverage['fingerprint']))


def version(fingerprint: str) -> int:
    """Returns a fingerprint as the number TFX takes for a version: its first 52 bits, which a double holds exactly."""
    return int(fingerprint[:13], 16)


def _renamed(batch: pa.RecordBatch, view: FeatureView) -> pa.RecordBatch:
    plain = len(view.entity_columns) + 1  # entity columns and timestamp keep their names
    names = [*batch.schema.names[:plain], *map(view.example_name, view.features)]
    return pa.RecordBatch.from_arrays(batch.columns, names=names)
