"""WriteExamples: every example is written once, in its split, readable by other tools; and well shuffled."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import pathlib
import resource
import statistics
import subprocess
from collections.abc import Sequence

import apache_beam as beam
import pyarrow as pa
import pytest
import slow_examples
import tensorflow as tf
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from tfx_cassandra.components.dataset.files import commit, examples, spool, tfrecord
from tfx_cassandra.components.dataset.files.split import HashSplits
from tfx_cassandra.components.dataset.files.tfrecord import WriteExamples

KINDS: dict[str, examples.Kind] = {'n': 'int64_list', 'name': 'bytes_list'}
SPLITS = HashSplits((('train', 2), ('eval', 1)))
CHUNKS, ROWS = 40, 50


def batches(chunks: int = CHUNKS) -> list[pa.RecordBatch]:
    """Batches of consecutive numbers, as a scan gives pages of the ring."""
    return [
        pa.RecordBatch.from_pydict({'n': range(i, i + ROWS), 'name': [f'name {n}' for n in range(i, i + ROWS)]})
        for i in range(0, chunks * ROWS, ROWS)
    ]


def written(folder: pathlib.Path, given: Sequence[pa.RecordBatch], **options: int) -> dict[str, list[int]]:
    """Writes batches and returns the numbers in the order of the files, by split."""
    with spool.spooling(TestPipeline, str(folder / tfrecord.SPOOL)) as pipeline:
        counts, checksum = pipeline | beam.Create(given) | WriteExamples(KINDS, SPLITS, str(folder), **options)
        expected = [list(SPLITS.assign(slow_examples.encode(batch, KINDS))) for batch in given]
        totals = [(name, sum(s.count(i) for s in expected)) for i, name in enumerate(SPLITS.names)]
        assert_that(counts, equal_to([total for total in totals if total[1]]))
        hashes = [
            hashlib.sha256(record).digest()[:8] for batch in given for record in slow_examples.encode(batch, KINDS)
        ]
        total = sum(int.from_bytes(record, 'big') for record in hashes) % 2**64
        assert_that(checksum, equal_to([f'{total:016x}']), 'checksum')
    return {name: numbers(folder / f'Split-{name}') for name in SPLITS.names}


def numbers(folder: pathlib.Path) -> list[int]:
    files = sorted(map(str, folder.iterdir()))
    records = tf.data.TFRecordDataset(files, compression_type='GZIP').as_numpy_iterator()
    return [tf.train.Example.FromString(record).features.feature['n'].int64_list.value[0] for record in records]


def content(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob('*')) if path.is_file()}


def test_every_example_once_in_the_split_of_tfx(tmp_path: pathlib.Path) -> None:
    got = written(tmp_path, batches())
    expected: dict[str, list[int]] = {'train': [], 'eval': []}
    for batch in batches():
        assigned = SPLITS.assign(slow_examples.encode(batch, KINDS))
        for n, split in zip(batch.column(0).to_pylist(), assigned, strict=True):
            expected[SPLITS.names[split]].append(n)
    assert {name: sorted(values) for name, values in got.items()} == expected


def test_the_files_are_tfx_s_and_nothing_else_is_left(tmp_path: pathlib.Path) -> None:
    written(tmp_path, batches(), shards=3)
    assert sorted(content(tmp_path)) == [
        f'Split-{split}/data_tfrecord-{i:05d}-of-00003.gz' for split in ('eval', 'train') for i in range(3)
    ]
    assert not (tmp_path / tfrecord.SPOOL).exists()


def test_the_files_of_an_earlier_attempt_of_the_step_are_removed(tmp_path: pathlib.Path) -> None:
    first = written(tmp_path, batches(), shards=1)
    second = written(tmp_path, batches(), shards=3)
    assert {name: sorted(got) for name, got in second.items()} == {name: sorted(got) for name, got in first.items()}
    assert sorted(content(tmp_path)) == [
        f'Split-{split}/data_tfrecord-{i:05d}-of-00003.gz' for split in ('eval', 'train') for i in range(3)
    ]


def test_a_split_without_examples_has_an_empty_file(tmp_path: pathlib.Path) -> None:
    assert written(tmp_path, [], shards=1) == {'train': [], 'eval': []}
    assert gzip.decompress((tmp_path / 'Split-eval' / 'data_tfrecord-00000-of-00001.gz').read_bytes()) == b''


def test_other_tools_read_the_members_as_one_stream(tmp_path: pathlib.Path) -> None:
    written(tmp_path, batches(), shards=1)
    path = tmp_path / 'Split-train' / 'data_tfrecord-00000-of-00001.gz'
    plain = gzip.decompress(path.read_bytes())
    assert subprocess.run(['zcat', path], capture_output=True, check=True).stdout == plain
    expected = list(tf.data.TFRecordDataset(str(path), compression_type='GZIP').as_numpy_iterator())
    assert len(expected) > CHUNKS
    with TestPipeline() as pipeline:
        assert_that(pipeline | beam.io.ReadFromTFRecord(str(path)), equal_to(expected))


def test_the_same_seed_and_chunks_give_the_same_bytes(tmp_path: pathlib.Path) -> None:
    for name, given, seed in (('one', batches(), 0), ('two', batches()[::-1], 0), ('three', batches(), 1)):
        written(tmp_path / name, given, shards=2, seed=seed)
    assert content(tmp_path / 'one') == content(tmp_path / 'two')
    assert content(tmp_path / 'one') != content(tmp_path / 'three')


def test_the_number_of_files_grows_with_the_data(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tfrecord, 'SHARD_BYTES', 2000)
    written(tmp_path, batches())
    assert len(list((tmp_path / 'Split-train').iterdir())) > len(list((tmp_path / 'Split-eval').iterdir())) > 1


@pytest.mark.slow
def test_the_shuffle_leaves_no_trace_of_the_order_of_the_chunks(tmp_path: pathlib.Path) -> None:
    given = batches(400)
    got = written(tmp_path, given, shards=4)['train']
    assert sorted(got) != got
    chunks = [n // ROWS for n in got]
    runs = [chunk for i, chunk in enumerate(chunks) if i == 0 or chunks[i - 1] != chunk]
    assert len(runs) == len(set(runs)), 'rows of a chunk stay together'
    # 3 standard errors of the rank correlation of 400 independent places.
    assert abs(statistics.correlation(list(range(len(runs))), runs)) < 3 / len(runs) ** 0.5
    in_ring_order = sum(b - a == 1 for a, b in itertools.pairwise(runs))
    assert in_ring_order < 6  # 1 is expected by chance


def test_more_bundles_than_files_may_be_open(tmp_path: pathlib.Path) -> None:
    bundles, pieces = 120, []
    for number in range(bundles):
        spooling = tfrecord._Spool(str(tmp_path / tfrecord.SPOOL), seed=0)
        spooling.start_bundle()
        frames = slow_examples.framed(slow_examples.encode(batches(1)[0].slice(number % ROWS, 1), KINDS))
        pieces += spooling.process(tfrecord.Chunk('train', frames, 1, number))
        spooling.finish_bundle()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir('/proc/self/fd'))) + 40, hard))
    try:
        (attempt,) = tfrecord._Write(str(tmp_path)).process((('train', 0, 1), pieces))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    list(commit.commit([attempt], {'train': bundles}, attempt.checksum))
    assert sorted(numbers(pathlib.Path(attempt.path).parent)) == sorted(number % ROWS for number in range(bundles))
