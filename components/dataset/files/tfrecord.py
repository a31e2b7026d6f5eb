"""Record batches -> tf.Examples -> shuffled, gzipped TFRecord files, one folder a split.

    batch  -> framed tf.Examples -> one gzipped chunk per split     (in the worker that read it)
           -> appended to the worker's spool file; a Piece holds its place
    pieces -> shards, by a hash -> a file in the spool: the shard's pieces in the order of their hashes
    files  -> checked against the pieces, then renamed to data_tfrecord-00000-of-00002.gz

Only a few numbers per chunk go through Beam, so memory does not grow with the data. Gzip members can be concatenated,
so a shard is written by copying bytes: TensorFlow, Beam and zcat read it as one stream.

Chunks are shuffled within and across files; the rows of a chunk, which are those of one page, stay in the table's
order. The order depends on the seed and the chunks alone, so the same chunks give the same files, byte for byte.

A runner may repeat any of this; commit.py says why that changes nothing.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tfx_cassandra.components.dataset.files.commit import PREFIX, Attempt, commit, sum_checksums
from tfx_cassandra.components.dataset.files.encode import encode
from tfx_cassandra.components.dataset.files.examples import Kind, compressed
from tfx_cassandra.components.dataset.files.split import Splits, assign, key_of
from tfx_cassandra.components.dataset.files.spool import Place, Spooling, check_reachable, read
from tfx_cassandra.components.window import TimeWindow

SPOOL = 'spool'  # folder next to the splits, removed when the files are complete
SHARD_BYTES = 32 << 20  # of a gzipped file, if the number of files is not given


class Piece(NamedTuple):
    """A gzipped chunk of a split in a spool file.

    Attributes:
      split: Name of the split.
      order: 64-bit hash of seed and content: the sort key among the split's chunks.
      place: Where the chunk is spooled.
      examples: Number of examples.
      checksum: Checksum of the examples in hexadecimal (see Written), since Beam's integers cannot hold it.
    """

    split: str
    order: int
    place: Place
    examples: int
    checksum: str = '0'


class Written(NamedTuple):
    """The result of `WriteExamples`: (split, number of examples), and the checksum of all examples in hexadecimal.

    Both are there when the files are in their places.

    The checksum is the sum over the examples of the first 64 bits of each one's SHA-256, modulo 2^64.
    """

    counts: beam.PCollection
    checksum: beam.PCollection


class Encoded(NamedTuple):
    """The result of `EncodeExamples`: Chunks, and (feature, number of values that exceed a 32-bit float), if any.

    Such values are infinite in the examples.
    """

    chunks: beam.PCollection
    overflows: beam.PCollection


class Chunk(NamedTuple):
    """Framed tf.Examples of one split: the frames, their number and their checksum (see Written)."""

    split: str
    frames: bytes
    examples: int
    checksum: int


class WriteExamples(beam.PTransform[Any, Any]):
    """Writes record batches as TFRecords of tf.Example, one folder per split; returns Written.

    Args:
      kinds: Kind of each feature, by column name.
      splits: The rule by which examples are assigned to splits.
      uri: Folder for the splits' folders, which all workers must reach.
      shards: Number of files of a split; None for one per 32 MB.
      seed: Seed of the shuffle.
      window: The window of all examples, for splits by time.
      sequences: Names of columns of lists; with any, the records are tf.SequenceExamples: see encode.
    """

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        splits: Splits,
        uri: str,
        shards: int | None = None,
        seed: int = 0,
        window: TimeWindow | None = None,
        sequences: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._encode = EncodeExamples(kinds, splits, window, sequences)
        self._write = WriteChunks(splits.names, uri, shards, seed)

    def expand(self, batches: beam.PCollection) -> Written:
        written: Written = (batches | 'Encode' >> self._encode).chunks | 'Write' >> self._write
        return written


class EncodeExamples(beam.PTransform[Any, Any]):
    """Encodes record batches as framed tf.Examples of their splits; returns Encoded. See WriteExamples."""

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        splits: Splits,
        window: TimeWindow | None = None,
        sequences: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._encode = _Encode(kinds, splits, window, sequences)

    def expand(self, batches: beam.PCollection) -> Encoded:
        encoded = batches | 'Encode' >> beam.ParDo(self._encode).with_outputs('overflows', main='chunks')
        return Encoded(encoded.chunks, encoded.overflows | 'Overflows' >> _sum())


class WriteChunks(beam.PTransform[Any, Any]):
    """Writes Chunks as TFRecords, one folder per split; returns Written. See WriteExamples."""

    def __init__(self, names: Sequence[str], uri: str, shards: int | None = None, seed: int = 0) -> None:
        super().__init__()
        self._names, self._uri, self._shards, self._seed = list(names), uri, shards, seed

    def expand(self, chunks: beam.PCollection) -> Written:
        pieces = chunks | 'Spool' >> beam.ParDo(_Spool(os.path.join(self._uri, SPOOL), self._seed))
        sizes = pieces | 'Bytes' >> beam.Map(lambda piece: (piece.split, piece.place.size)) | 'Size' >> _sum()
        split_sizes = beam.pvalue.AsDict(sizes)
        names = chunks.pipeline | 'Names' >> beam.Create(self._names)
        # A file without pieces is written too, so that each split has its files.
        empty = names | 'Files' >> beam.FlatMap(_files, shards=self._shards, sizes=split_sizes)
        sharded = pieces | 'Shard' >> beam.Map(_sharded, shards=self._shards, sizes=split_sizes)
        attempts = (
            (sharded, empty) | beam.Flatten() | 'Gather' >> beam.GroupByKey() | 'Write' >> beam.ParDo(_Write(self._uri))
        )
        committed = (
            attempts
            | 'Written' >> beam.combiners.ToList()
            | 'Commit'
            >> beam.ParDo(
                commit,
                counts=beam.pvalue.AsDict(_counts('Encoded', pieces)),
                checksum=beam.pvalue.AsSingleton(_checksum('Encoded', pieces)),
            )
        )
        counts = _counts('Committed', committed) | 'NotEmpty' >> beam.Filter(lambda count: count[1] > 0)
        return Written(counts, _checksum('Committed', committed))


def _counts(label: str, parts: beam.PCollection) -> beam.PCollection:
    """Adds up (split, examples) of Pieces or Attempts."""
    return parts | f'{label}Examples' >> beam.Map(lambda part: (part.split, part.examples)) | f'{label}Count' >> _sum()


def _checksum(label: str, parts: beam.PCollection) -> beam.PCollection:
    """Adds up the checksums of Pieces or Attempts."""
    checksums = parts | f'{label}Checksums' >> beam.Map(lambda part: part.checksum)
    return checksums | f'{label}Checksum' >> beam.CombineGlobally(sum_checksums)


def _sum() -> beam.CombinePerKey:
    return beam.CombinePerKey(sum)  # type: ignore[arg-type]


class _Encode(beam.DoFn):
    """Encodes and splits batches; yields Chunks, and on output 'overflows' (feature, number of infinite values)."""

    def __init__(
        self, kinds: Mapping[str, Kind], splits: Splits, window: TimeWindow | None, sequences: Sequence[str]
    ) -> None:
        self._kinds, self._splits, self._window, self._sequences = kinds, splits, window, tuple(sequences)

    def process(self, batch: pa.RecordBatch) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
        framed = encode(batch, self._kinds, key_of(self._splits), self._sequences)
        assigned = assign(self._splits, batch, framed, self._kinds, self._window)
        names = self._splits.names
        count = len(names)
        parts = zip(
            names,
            framed.parts_by(assigned, count),
            framed.counts_by(assigned, count),
            framed.checksums_by(assigned, count),
            strict=True,
        )
        for part in parts:
            yield Chunk(*part)
        for overflow in framed.overflows.items():
            yield beam.pvalue.TaggedOutput('overflows', overflow)


class _Spool(Spooling):
    """Compresses chunks into the bundle's spool file; yields Pieces."""

    def __init__(self, folder: str, seed: int) -> None:
        super().__init__(folder)
        self._seed = seed

    def process(self, chunk: Chunk) -> Iterator[Piece]:
        if chunk.examples:
            gzipped = compressed(chunk.frames)
            place = self._file.append(gzipped)
            sort_key = order(self._seed, chunk.frames, gzipped)
            yield Piece(chunk.split, sort_key, place, chunk.examples, f'{chunk.checksum:x}')


