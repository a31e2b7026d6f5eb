"""What is run on every engine, as its user would write it: python pipelines.py OUT PIPELINE... -- BEAM OPTIONS.

For each pipeline OUT/PIPELINE.json has what it gave, to be compared between engines: rows, fingerprint and checksums.
This file and the wheel are all that it takes; its own functions travel as pickles.
"""

from __future__ import annotations

import datetime
import gzip
import hashlib
import json
import os
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from google.protobuf.message import Message
from tfx.dsl.components.base import base_beam_executor
from tfx.types import channel_utils, standard_artifacts
from tfx.utils import proto_utils

from tfx_cassandra.components import (
    ABEvaluator,
    Arm,
    CassandraConnection,
    CassandraExampleGen,
    CassandraFeatureRetrieval,
    FeatureView,
    LabelSource,
    Metric,
    WriteToCassandra,
)
from tfx_cassandra.components.artifacts import AbVerdict
from tfx_cassandra.components.dataset.files import spool
from tfx_cassandra.components.dataset.files.tfrecord import SPOOL, EncodeExamples, WriteChunks
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.example_gen import config as configs
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.options import ReadRequest
from tfx_cassandra.components.scan.read import ScanTable
from tfx_cassandra.components.training_set import resolve, sources
from tfx_cassandra.components.training_set.read import ReadTrainingSet

WINDOW = '2020-01-01T00:00Z/2020-01-03T00:00Z'
SPLITS = 64  # four groups, so that two workers have something to do
CONNECTION = CassandraConnection.from_env()
READINGS = FeatureView('readings', 'readings', ('sensor',), 'ts', ('a', 'b', 'c'), ttl=datetime.timedelta(hours=9))
MEASURES = FeatureView(
    'measures', 'measures', ('sensor',), 'ts', ('heat', 'wind'), layout='long', feature_name_column='name',
    value_column='value',
)  # fmt: skip
LABELS = LabelSource('visits', ('sensor',), 'at', ('late',))


def digest(rows: Iterable[Any]) -> int:
    """Returns the sum of a hash of each value, modulo 2^64: whatever the order."""
    import hashlib

    return sum(int.from_bytes(hashlib.sha256(repr(row).encode()).digest()[:8], 'big') for row in rows) % 2**64


def scan(out: str, options: list[str]) -> dict[str, Any]:
    """ReadFromCassandra with its Coverage, and the batches as they arrive."""
    request = ReadRequest(CONNECTION, 'readings', options=ReadOptions(splits=SPLITS, page_rows=500))
    path = os.path.join(out, 'scan.json')

    def seen(batch: Any) -> tuple[int, int]:
        return batch.num_rows, digest(sorted(row.items()) for row in batch.to_pylist())

    def added(parts: Iterable[tuple[int, int]]) -> tuple[int, int]:
        counts, digests = zip(*parts, strict=True)
        return sum(counts), sum(digests) % 2**64

    def write(coverage: Any, total: tuple[int, int], path: str) -> None:
        content = {
            'rows': coverage.rows, 'fingerprint': coverage.fingerprint('readings', ''), 'batches': total[0],
            'digest': f'{total[1]:016x}',
        }  # fmt: skip
        with FileSystems.create(path) as file:
            file.write(json.dumps(content).encode())

    with beam.Pipeline(options=PipelineOptions([*options, '--pickle_library=cloudpickle'])) as pipeline:
        result = pipeline | ScanTable(request)
        total = (
            result.batches
            | 'Seen' >> beam.Map(seen)
            | 'All' >> beam.Map(lambda part: (0, part))
            | beam.GroupByKey()
            | 'Added' >> beam.MapTuple(lambda _, parts: added(parts))
        )
        _ = result.coverage | 'Report' >> beam.Map(write, total=beam.pvalue.AsSingleton(total), path=path)
    return json.loads(_read(path))


