"""Reads TFRecord files of examples and writes their rows.

examples of each split -> record batches -> rows of the table's CQL types -> WriteToCassandra
                                                                         -> number and checksum of the rows
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from cassandra.util import Date
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from tfx_cassandra.components.artifacts import check_payload
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.dataset.files.decode import decode, records
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver import tables
from tfx_cassandra.components.driver.responses import Milliseconds
from tfx_cassandra.components.errors import DatasetError, SchemaError
from tfx_cassandra.components.feature_writer import config as configs
from tfx_cassandra.components.feature_writer.config import FeatureWriterConfig
from tfx_cassandra.components.window import EPOCH
from tfx_cassandra.components.write.transform import WriteToCassandra

EXAMPLES_KEY, WRITTEN_KEY = 'examples', 'written'
RESULT_FILE = 'written.json'
_WRITE_TIME = '__write_time'
_TEXTS = ('text', 'ascii', 'varchar', 'uuid', 'timeuuid', 'inet', 'decimal')
_COLLECTIONS = ('list<', 'set<', 'vector<')
_UNFIT = ('map<', 'tuple<', 'duration', 'time', 'counter')


class Executor(base_beam_executor.BaseBeamExecutor):
    """Runs CassandraFeatureWriter."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the examples of every split.

        Raises:
          SchemaError, UnavailableError: The live cluster does not fit the configuration; nothing was written.
          WriteError, DatasetError: Rows could not be made or written (through Beam); those before them are written.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = configs.from_properties(exec_properties)
        written = artifact_utils.get_single_instance(output_dict[WRITTEN_KEY])
        with connections.session(config.connection) as session:
            table = tables.describe(session, config.connection.keyspace, config.table)
        converters = column_converters(config, table)
        paths = sorted(path for artifact in input_dict[EXAMPLES_KEY] for path in _files(artifact))
        result = os.path.join(written.uri, RESULT_FILE)
        fileio.makedirs(written.uri)
        with self._make_beam_pipeline() as pipeline:
            rows = (
                pipeline
                | 'Files' >> beam.Create(paths)
                | 'Share' >> beam.Reshuffle()
                | 'Read' >> beam.FlatMap(records)
                | 'Rows' >> beam.FlatMap(rows_of, config, converters)
            )
            _ = rows | 'Write' >> WriteToCassandra(
                config.connection, config.table, config.ttl,
                None if config.write_time_feature is None else _WRITE_TIME, config.consistency, config.max_errors,
            )  # fmt: skip
            summed = rows | 'Checksums' >> beam.Map(_checksum) | 'Sum' >> beam.CombineGlobally(_Sum())
            _ = summed | 'Record' >> beam.Map(_record, result)
        with fileio.open(result) as file:
            content = json.load(file)
        written.set_string_custom_property('table', f'{table.keyspace}.{table.name}')
        written.set_int_custom_property('rows', content['rows'])
        written.set_string_custom_property('checksum', content['checksum'])


def column_converters(config: FeatureWriterConfig, table: Table) -> dict[str, tuple[bool, Callable[[Any], Any]]]:
    """Returns of each column whether it takes all values of a feature, and the conversion of one value.

    Raises:
      SchemaError: The table lacks a column, or its type has no form in an example.
    """
    types_of = dict(table.types)
    converters = {}
    for source in config.columns:
        if source.column not in types_of:
            rule = f'a column of {table.name}: {", ".join(sorted(types_of))}'
            raise SchemaError(f'columns: got {source.column!r}, rule: {rule}')
        kind = types_of[source.column].removeprefix('frozen<') if isinstance(types_of[source.column], str) else ''
        if kind.startswith(_UNFIT) and not kind.startswith('timestamp') and not kind.startswith('timeuuid'):
            rule = 'a column whose values examples can hold'
            raise SchemaError(f'columns: got {source.column!r} of type {types_of[source.column]}, rule: {rule}')
        several = kind.startswith(_COLLECTIONS)
        inner = kind.partition('<')[2].rstrip('>').partition(',')[0].strip() if several else kind
        converters[source.column] = (several, _converter(inner))
    return converters


def _converter(kind: str) -> Callable[[Any], Any]:
    if kind in _TEXTS:
        return _text
    return {'timestamp': Milliseconds, 'date': Date, 'boolean': bool}.get(kind, _same)


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def rows_of(
    examples: list[bytes], config: FeatureWriterConfig, converters: Mapping[str, tuple[bool, Callable[[Any], Any]]]
) -> Iterator[dict[str, Any]]:
    """Yields the rows of serialized examples.

    Raises:
      DatasetError: A feature has several values for a column of one, or no write time.
    """
    batch, _ = decode(examples)
    features = {name: batch.column(name).to_pylist() for name in batch.schema.names}
    for number in range(len(examples)):
        row: dict[str, Any] = {}
        for source in config.columns:
            several, convert = converters[source.column]
            if source.constant is not None:
                row[source.column] = source.constant
                continue
            values = features[source.feature][number] if source.feature in features else None
            if values is None or (not values and not several):
                continue
            if not several and len(values) != 1:
                raise DatasetError(f'{source.feature}: got {len(values)} values, rule: one, for {source.column}')
            row[source.column] = [convert(value) for value in values] if several else convert(values[0])
        if config.write_time_feature is not None:
            values = (
                features.get(config.write_time_feature, {})[number] if config.write_time_feature in features else None
            )
            if not values:
                raise DatasetError(f'write_time_feature: got no {config.write_time_feature}, rule: in every example')
            row[_WRITE_TIME] = EPOCH + datetime.timedelta(milliseconds=int(values[0]))
        yield row


def _files(artifact: types.Artifact) -> Iterator[str]:
    check_payload(artifact)
    for split in artifact_utils.decode_split_names(artifact.split_names):
        for pattern in examples_utils.get_split_file_patterns([artifact], split):
            yield from map(str, fileio.glob(pattern))


def _checksum(row: Mapping[str, Any]) -> tuple[int, int]:
    content = repr(sorted((name, str(value)) for name, value in row.items()))
    return 1, int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest(), 'big')


class _Sum(beam.CombineFn):
    """(rows, checksum), which does not depend on the order of the rows."""

    def create_accumulator(self) -> tuple[int, int]:
        return 0, 0

    def add_input(self, total: tuple[int, int], row: tuple[int, int]) -> tuple[int, int]:
        return total[0] + row[0], (total[1] + row[1]) % 2**64

    def merge_accumulators(self, totals: Any) -> tuple[int, int]:
        summed = self.create_accumulator()
        for total in totals:
            summed = self.add_input(summed, total)
        return summed

    def extract_output(self, total: tuple[int, int]) -> tuple[int, int]:
        return total


def _record(total: tuple[int, int], path: str) -> None:
    with fileio.open(path, 'w') as file:
        file.write(json.dumps({'rows': total[0], 'checksum': f'{total[1]:016x}'}))
