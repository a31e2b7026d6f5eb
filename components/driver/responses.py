"""Decodes every value that Cassandra can store, so that none fails a request or its connection.

The driver decodes results in the thread that reads the sockets. It takes an exception there for a broken connection,
closes it and marks the node as down for every user of the session. Here a value that cannot be decoded becomes an
`Unreadable` instead.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from cassandra import DriverException, cqltypes
from cassandra.marshal import int64_unpack
from cassandra.protocol import ProtocolHandler, ResultMessage, read_int
from cassandra.util import Time

from tfx_cassandra.components.driver.encoded import encoded_message

_EPOCH = datetime.datetime(1970, 1, 1)  # naive, as the driver's timestamps are
_DriversResult: Any = ProtocolHandler.message_types_by_opcode[ResultMessage.opcode]


class Milliseconds(int):
    """A timestamp before the year 1 or after 9999, which no datetime can represent: milliseconds since 1970."""


class Nanoseconds(int):
    """A time of a day or more, which the driver's class rejects: nanoseconds since midnight."""

    @property
    def nanosecond_time(self) -> int:
        """The nanoseconds, under the name that the driver's class uses."""
        return int(self)


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A value that the driver cannot decode, such as a text that is not UTF-8.

    Attributes:
      cql_type: The CQL type of its column.
      value: Its bytes.
      reason: The error of the driver.
    """

    cql_type: str
    value: bytes
    reason: str

    def __str__(self) -> str:
        return f'{self.value[:20]!r}, which is not a valid {self.cql_type} ({self.reason[:100]})'


class _Timestamp(cqltypes.DateType):
    """A timestamp that is exact to the millisecond; the driver's uses float seconds, which are inexact after 2242.

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
    """A decimal decoded in Python, because the driver's compiled decoder overflows when it negates some scales."""


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
        except Exception:  # each decoder of the driver raises errors of its own
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
    """The driver's protocol handler, except that a value that it cannot decode becomes `Unreadable` or a number.

    A response that cannot be decoded at all, such as one of an unknown type, fails its own request only. A request that
    is serialized already (`encoded.EncodedBatch`) is sent as it is.
    """

    message_types_by_opcode = {**ProtocolHandler.message_types_by_opcode, ResultMessage.opcode: _Result}

    @classmethod
    def encode_message(
        cls, msg: Any, stream_id: int, protocol_version: int, compressor: Any, allow_beta_protocol_version: bool
    ) -> bytes:
        """Encodes a request."""
        arguments = (msg, stream_id, protocol_version, compressor, allow_beta_protocol_version)
        frame: bytes = encoded_message(*arguments) or super().encode_message(*arguments)
        return frame

    @classmethod
    def decode_message(cls, *arguments: Any) -> Any:
        """Decodes a response; returns a DriverException for one that cannot be decoded."""
        try:
            return super().decode_message(*arguments)
        except Exception as error:
            # The driver raises a returned exception in the caller of the request.
            return DriverException(f'a response that the driver cannot decode ({type(error).__name__}: {error})')


def checked_row(row: Any) -> None:
    """Raises ValueError, naming the column, for a row with a value that could not be decoded."""
    if Unreadable in map(type, row):
        column, value = next(pair for pair in zip(row._fields, row, strict=True) if type(pair[1]) is Unreadable)
        raise ValueError(f'{column}: got {value}')


def utc(column: str, timestamp: datetime.datetime | Milliseconds | None) -> datetime.datetime:
    """Returns the value of a timestamp column as an aware datetime.

    Raises:
      ValueError: It is empty, before the year 1 or after 9999; the message names the column.
    """
    if not isinstance(timestamp, datetime.datetime):
        found = 'nothing' if timestamp is None else f'{timestamp} ms since 1970'
        raise ValueError(f'{column}: got {found}, rule: a moment of the years 1 to 9999')
    return timestamp.replace(tzinfo=datetime.timezone.utc)
