"""TFX's own ExampleGen, with a per-row source: the way an ExampleGen for Cassandra is written without this package.

TFX's BaseExampleGenExecutor does the rest: Partition by _PartitionFn, then Reshuffle and WriteToTFRecord a split. It
runs on the DirectRunner; its clock is that of its executor.
"""

import functools
import json
import time
from pathlib import Path

import apache_beam as beam
import clock
import load
import tensorflow as tf
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.query import tuple_factory
from google.protobuf import json_format
from tfx.components.example_gen import base_example_gen_executor, utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts

TOKEN_RANGES = 64


class ReadRows(beam.DoFn):
    """Token ranges -> rows as dictionaries, nulls left out."""

    def __init__(self, host, port, keyspace, table):
        self._host, self._port, self._table = host, port, f'{keyspace}.{table}'
        layout = load.layout_of(table)
        self._columns, self._key, self._time = layout.example_columns, ', '.join(layout.entity), layout.timestamp

    def setup(self):
        profile = ExecutionProfile(row_factory=tuple_factory, request_timeout=60.0)
        self._cluster = Cluster([self._host], self._port, execution_profiles={EXEC_PROFILE_DEFAULT: profile})
        self._session = self._cluster.connect()
        columns = ', '.join(self._columns)
        where = f'token({self._key}) > ? AND token({self._key}) <= ?'
        self._statement = self._session.prepare(f'SELECT {columns} FROM {self._table} WHERE {where}')

    def teardown(self):
        self._cluster.shutdown()

    def process(self, bounds):
        for row in self._session.execute(self._statement, bounds):
            values = {name: value for name, value in zip(self._columns, row, strict=True) if value is not None}
            moment = values[self._time].replace(tzinfo=load.START.tzinfo)
            values[self._time] = round(moment.timestamp() * 1000)
            # In lists, for dict_to_example takes a bare zero for a value that is missing.
            yield {name: [value] for name, value in values.items()}


class Executor(base_example_gen_executor.BaseExampleGenExecutor):
    """The executor that TFX's guide to custom ExampleGens asks for."""

    def GetInputSourceToExamplePTransform(self):
        return beam.ptransform_fn(
            lambda pipeline, exec_properties, split_pattern: (
                pipeline
                | beam.Create(ranges())
                | beam.Reshuffle()
                | beam.ParDo(ReadRows(**exec_properties['source']))
                | beam.Map(utils.dict_to_example)
            )
        )


def ranges():
    low, width = -(2**63), 2**64 // TOKEN_RANGES
    return [(low + i * width, min(low + (i + 1) * width, 2**63 - 1)) for i in range(TOKEN_RANGES)]


def main():
    chosen = clock.parser().parse_args()
    artifact = standard_artifacts.Examples()
    artifact.uri = chosen.out
    config = utils.make_default_input_config()
    as_json = functools.partial(json_format.MessageToJson, preserving_proto_field_name=True)
    properties = {
        'input_config': as_json(config),
        'output_config': as_json(utils.make_default_output_config(config)),
        'output_data_format': example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE,
        'source': {'host': chosen.host, 'port': chosen.port, 'keyspace': chosen.keyspace, 'table': chosen.table},
    }
    executor = Executor(BaseBeamExecutor.Context(beam_pipeline_args=['--runner=DirectRunner'], tmp_dir=chosen.out))
    began, used = time.perf_counter(), clock.cpu_seconds()
    executor.Do({}, {'examples': [artifact]}, properties)
    wall, used = time.perf_counter() - began, clock.cpu_seconds() - used
    files = [
        str(file) for name in json.loads(artifact.split_names) for file in Path(chosen.out, f'Split-{name}').iterdir()
    ]
    rows = sum(1 for _ in tf.data.TFRecordDataset(files, 'GZIP').as_numpy_iterator())
    clock.say(rows, wall, used, examples=chosen.out)


if __name__ == '__main__':
    main()
