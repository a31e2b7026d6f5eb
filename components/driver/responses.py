"""What a session makes of the values that come: none that Cassandra can hold fails a request or its connection.

The driver decodes a result in the thread that reads the sockets. It takes an exception there for a broken connection,
which it closes, and marks the node as down for every user of the session. Here such a value becomes one that says so.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from cassandra import DriverException, cqltypes
from cassandra.marshal import int64_unpack
from cassandra.protocol import ProtocolHandler, ResultMessage, read_int
from cassandra.util import Time

_EPOCH = datetime.datetime(1970, 1, 1)  # naive, as the driver's timestamps are
_DriversResult: Any = ProtocolHandler.message_types_by_opcode[ResultMessage.opcode]


class Milliseconds(int):
    """A timestamp that no datetime can hold, before the year 1 or after 9999: milliseconds since 1970."""


class Nanoseconds(int):
    """A time of more than a day, which the driver's own class refuses: nanoseconds since midnight."""

    @property
    def nanosecond_time(self) -> int:
        return int(self)


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A value that the driver cannot decode, such as a text that is not UTF-8.

    Attributes:
      cql_type: The CQL type of its column.
      value: Its bytes.
      reason: What the driver says.
    """

    cql_type: str
    value: bytes
    reason: str

    def __str__(self) -> str:
        return f'{self.value[:20]!r}, which is no {self.cql_type} ({self.reason[:100]})'


class _Timestamp(cqltypes.DateType):
    """A timestamp to the millisecond; the driver's own computes with floating-point seconds, which miss it after 2242.

    The leading underscore keeps the class out of the driver's registry of types.
    """

    @staticmethod
    def deserialize(value: bytes, protocol_version: int) -> datetime.datetime | Milliseconds:
        since = int64_unpack(value)
        try:
            return _EPOCH + datetime.timedelta(milliseconds=since)
        except OverflowError:
            return Milliseconds(since)


class _Time(cqltypes.TimeType):
    @staticmethod
    def deserialize(value: bytes, protocol_version: int) -> Time | Nanoseconds:
        since = int64_unpack(value)
        try:
            return Time(since)
        except ValueError:
            return Nanoseconds(since)


class _Decimal(cqltypes.DecimalType):
    """Decoded in Python, for the driver's compiled decoder negates a scale of 32 bits in 32 bits."""


_EXACT = {
    cqltypes.DateType: _Timestamp,
    cqltypes.TimestampType: _Timestamp,
    cqltypes.TimeType: _Time,
    cqltypes.DecimalType: _Decimal,
}


class _Result(_DriversResult):
    type_codes = {code: _EXACT.get(kind, kind) for code, kind in ResultMessage.type_codes.items()}

    def recv_results_rows(self, f: Any, protocol_version: int, user_type_map: Any, metadata: Any, policy: Any) -> None:
        start = f.tell()
        try:
            super().recv_results_rows(f, protocol_version, user_type_map, metadata, policy)
        except Exception:  # each of the driver's decoders has errors of its own
            f.seek(start)
            self._recv_value_by_value(f, protocol_version, user_type_map, metadata)

    def _recv_value_by_value(self, f: Any, protocol_version: int, user_type_map: Any, metadata: Any) -> None:
        self.recv_results_metadata(f, user_type_map)
        columns = self.column_metadata or metadata
        self.column_names = [column[2] for column in columns]
        self.column_types = kinds = [column[3] for column in columns]
        rows = [self.recv_row(f, len(columns)) for _ in range(read_int(f))]
        self.parsed_rows = [
            tuple(_readable(kind, value, protocol_version) for kind, value in zip(kinds, row, strict=True))
            for row in rows
        ]


def _readable(kind: Any, value: bytes | None, protocol_version: int) -> Any:
    try:
        return kind.from_binary(value, protocol_version)
    except Exception as error:
        return Unreadable(kind.cql_parameterized_type(), value or b'', f'{type(error).__name__}: {error}')


class ReadableHandler(ProtocolHandler):
    """The driver's protocol, where a value that it cannot decode becomes `Unreadable` or a number.

    A response that cannot be decoded at all, as of a type the driver does not know, fails its own request alone.
    """

    message_types_by_opcode = {**ProtocolHandler.message_types_by_opcode, ResultMessage.opcode: _Result}

    @classmethod
    def decode_message(cls, *arguments: Any) -> Any:
        try:
            return super().decode_message(*arguments)
        except Exception as error:
            # The driver raises an exception that is returned here to the caller of the request.
            return DriverException(f'a response that the driver cannot decode ({type(error).__name__}: {error})')


def checked_row(row: Any) -> None:
    """Raises ValueError, naming the column, for a row of the driver with a value that could not be decoded."""
    if Unreadable in map(type, row):
        column, value = next(pair for pair in zip(row._fields, row, strict=True) if type(pair[1]) is Unreadable)
        raise ValueError(f'{column}: got {value}')


def utc(column: str, timestamp: datetime.datetime | Milliseconds | None) -> datetime.datetime:
    """Returns what was read from a timestamp column as the aware datetime it means.

    Raises:
      ValueError: No datetime can hold it: it is empty, before the year 1 or after 9999; the message names the column.
    """
    if not isinstance(timestamp, datetime.datetime):
        found = 'nothing' if timestamp is None else f'{timestamp} ms since 1970'
        raise ValueError(f'{column}: got {found}, rule: a moment of the years 1 to 9999')
    return timestamp.replace(tzinfo=datetime.timezone.utc)