def write(out: str, options: list[str]) -> dict[str, Any]:
    """WriteToCassandra: 20,000 rows, read back by a plain query."""

    def rows(part: int) -> Iterator[dict[str, Any]]:
        for k in range(part * 1000, (part + 1) * 1000):
            yield {'k': k, 'v': f'value {k}', 'w': k / 4}

    with connections.session(CONNECTION) as session:
        session.execute(f'TRUNCATE {CONNECTION.keyspace}.written', timeout=60)
    with beam.Pipeline(options=PipelineOptions([*options, '--pickle_library=cloudpickle'])) as pipeline:
        _ = (
            pipeline
            | beam.Create(range(20))
            | beam.Reshuffle()
            | beam.FlatMap(rows)
            | WriteToCassandra(CONNECTION, 'written')
        )
    with connections.session(CONNECTION) as session:
        found = [tuple(row) for row in session.execute(f'SELECT k, v, w FROM {CONNECTION.keyspace}.written')]
    return {'rows': len(found), 'fingerprint': f'{digest(found):016x}'}


def join(out: str, options: list[str]) -> dict[str, Any]:
    """CassandraExampleGen: labels joined in time to a wide and a long view, both scanned."""
    return _generate(_join(), os.path.join(out, 'join'), options)


def _join() -> CassandraExampleGen:
    return CassandraExampleGen(
        CONNECTION, [READINGS, MEASURES], labels=LABELS, window=WINDOW, splits=SPLITS, page_rows=500, shards=2,
        join_plan='scan',
    )  # fmt: skip


def pivot(out: str, options: list[str]) -> dict[str, Any]:
    """CassandraExampleGen: a long view, whose rows are brought together by a pivot."""
    component = CassandraExampleGen(CONNECTION, MEASURES, window=WINDOW, splits=SPLITS, page_rows=500, shards=2)
    return _generate(component, os.path.join(out, 'pivot'), options)


def reduce(out: str, options: list[str]) -> dict[str, Any]:
    """ABEvaluator: requests and outcomes joined, tallied and decided."""
    arms = [Arm('control', 'm', '1700000000', 0.5), Arm('treatment', 'm', '1700000001', 0.5)]
    metric = Metric('brier', 'squared_error:late', better='lower')
    window = '2020-01-01T00:00Z/2020-01-02T00:00Z'
    component = ABEvaluator(CONNECTION, 'e', arms[0], arms[1:], window, metric, shards=8, splits=SPLITS)
    artifact = AbVerdict()
    artifact.uri = os.path.join(out, 'reduce')
    _run(component, {}, {'verdict': [artifact]}, options)
    verdict = _read(os.path.join(artifact.uri, 'verdict.json'))
    content = json.loads(verdict)
    rows = sum(int(arm['requests']) for arm in (content['control'], *content['treatments']))
    return {'rows': rows, 'fingerprint': hashlib.sha256(verdict).hexdigest()}


def retrieve(out: str, options: list[str]) -> dict[str, Any]:
    """CassandraFeatureRetrieval: examples of the pivot get what was known at their own time."""
    source, enriched = standard_artifacts.Examples(), standard_artifacts.Examples()
    source.uri, enriched.uri = os.environ['SOURCE'], os.path.join(out, 'retrieve')
    source.split_names = '["train", "eval"]'
    source.set_string_custom_property('payload_format', 'FORMAT_TF_EXAMPLE')
    component = CassandraFeatureRetrieval(
        channel_utils.as_channel([source]),
        CONNECTION,
        FeatureView('r', 'readings', ('sensor',), 'ts', ('a', 'b', 'c'), prefix='r_'),
        as_of='ts',
    )
    _run(component, {'source_examples': [source]}, {'examples': [enriched]}, options)
    statistics = json.loads(_read(os.path.join(enriched.uri, 'retrieval.json')))
    for split in statistics.values():
        split.pop('lookups')  # as many as batches, whose sizes follow the clock
    splits = _splits(enriched.uri)
    return {'rows': sum(split['examples'] for split in splits.values()), 'statistics': statistics, 'splits': splits}


def files(out: str, options: list[str]) -> dict[str, Any]:
    """The Beam part of the join by itself, with all its files in `out`, also of an object store or HDFS."""
    component = _join()
    config, splits = configs.from_properties(_stored(component))
    settings = resolve.windowed(config.training_set)
    tables = sources.describe(settings)
    uri = os.path.join(out, 'files')
    spooled = os.path.join(uri, SPOOL)
    with spool.spooling(lambda: beam.Pipeline(argv=options), spooled) as pipeline:
        now = datetime.datetime.now(datetime.timezone.utc)
        rows = (pipeline | ReadTrainingSet(settings, tables, (), now, spooled)).rows
        encoded = rows | EncodeExamples(tables.kinds, splits, settings.window, settings.sequences)
        _ = encoded.chunks | WriteChunks(splits.names, uri, config.shards, config.shuffle_seed)
    names = _names(uri)
    assert all('/Split-' in name for name in names), f'{names} left'
    found = _splits(uri)
    return {'rows': sum(split['examples'] for split in found.values()), 'splits': found}


