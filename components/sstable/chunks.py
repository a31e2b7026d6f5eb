"""The uncompressed bytes of a Data.db, in order, each chunk checked by its CRC and the whole file by its digest.

Layouts: org.apache.cassandra.io.compress.CompressionMetadata and the compressors beside it; io.util.ChecksumWriter.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import sys
from array import array
from collections.abc import Callable, Iterator
from typing import cast

import lz4.block
import pyarrow as pa
from isal import igzip_lib, isal_zlib

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable.files import Files, Ranges
from tfx_cassandra.components.sstable.statistics import Reader

_IsalError = cast(type[Exception], igzip_lib.IsalError)
_CODEC_ERRORS: tuple[type[Exception], ...] = (OSError, ValueError, lz4.block.LZ4BlockError, _IsalError)
_READ = 1 << 18  # bytes of a range that is read at once, about
_LARGEST = 1 << 28  # bytes of a chunk


@dataclasses.dataclass(frozen=True)
class Compression:
    """How a Data.db is cut into chunks.

    Attributes:
      codec: Cassandra's name of the compressor, without its package; None for no compression.
      chunk: Bytes of a chunk, uncompressed; the last may have fewer.
      stored: A chunk that would take as many bytes or more is stored uncompressed.
      size: Bytes of all chunks, uncompressed.
      offsets: Where each chunk starts in the file, and where the last one ends.
    """

    codec: str | None
    chunk: int
    stored: int
    size: int
    offsets: array[int]


def compression(files: Files) -> Compression:
    """Returns how the Data.db of an SSTable is cut into chunks; raises ReadError for damaged or unknown files."""
    data = files.ranges('Data.db').size
    if 'CompressionInfo.db' not in files:
        return Compression(None, *_plain(files, data))
    name = f'{files.name}-CompressionInfo.db'
    reader = Reader(files.content('CompressionInfo.db'), name)
    codec = reader.take(reader.number('H')).decode('utf-8', 'replace').rpartition('.')[2]
    if codec not in _CODECS:
        raise ReadError(f'{name}: got compressor {codec}, rule: one of {", ".join(_CODECS)}')
    for _ in range(2 * reader.number('i')):
        reader.take(reader.number('H'))
    chunk, stored, size, count = (reader.number(form) for form in 'iiqi')
    ends = array('q', reader.take(8 * count))  # of 8 bytes each: there are millions
    if sys.byteorder == 'little':
        ends.byteswap()
    wanted = -(-size // chunk) if 0 < chunk <= _LARGEST else -1
    # A chunk of no bytes may follow the last one.
    if not 0 <= wanted <= count <= wanted + 1:
        raise ReadError(f'{name}: got {count} chunks of {chunk} bytes for {size} bytes, rule: as many as they need')
    if count == wanted:
        ends.append(data)
    ordered = all(end - start >= 4 for start, end in itertools.pairwise(ends))  # four bytes are the CRC
    if not ordered or ends[0] or ends[-1] > data:
        raise ReadError(f'{name}: got chunks out of order, or behind byte {data}, rule: one after the other')
    return Compression(codec, chunk, stored, size, ends)


def _plain(files: Files, size: int) -> tuple[int, int, int, array[int]]:
    """Returns chunk, stored, size and offsets of an SSTable without compression."""
    chunk = Reader(files.content('CRC.db'), f'{files.name}-CRC.db').number('i')
    if not 0 < chunk <= _LARGEST:
        raise ReadError(f'{files.name}-CRC.db: got chunks of {chunk} bytes, rule: from 1 to {_LARGEST}')
    return chunk, 0, size, array('q', itertools.chain(range(0, size, chunk), [size]))


def uncompressed(
    files: Files, cut: Compression, file: Ranges | None = None, begin: int = 0, expected_end: int | None = None
) -> Iterator[bytes]:
    """Yields the uncompressed bytes of a Data.db from `begin` on, in order, some chunks at a time.

    The digest is only that of all of its bytes.

    Args:
      files: The SSTable.
      cut: How it is cut into chunks.
      file: What is read in place of its Data.db.
      begin: The first byte that is wanted, uncompressed.
      expected_end: The byte of the file where the caller probably ends: one read goes up to it and not much further;
        None for the end of the file.

    Raises:
      ReadError: The file is shorter than its other files say, or a CRC is not that of its bytes; at the end, the
        digest is not that of the file.
    """
    name, digest = f'{files.name}-Data.db', 0
    file = file or files.ranges('Data.db')
    until = file.size if expected_end is None else expected_end
    file = file.in_order(until)
    crcs = None if cut.codec else _plain_crcs(files, len(cut.offsets) - 1)
    first, last = begin // cut.chunk, len(cut.offsets) - 1
    skipped = begin % cut.chunk
    while first < last:
        end = first + 1
        while end < last and cut.offsets[end + 1] - cut.offsets[first] <= _READ:
            if cut.offsets[first] < until <= cut.offsets[end]:
                break
            end += 1
        start = cut.offsets[first]
        content = memoryview(_read(file, start, cut.offsets[end] - start, name))
        digest = isal_zlib.crc32(content, digest)
        parts = []
        for i in range(first, end):
            chunk = content[cut.offsets[i] - start : cut.offsets[i + 1] - start]
            size = min(cut.chunk, cut.size - i * cut.chunk)
            try:
                parts.append(_chunk(chunk, size, cut, None if crcs is None else crcs[i]))
            except _CODEC_ERRORS as error:
                raise ReadError(
                    f'{name}: got a chunk at byte {cut.offsets[i]} with {error}, rule: undamaged'
                ) from error
        yield b''.join(parts)[skipped:]
        first, skipped = end, 0
    if not begin:
        _check_digest(files, cut, digest)


def _chunk(content: memoryview, size: int, cut: Compression, crc: int | None) -> bytes | memoryview:
    """Returns the uncompressed bytes of a chunk; `crc` is that of a file without compression, where it is elsewhere."""
    if crc is None:
        crc, content = int.from_bytes(content[-4:], 'big'), content[:-4]
    if isal_zlib.crc32(content) != crc:
        raise ValueError('a CRC that is not its own')
    stored = cut.codec is None or len(content) >= cut.stored
    found = content if stored else _CODECS[str(cut.codec)](content, size)
    if len(found) != size:
        raise ValueError(f'{len(found)} bytes where {size} belong')
    return found


def _read(file: Ranges, start: int, length: int, name: str) -> bytes:
    content = file.read(start, length)
    if len(content) != length:
        raise ReadError(f'{name}: got an end at byte {start + len(content)}, rule: its other files name more bytes')
    return content


def _plain_crcs(files: Files, count: int) -> list[int]:
    reader = Reader(files.content('CRC.db'), f'{files.name}-CRC.db')
    reader.take(4)
    return [crc for (crc,) in reader.numbers('I', count)]


def _check_digest(files: Files, cut: Compression, crc: int) -> None:
    text = files.content('Digest.crc32').decode('ascii', 'replace').strip()
    rest = files.ranges('Data.db').size - cut.offsets[-1]
    crc = isal_zlib.crc32(files.ranges('Data.db').read(cut.offsets[-1], rest), crc)
    if not re.fullmatch('[0-9]+', text) or int(text) != crc:
        raise ReadError(f'{files.name}-Digest.crc32: got {text!r}, rule: {crc}, the CRC of the Data.db')


def _lz4(content: memoryview, size: int) -> bytes:
    if int.from_bytes(content[:4], 'little') != size:
        raise ValueError('another length before it')
    return lz4.block.decompress(content[4:], uncompressed_size=size)


def _arrow(name: str) -> Callable[[memoryview, int], bytes]:
    codec = pa.Codec(name)
    return lambda content, size: codec.decompress(content, size, asbytes=True)


_CODECS: dict[str, Callable[[memoryview, int], bytes]] = {
    'LZ4Compressor': _lz4,
    'SnappyCompressor': _arrow('snappy'),
    'ZstdCompressor': _arrow('zstd'),
    'NoopCompressor': lambda content, size: bytes(content),
    'DeflateCompressor': lambda content, size: isal_zlib.decompress(content, bufsize=max(size, 1)),
}