def order(seed: int, chunk: bytes, gzipped: bytes) -> int:
    """Returns the sort key of a chunk in the shuffle: a 64-bit hash of the seed and of what identifies the chunk.

    That is the beginning of its first example, and the CRC-32 and size of the chunk, with which a gzip member ends.
    """
    content = seed.to_bytes(8, 'little', signed=True) + chunk[:256] + gzipped[-8:]
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), 'little')


def _count(split: str, shards: int | None, sizes: Mapping[str, int]) -> int:
    return shards or max(1, -(-sizes.get(split, 0) // SHARD_BYTES))


def _files(split: str, shards: int | None, sizes: Mapping[str, int]) -> Iterator[tuple[tuple[str, int, int], None]]:
    count = _count(split, shards, sizes)
    return (((split, shard, count), None) for shard in range(count))


def _sharded(piece: Piece, shards: int | None, sizes: Mapping[str, int]) -> tuple[tuple[str, int, int], Piece]:
    count = _count(piece.split, shards, sizes)
    return (piece.split, piece.order % count, count), piece


class _Write(beam.DoFn):
    """((split, shard, shards), its pieces) -> an Attempt: the pieces in shuffled order in a file of the spool."""

    def __init__(self, uri: str) -> None:
        self._uri, self._spool = uri, os.path.join(uri, SPOOL)

    def setup(self) -> None:
        check_reachable(self._spool)

    def process(self, gathered: tuple[tuple[str, int, int], Iterable[Piece | None]]) -> Iterator[Attempt]:
        (split, shard, count), pieces = gathered
        path = os.path.join(self._uri, f'Split-{split}', f'{PREFIX}{shard:05d}-of-{count:05d}.gz')
        temporary = os.path.join(self._spool, f'{split}-{shard}-{uuid.uuid4().hex}')
        ordered = [piece for piece in pieces if piece is not None]
        ordered.sort(key=lambda piece: (piece.order, piece.place.size))
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as target:
            for gzipped in read(piece.place for piece in ordered):
                target.write(gzipped)
            if not ordered:
                target.write(compressed(b''))
        examples, checksum = sum(piece.examples for piece in ordered), (piece.checksum for piece in ordered)
        yield Attempt(split, temporary, path, examples, sum_checksums(checksum))