def _generate(component: Any, uri: str, options: list[str]) -> dict[str, Any]:
    artifact = standard_artifacts.Examples()
    artifact.uri = uri
    _run(component, {}, {'examples': [artifact]}, options)
    coverage = json.loads(_read(os.path.join(uri, 'coverage.json')))
    splits = _splits(uri)
    checksum = sum(int(split['checksum'], 16) for split in splits.values()) % 2**64
    assert coverage['examples_checksum'] == f'{checksum:016x}', 'the files hold what coverage.json says'
    assert coverage['examples'] == {name: split['examples'] for name, split in splits.items()}
    result = {'rows': coverage['rows'], 'fingerprint': coverage['fingerprint'], 'splits': splits}
    if 'views' in coverage:
        audit = json.loads(_read(os.path.join(uri, 'audit.json')))
        result['audit'] = {name: value for name, value in audit.items() if name != 'labels_known_at'}
    return result


def _run(component: Any, inputs: dict, outputs: dict, options: list[str]) -> None:
    context = base_beam_executor.BaseBeamExecutor.Context(
        beam_pipeline_args=list(options), tmp_dir='tmp', unique_id='1'
    )
    component.executor_spec.executor_class(context).Do(inputs, outputs, _stored(component))
    left = [name for name in _names(next(iter(outputs.values()))[0].uri) if 'spool' in name]
    assert not left, f'{left} left'


def _stored(component: Any) -> dict[str, Any]:
    """Returns execution properties as an executor finds them."""
    return {
        name: proto_utils.proto_to_json(value) if isinstance(value, Message) else value
        for name, value in component.exec_properties.items()
        if value is not None
    }


def _splits(uri: str) -> dict[str, dict[str, Any]]:
    """Reads the TFRecords of each split without TensorFlow, and adds the examples' SHA-256 up."""
    splits: dict[str, dict[str, Any]] = {}
    for path in sorted(name for name in _names(uri) if name.endswith('.gz')):
        content, at = gzip.decompress(_read(path)), 0
        split = splits.setdefault(
            os.path.basename(os.path.dirname(path)).removeprefix('Split-'), {'examples': 0, 'sum': 0}
        )
        while at < len(content):
            (size,) = struct.unpack_from('<Q', content, at)
            record = content[at + 12 : at + 12 + size]
            split['examples'] += 1
            split['sum'] += int.from_bytes(hashlib.sha256(record).digest()[:8], 'big')
            at += size + 16
    return {
        name: {'examples': split['examples'], 'checksum': f'{split["sum"] % 2**64:016x}'}
        for name, split in splits.items()
    }


def _names(uri: str) -> list[str]:
    """Returns the paths of all files below a folder; Beam's HDFS matches one level of folders at a time, and them."""
    found = _matched(*(os.path.join(uri, *['*'] * depth) for depth in (1, 2)))
    folders = [path for path in found if os.path.basename(path).startswith('Split-')]
    return sorted(found | _matched(*(os.path.join(path, '*') for path in folders)))


def _matched(*patterns: str) -> set[str]:
    return {file.path for found in FileSystems.match(list(patterns)) for file in found.metadata_list}


def _read(path: str) -> bytes:
    with FileSystems.open(path, compression_type='auto' if not path.endswith('.gz') else 'uncompressed') as file:
        content: bytes = file.read()
    return content


PIPELINES: dict[str, Callable[[str, list[str]], dict[str, Any]]] = {
    'scan': scan, 'join': join, 'pivot': pivot, 'reduce': reduce, 'retrieve': retrieve, 'write': write,
    'files': files,
}  # fmt: skip

if __name__ == '__main__':
    end = sys.argv.index('--')
    folder, *names = sys.argv[1:end]
    for name in names:
        began = time.time()
        result = PIPELINES[name](folder, sys.argv[end + 1 :])
        print(json.dumps({'pipeline': name, 'times': [began, time.time()], **result}), flush=True)
