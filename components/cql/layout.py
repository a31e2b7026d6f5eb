"""Layouts of tables whose partitions stay small: a time bucket, a hash salt or both, as columns of the partition key.

A table declares its layout in its comment:

    bucket=COLUMN:UNIT:TIME_COLUMN      such as bucket=day:day:timestamp; UNIT is hour, day or month
    salt=COLUMN:COUNT:COLUMN[,COLUMN]   such as salt=part:16:sensor,at

The bucket is a timestamp: when the hour, the day or the month (UTC) of the time begins. The salt is an integer of 0 to
COUNT - 1: the CRC-32 (of zlib, gzip and PNG) of the named columns' values, modulo COUNT. The values are those of CQL,
serialized and put together as in a partition key: one value as it is; of several, each after its length (16 bits,
big-endian) and followed by a zero byte.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tfx_cassandra.components.errors import SchemaError

Unit = Literal['hour', 'day', 'month']
MOST_SALTS = 1024

_DAY = 86_400_000  # milliseconds
_LONGEST: dict[str, int] = {'hour': 3_600_000, 'day': _DAY, 'month': 31 * _DAY}
_FIRST, _END = -(2**63), 2**63  # of the moments of CQL, in milliseconds since 1970
_BUCKET = re.compile(r'\bbucket=(\S*)')
_SALT = re.compile(r'\bsalt=(\S*)')
_SALTS = ('smallint', 'int')  # types of a salt


@dataclasses.dataclass(frozen=True)
class Bucket:
    """A column of the partition key that holds when the hour, day or month of a row's time begins.

    Attributes:
      column: Its name; it is a timestamp.
      unit: How long a bucket is; in UTC.
      time_column: The clustering column, a timestamp, that it is of.
    """

    column: str
    unit: Unit
    time_column: str

    def starts(self, moments: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns when the bucket of each moment begins, in milliseconds since 1970; the first one with CQL's time."""
        if self.unit == 'month':
            days = (moments // _DAY).astype('datetime64[D]')
            starts = days.astype('datetime64[M]').astype('datetime64[D]').astype(np.int64) * _DAY
        else:
            starts = moments // _LONGEST[self.unit] * _LONGEST[self.unit]
        return np.where(starts > moments, _FIRST, starts)  # where 64 bits were too few

    def start(self, moment: int) -> int:
        """Returns when the bucket of a moment begins, both in milliseconds since 1970."""
        return int(self.starts(np.array([moment], np.int64))[0])

    def end(self, start: int) -> int:
        """Returns when a bucket ends, which is when the next one begins."""
        later = start + _LONGEST[self.unit]
        return self.start(later) if later < _END else _END

    def within(self, start: int, end: int) -> Iterator[int]:
        """Yields the buckets with moments of `[start, end)`, oldest first."""
        bucket = self.start(start)
        while start < end and bucket < end:
            yield bucket
            bucket = self.end(bucket)

    def __str__(self) -> str:
        return f'bucket={self.column}:{self.unit}:{self.time_column}'


@dataclasses.dataclass(frozen=True)
class Salt:
    """A column of the partition key that holds a hash of other columns.

    Attributes:
      column: Its name; it is a smallint or an int.
      count: Number of its values, which begin with 0.
      columns: The columns of the primary key that are hashed, in order.
    """

    column: str
    count: int
    columns: tuple[str, ...]

    def of(self, parts: Sequence[bytes]) -> int:
        """Returns the salt of serialized values of `columns`."""
        return zlib.crc32(packed(parts)) % self.count

    def __str__(self) -> str:
        return f'salt={self.column}:{self.count}:{",".join(self.columns)}'


@dataclasses.dataclass(frozen=True)
class Layout:
    """What keeps the partitions of a table small; without bucket and salt the table is as its columns say."""

    bucket: Bucket | None = None
    salt: Salt | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the partition key that the package fills by itself."""
        return tuple(part.column for part in (self.bucket, self.salt) if part is not None)

    def check(
        self, table: str, partition_key: Sequence[str], clustering: Sequence[str], types: Mapping[str, str],
        is_hashed: Callable[[str], bool],
    ) -> None:  # fmt: skip
        """Raises SchemaError if a table's columns cannot be of this layout.

        Args:
          table: Its name, for messages.
          partition_key, clustering: Its keys.
          types: The CQL types of its columns.
          is_hashed: Whether equal values of a CQL type are always serialized alike.
        """
        if not set(partition_key) > set(self.columns) or len(set(self.columns)) < len(self.columns):
            rule = f'columns of the partition key ({", ".join(partition_key)}), beside others'
            raise SchemaError(f'comment of {table}: got {self}, rule: {rule}')
        if (bucket := self.bucket) is not None:
            for column, wanted, where in (
                (bucket.column, partition_key, 'partition key'),
                (bucket.time_column, clustering, 'clustering columns'),
            ):
                if types.get(column) != 'timestamp' or column not in wanted:
                    rule = f'{column} is a timestamp of the {where}'
                    raise SchemaError(f'comment of {table}: got {str(bucket)!r}, rule: {rule}')
        if (salt := self.salt) is not None:
            if types[salt.column] not in _SALTS:
                rule = f'{salt.column} is of type {" or ".join(_SALTS)}'
                raise SchemaError(f'comment of {table}: got {str(salt)!r}, rule: {rule}')
            keys = [column for column in (*partition_key, *clustering) if column not in self.columns]
            if unfit := [column for column in salt.columns if column not in keys or not is_hashed(types[column])]:
                rule = f'hashes columns of the primary key ({", ".join(keys)}) whose values have one form each'
                raise SchemaError(f'comment of {table}: got {str(salt)!r} with {unfit[0]!r}, rule: {rule}')

    def __str__(self) -> str:
        return ' '.join(str(part) for part in (self.bucket, self.salt) if part is not None)


PLAIN = Layout()


def parse(comment: str, table: str) -> Layout:
    """Returns the layout that the comment of a table declares.

    Raises:
      SchemaError: A declaration is not of the form above.
    """
    bucket, salt = _BUCKET.search(comment), _SALT.search(comment)
    return Layout(
        None if bucket is None else _bucket(bucket[1].rstrip(',;.'), table),
        None if salt is None else _salt(salt[1].rstrip(',;.'), table),
    )


def declared(
    comment: str, table: str, partition_key: Sequence[str], clustering: Sequence[str], types: Mapping[str, str],
    is_hashed: Callable[[str], bool],
) -> Layout:  # fmt: skip
    """Returns the layout that the comment of a table declares, which is of the table's columns; see `Layout.check`.

    Raises:
      SchemaError: A declaration is not of the form above, or not of the table's columns.
    """
    found = parse(comment, table)
    if found.columns:
        found.check(table, partition_key, clustering, types, is_hashed)
    return found


def _bucket(text: str, table: str) -> Bucket:
    match text.split(':'):
        case [column, unit, time_column] if column and time_column and unit in get_args(Unit):
            return Bucket(column, unit, time_column)  # type: ignore[arg-type]
    rule = 'bucket=COLUMN:UNIT:TIME_COLUMN with the unit hour, day or month'
    raise SchemaError(f'comment of {table}: got {f"bucket={text}"!r}, rule: {rule}')


def _salt(text: str, table: str) -> Salt:
    match text.split(':'):
        case [column, count, columns] if column and count.isdecimal() and 2 <= int(count) <= MOST_SALTS:
            names = tuple(columns.split(','))
            if all(names) and len(set(names)) == len(names):
                return Salt(column, int(count), names)
    rule = f'salt=COLUMN:COUNT:COLUMN[,COLUMN] with a count from 2 to {MOST_SALTS}'
    raise SchemaError(f'comment of {table}: got {f"salt={text}"!r}, rule: {rule}')


def packed(parts: Sequence[bytes]) -> bytes:
    """Returns serialized values as a partition key has them."""
    if len(parts) == 1:
        return parts[0]
    return b''.join(len(part).to_bytes(2, 'big') + part + b'\0' for part in parts)


def known(buckets: Sequence[int], bucket: Bucket, start: int | None, end: int | None) -> list[int]:
    """Returns those of some buckets that may hold moments of `[start, end)`; None for no bound."""
    first = None if start is None else bucket.start(start)
    return [each for each in buckets if (first is None or each >= first) and (end is None or each < end)]


__all__ = ['MOST_SALTS', 'PLAIN', 'Bucket', 'Layout', 'Salt', 'Unit', 'known', 'packed', 'parse']
