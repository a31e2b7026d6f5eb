"""Rows -> batches: blocks of rows are held, each is permuted as a whole, and cut into batches.

A row leaves in the block in which it was read, so a block is what bounds both memory and how well rows are shuffled.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.torch.interleave import Interleave, Place
from tfx_cassandra.components.torch.shares import generator


class Batch(NamedTuple):
    """A batch, and the position behind it.

    Attributes:
      rows: The batch.
      dropped: Whether it is too small and not to be given away.
      number: The block that continues, from 0.
      place: Where that block begins.
      batches: Batches taken of it so far.
      units: Number of units that had been finished before it.
      block: The rows of that block, not permuted; None if nothing was taken of it.
    """

    rows: pa.RecordBatch
    dropped: bool
    number: int
    place: Place
    batches: int
    units: int
    block: pa.Table | None


class Start(NamedTuple):
    """Where to begin: a block's number, batches to skip of it, and the crc of its rows, or None."""

    number: int = 0
    batches: int = 0
    crc: int | None = None


BEGINNING = Start()


def batches(
    rows: Interleave, batch_rows: int, shuffle_rows: int, seed: tuple[int, ...] | None, start: Start, drop_last: bool
) -> Iterator[Batch]:
    """Yields the batches of a share.

    Args:
      rows: Its rows.
      batch_rows: Rows of a batch; the last one has fewer.
      shuffle_rows: Rows that are permuted together, rounded up to whole batches.
      seed: Of the permutations; None to keep the order of the rows.
      start: Where to begin.
      drop_last: Whether to drop a last batch with fewer rows.

    Raises:
      DatasetError: The rows of the block to continue in are not those that the state was saved with.
    """
    size = -(-max(batch_rows, shuffle_rows if seed is not None else 0) // batch_rows) * batch_rows
    number, skip, crc = start
    place, finished = rows.place, len(rows.done)
    while taken := rows.take(size):
        block = pa.Table.from_batches(taken).combine_chunks()
        if crc is not None and crc != content_crc(block):
            rule = 'the rows that were there when the state was saved (a window of the past, or as_of, has them)'
            raise DatasetError(f'state: got other rows in the ranges that it continues in, rule: {rule}')
        mixed = block
        if seed is not None:
            mixed = block.take(pa.array(generator(*seed, number).permutation(block.num_rows)))
        count = -(-block.num_rows // batch_rows)
        for i in range(skip, count):
            batch = one(mixed.slice(i * batch_rows, batch_rows))
            dropped = drop_last and batch.num_rows < batch_rows
            if i + 1 < count:
                yield Batch(batch, dropped, number, place, i + 1, finished, block)
            else:
                yield Batch(batch, dropped, number + 1, rows.place, 0, len(rows.done), None)
        number, place, finished, skip, crc = number + 1, rows.place, len(rows.done), 0, None


def one(table: pa.Table) -> pa.RecordBatch:
    """Returns a table as one record batch."""
    found = table.combine_chunks().to_batches()
    if len(found) > 1:
        raise DatasetError(
            f'shuffle_rows: got a batch of {len(found)} pieces, rule: less than 2 GiB of text in a block'
        )
    return found[0]


def content_crc(rows: pa.Table) -> int:
    """Returns a CRC-32 of the values of a table, whatever buffers they stand in."""
    crc = 0
    for column in rows.columns:
        for chunk in column.chunks:
            crc = _crc(chunk, crc)
    return crc


def _crc(array: pa.Array, crc: int) -> int:
    kind, crc = array.type, zlib.crc32(str(len(array)).encode(), crc)
    crc = zlib.crc32(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes(), crc)
    if pa.types.is_list(kind):
        lengths = pc.list_value_length(array).fill_null(0).to_numpy()
        return _crc(array.flatten(), zlib.crc32(lengths.tobytes(), crc))
    present = array.drop_null()
    if pa.types.is_fixed_size_list(kind):
        return _crc(present.flatten(), crc)
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _text_crc(present, crc)
    if pa.types.is_boolean(kind):
        return zlib.crc32(np.packbits(present.to_numpy(zero_copy_only=False)).tobytes(), crc)
    if pa.types.is_primitive(kind):
        integers = present.view({8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width])
        return zlib.crc32(np.ascontiguousarray(integers.to_numpy()).tobytes(), crc)
    return crc  # maps and structs, which tensors cannot hold: a transform has to replace them


def _text_crc(texts: pa.Array, crc: int) -> int:
    if not len(texts):
        return crc
    _, offsets, content = texts.buffers()
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    crc = zlib.crc32(np.diff(ends).tobytes(), crc)
    return zlib.crc32(memoryview(content or b'')[ends[0] : ends[-1]], crc)
