"""Reads TFRecord files of examples and writes their rows.

files of each split -> record batches of the table's types -> WriteToCassandra
                                                           -> number and checksum of the rows -> written.json
"""

from __future__ import annotations

import json
import os
from typing import Any

import apache_beam as beam
from tfx import types
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils

from tfx_cassandra.components.artifacts import example_files
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.feature_writer import config as configs
from tfx_cassandra.components.feature_writer.rows import (
    TALLIES,
    Failures,
    ReadRows,
    TableRows,
    Tally,
    total,
    write_time_field,
)
from tfx_cassandra.components.write.transform import WriteToCassandra

EXAMPLES_KEY, WRITTEN_KEY = 'examples', 'written'
RESULT_FILE = 'written.json'


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
          WriteError: More examples failed than may; all others are written.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        config = configs.from_properties(exec_properties)
        written = artifact_utils.get_single_instance(output_dict[WRITTEN_KEY])
        with connections.session(config.connection, keep=True) as session:
            table = TableRows(session, config).table
        paths = [
            path
            for source in input_dict[EXAMPLES_KEY]
            for split in artifact_utils.decode_split_names(source.split_names)
            for path in example_files([source], split)
        ]
        result = os.path.join(written.uri, RESULT_FILE)
        fileio.makedirs(written.uri)
        with self._make_beam_pipeline() as pipeline:
            read = (
                pipeline
                | 'Files' >> beam.Create(paths)
                | 'Share' >> beam.Reshuffle()
                | 'Read' >> beam.ParDo(ReadRows(config)).with_outputs(TALLIES, main='rows')
            )
            write = read.rows | 'Write' >> WriteToCassandra(
                config.connection, config.table, config.ttl, write_time_field(config), config.consistency,
                max_errors=None,
            )  # fmt: skip
            failures = write.failed | 'Failures' >> beam.ParDo(Failures(config))
            tallies = (read[TALLIES], failures) | 'Tallies' >> beam.Flatten()
            _ = tallies | 'Sum' >> beam.CombineGlobally(total) | 'Record' >> beam.Map(_record, result)
        with fileio.open(result) as file:
            content = json.load(file)
        if content['failed'] > config.max_errors:
            rule = f'at most max_errors = {config.max_errors} examples fail (one of them: {content["error"]})'
            raise WriteError(f'examples failed: got {content["failed"]}, rule: {rule}')
        written.set_string_custom_property('table', str(table))
        written.set_int_custom_property('rows', content['rows'])
        written.set_int_custom_property('failed', content['failed'])
        written.set_string_custom_property('checksum', content['checksum'])


def _record(tally: Tally, path: str) -> None:
    with fileio.open(path, 'w') as file:
        file.write(json.dumps({**tally._asdict(), 'checksum': f'{tally.checksum:016x}'}))
