"""TFRecord files of tf.Examples -> records: each feature is a list of its values, as convert.py takes them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tfx_cassandra.components.errors import InputError
from tfx_cassandra.components.ingest.inputs import Stream
from tfx_cassandra.components.ingest.records import START, Broken, Position, Records

BLOCK = 2 << 20  # bytes that are read at once
_MOST_BYTES = 64 << 20  # of a record
_FRAME = 16  # bytes of a record besides its content: its length, and two checksums


class ExampleReader:
    """Reads the records of a TFRecord file.

    Attributes:
      fields: None: each record has its own.
    """

    fields = None

    def __init__(self, path: str, stream: Stream) -> None:
        self._path, self._stream = path, stream

    def read(self, wanted: Sequence[str], start: Position = START, others: bool = True) -> Iterator[Records]:
        """Yields the records behind a place that an earlier run has reached.

        Args:
          wanted: The features wanted; a record without one has no value.
          start: The place.
          others: Whether a record may have other features.

        Raises:
          InputError: The file is damaged: a checksum is wrong, or it ends within a record.
        """
        self._stream.skip(start.offset)
        at, rest, ended = start, b'', False
        while not ended:
            data = self._stream.take(BLOCK)
            ended = not data
            rest += data
            examples, used = self._unframed(rest, at.records)
            rest = rest[used:]
            if examples:
                numbers = at.records + 1 + np.arange(len(examples))
                at = Position(at.records + len(examples), 0, at.offset + used)
                columns, broken = decoded(examples, numbers, wanted, others)
                fits = ~np.isin(numbers, [record.record for record in broken])
                yield Records(columns, numbers[fits], None, broken, at, self._stream.share)
        if rest:
            rule = f'a whole TFRecord file; it ends {len(rest):,} bytes into a record'
            raise InputError(f'{self._path}: row {at.records + 1}: got the end of the file, rule: {rule}')

    def _unframed(self, data: bytes, before: int) -> tuple[list[bytes], int]:
        """Returns the contents of the whole records at the beginning of some bytes, and how many bytes they take."""
        import google_crc32c

        found: list[bytes] = []
        at = 0
        while at + _FRAME <= len(data):
            size, of_size = struct.unpack_from('<QI', data, at)
            if _masked(google_crc32c.value(data[at : at + 8])) != of_size or size > _MOST_BYTES:
                raise self._damaged(before + len(found), 'length')
            end = at + 12 + size
            if end + 4 > len(data):
                break
            content = data[at + 12 : end]
            if _masked(google_crc32c.value(content)) != int.from_bytes(data[end : end + 4], 'little'):
                raise self._damaged(before + len(found), 'content')
            found.append(content)
            at = end + 4
        return found, at

    def _damaged(self, before: int, part: str) -> InputError:
        return InputError(f'{self._path}: row {before + 1}: got a {part} with another checksum, rule: a TFRecord file')


def _masked(checksum: int) -> int:
    """Returns a CRC-32C as TFRecord files have it."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def decoded(
    examples: list[bytes], numbers: NDArray[Any], wanted: Sequence[str], others: bool
) -> tuple[dict[str, Any], list[Broken]]:
    """Decodes serialized tf.Examples.

    Args:
      examples: The examples.
      numbers: The number of each in its file, from 1; shape (examples).
      wanted: The features wanted.
      others: Whether an example may have other features.

    Returns:
      (columns, broken): of each wanted feature a list of values by example, without the broken ones; and those.

    Raises:
      InputError: An example has other features.
    """
    from tfx_cassandra.components.dataset.files.decode import decode

    broken: list[Broken] = []
    try:
        batch, _ = decode(examples)
    except Exception:  # of tfx_bsl, for the first wrong example
        broken = list(_broken(examples, numbers))
        wrong = {each.record for each in broken}
        examples = [example for example, number in zip(examples, numbers, strict=True) if number not in wrong]
        batch, _ = decode(examples)
    unknown = sorted(set(batch.schema.names) - set(wanted))
    if unknown and not others:
        raise InputError(f'features: got {unknown}, rule: a mapping that names the fields wanted, or their columns')
    names = set(batch.schema.names)
    return {
        name: _lists(batch.column(batch.schema.get_field_index(name))) if name in names else pa.nulls(len(examples))
        for name in wanted
    }, broken


def _broken(examples: list[bytes], numbers: NDArray[Any]) -> Iterator[Broken]:
    """Yields the examples that are none, and those with a feature of another kind than it has in an earlier one."""
    from tfx_cassandra.components.dataset.files.decode import decode

    kinds: dict[str, str] = {}
    for example, number in zip(examples, numbers.tolist(), strict=True):
        try:
            _, found = decode([example])
        except Exception as error:
            reason = ' '.join(str(error).split())[:100]
            yield Broken(number, None, '', f'got {len(example)} bytes, rule: a tf.Example ({reason})')
            continue
        for name, kind in found.items():
            if kinds.setdefault(name, kind) != kind:
                rule = f'{kinds[name]}, as in the examples before it'
                yield Broken(number, None, '', f'got feature {name!r} as {kind}, rule: {rule}')
                break


def _lists(feature: pa.LargeListArray) -> pa.ListArray:
    """Returns a feature with 32-bit offsets, as other columns have them."""
    ends = np.cumsum(np.asarray(pc.fill_null(pc.list_value_length(feature), 0)), dtype=np.int32)
    absent = np.append(feature.is_null().to_numpy(zero_copy_only=False), False)
    values = feature.flatten()
    values = values.cast(pa.binary()) if pa.types.is_large_binary(values.type) else values
    return pa.ListArray.from_arrays(pa.array(np.append(np.int32(0), ends), pa.int32(), mask=absent), values)
