"""Record batches -> tf.Examples -> shuffled, gzipped TFRecord files, one folder a split.

    batch  -> framed tf.Examples -> one chunk a split, gzipped      (in the worker that read it)
           -> appended to the worker's spool file; a Piece says where it stands
    pieces -> shards, by a hash -> data_tfrecord-00000-of-00002.gz: the shard's pieces in the order of their hashes

So what goes through Beam is a few numbers a chunk, and memory does not grow with the data. Gzip members may follow one
another in a file, so a shard is put together by copying bytes: TensorFlow, Beam and zcat read it as one stream.

The shuffle is of chunks, within and across files; rows of a chunk, which are those of one page, stay together in the
table's order. The seed and the chunks decide the order, so the same chunks give the same files, byte for byte.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tfx_cassandra.components.dataset.files.encode import encode
from tfx_cassandra.components.dataset.files.examples import Kind, compressed
from tfx_cassandra.components.dataset.files.split import Splits, assign, key_of
from tfx_cassandra.components.dataset.files.spool import Place, SpoolFile, clean, make_folder, read
from tfx_cassandra.components.window import TimeWindow

SPOOL = 'spool'  # folder beside the splits, gone when the files are complete
SHARD_BYTES = 32 << 20  # of a gzipped file, where the number of files is not given


class Piece(NamedTuple):
    """A gzipped chunk of a split in a spool file.

    Attributes:
      split: Name of the split.
      order: 64-bit hash of seed and content: the place among the split's chunks.
      place: Where the chunk stands.
      examples: Number of examples in it.
      checksum: Of the examples, as `Framed.checksum` gives it, in hexadecimal: more than Beam's integers hold.
    """

    split: str
    order: int
    place: Place
    examples: int
    checksum: str = '0'


class Written(NamedTuple):
    """What `WriteExamples` gives: (split, number of examples), and one checksum of all of them in hexadecimal.

    The checksum is the sum over the examples of the first 64 bits of each one's SHA-256, modulo 2^64.
    """

    counts: beam.PCollection
    checksum: beam.PCollection


class Encoded(NamedTuple):
    """What `EncodeExamples` gives: Chunks; and (feature, how many of its values are infinite because they are beyond a
    32-bit float), for those that have any.
    """

    chunks: beam.PCollection
    overflows: beam.PCollection


class Chunk(NamedTuple):
    """Framed tf.Examples of one split: the frames, how many, and their checksum (see Written)."""

    split: str
    frames: bytes
    examples: int
    checksum: int


class WriteExamples(beam.PTransform):
    """Writes record batches as TFRecords of tf.Example, one folder a split; gives what it has Written.

    Args:
      kinds: Kind of each feature, by column name.
      splits: Which example belongs to which split.
      uri: Folder that the splits' folders are made in; all workers must reach it.
      shards: Files of a split; None for one per 32 MB.
      seed: Of the shuffle.
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
        return (batches | 'Encode' >> self._encode).chunks | 'Write' >> self._write


class EncodeExamples(beam.PTransform):
    """Encodes record batches as framed tf.Examples of their splits; gives Encoded. The arguments: see WriteExamples."""

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


class WriteChunks(beam.PTransform):
    """Writes Chunks as TFRecords, one folder a split; gives what it has Written. The arguments: see WriteExamples."""

    def __init__(self, names: Sequence[str], uri: str, shards: int | None = None, seed: int = 0) -> None:
        super().__init__()
        self._names, self._uri, self._shards, self._seed = list(names), uri, shards, seed

    def expand(self, chunks: beam.PCollection) -> Written:
        pieces = chunks | 'Spool' >> beam.ParDo(_Spool(self._uri, self._seed))
        counts = pieces | 'Examples' >> beam.Map(lambda piece: (piece.split, piece.examples)) | 'Count' >> _sum()
        sizes = pieces | 'Bytes' >> beam.Map(lambda piece: (piece.split, piece.place.size)) | 'Size' >> _sum()
        checksums = pieces | 'Checksums' >> beam.Map(lambda piece: piece.checksum)
        checksum = checksums | 'Checksum' >> beam.CombineGlobally(_summed)
        every = beam.pvalue.AsDict(sizes)
        names = chunks.pipeline | 'Names' >> beam.Create(self._names)
        # A file without pieces is written too, so that each split has its files.
        empty = names | 'Files' >> beam.FlatMap(_files, shards=self._shards, sizes=every)
        sharded = pieces | 'Shard' >> beam.Map(_sharded, shards=self._shards, sizes=every)
        written = (
            (sharded, empty) | beam.Flatten() | 'Gather' >> beam.GroupByKey() | 'Write' >> beam.Map(_write, self._uri)
        )
        _ = written | 'Written' >> beam.combiners.ToList() | 'Clean' >> beam.Map(_clean, self._uri)
        return Written(counts, checksum)


def _summed(checksums: Iterable[str]) -> str:
    return f'{sum(int(checksum, 16) for checksum in checksums) % 2**64:016x}'


def _sum() -> beam.CombinePerKey:
    return beam.CombinePerKey(sum)  # type: ignore[arg-type]


class _Encode(beam.DoFn):
    """Encodes batches and splits them; gives Chunks, and on 'overflows' (feature, number of its infinite values)."""

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
        for of_feature in framed.overflows.items():
            yield beam.pvalue.TaggedOutput('overflows', of_feature)


class _Spool(beam.DoFn):
    """Compresses chunks into a spool file of the bundle; gives the Pieces."""

    def __init__(self, uri: str, seed: int) -> None:
        self._folder, self._seed = os.path.join(uri, SPOOL), seed
        self._file = SpoolFile(self._folder)

    def start_bundle(self) -> None:
        self._file.close()  # that of a bundle which failed
        self._file = SpoolFile(self._folder)

    def process(self, chunk: Chunk) -> Iterator[Piece]:
        if chunk.examples:
            gzipped = compressed(chunk.frames)
            place = self._file.append(gzipped)
            shuffled = order(self._seed, chunk.frames, gzipped)
            yield Piece(chunk.split, shuffled, place, chunk.examples, f'{chunk.checksum:x}')

    def finish_bundle(self) -> None:
        self._file.close()

    def teardown(self) -> None:
        self._file.close()  # that of a bundle which failed


def order(seed: int, chunk: bytes, gzipped: bytes) -> int:
    """Returns the place of a chunk in the shuffle: 64 bits of a hash of the seed and what tells the chunk apart.

    That is its first example's beginning and the CRC-32 and size of it all, with which a gzip member ends.
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


def _write(gathered: tuple[tuple[str, int, int], Iterable[Piece | None]], uri: str) -> str:
    """Writes one file: its pieces in the shuffle's order, under a temporary name until it is complete."""
    (split, shard, count), pieces = gathered
    path = os.path.join(uri, f'Split-{split}', f'data_tfrecord-{shard:05d}-of-{count:05d}.gz')
    spooled = os.path.join(uri, SPOOL, f'{split}-{shard}-{uuid.uuid4().hex}')
    for folder in (os.path.dirname(path), os.path.dirname(spooled)):
        make_folder(folder)
    ordered = [piece for piece in pieces if piece is not None]
    ordered.sort(key=lambda piece: (piece.order, piece.place.size))
    with FileSystems.create(spooled, compression_type=CompressionTypes.UNCOMPRESSED) as target:
        for gzipped in read(piece.place for piece in ordered):
            target.write(gzipped)
        if not ordered:
            target.write(compressed(b''))
    FileSystems.rename([spooled], [path])
    return path


def _clean(written: list[str], uri: str) -> None:
    clean(os.path.join(uri, SPOOL))
