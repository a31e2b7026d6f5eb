"""A proxy between the driver and a real node that speaks CQL's binary protocol, for faults no node makes on demand.

It answers protocol version 4 alone and offers no compression, so that every frame can be read. A rule looks at each
EXECUTE and says what becomes of it; all of them are kept on record, with what they were answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import re
import struct
import time
from collections.abc import Callable

from cassandra import ConsistencyLevel
from cassandra.protocol import ResultMessage, read_int, read_string, read_stringmultimap, write_stringmultimap
from proxy import Proxy

_ERROR, _OPTIONS, _SUPPORTED, _RESULT, _PREPARE, _EXECUTE = 0x00, 0x05, 0x06, 0x08, 0x09, 0x0A
_WARNINGS = 0x08  # flag of a frame whose body begins with a list of texts
_ROWS, _PREPARED = 2, 4  # kinds of results
_VALUES, _PAGE_SIZE, _PAGING_STATE = 0x01, 0x04, 0x08  # flags of a request's parameters


@dataclasses.dataclass
class Execute:
    """One EXECUTE, and its answer once there is one.

    Attributes:
      number: How many came before it.
      cql: The statement.
      consistency: The consistency level it asks for.
      values: Its bound values.
      page_rows: Rows asked for at most.
      paging_state: Where the page begins; None for the first one.
      asked, answered: Seconds on a monotonic clock, when the request came and when its answer was sent.
      rows: Rows of the answer; None where it was no rows.
      size: Bytes of the answer's body.
      more: Whether a page follows.
    """

    number: int
    cql: str
    consistency: int
    values: tuple[bytes | None, ...]
    page_rows: int | None
    paging_state: bytes | None
    asked: float
    answered: float | None = None
    rows: int | None = None
    size: int = 0
    more: bool = False

    @property
    def token_range(self) -> tuple[int, int] | None:
        """The range `(start, end]` that the statement reads; None where it is no read of a range, or only a sample."""
        bounds = self._bound(r'token\(.*?\) (>|<=) \?')
        sampled = self.consistency == ConsistencyLevel.LOCAL_ONE
        return None if len(bounds) != 2 or sampled else (bounds['>'], bounds['<='])

    def slice_of(self, column: str) -> tuple[int, int] | None:
        """The slice `[start, end)` of a timestamp clustering column that the statement reads, in milliseconds.

        An end without a condition is that of the timestamps Cassandra can hold; None where there is no condition.
        """
        bounds = self._bound(rf'"?{column}"? (>=|<=) \?')
        return (bounds.get('>=', -(2**63)), bounds.get('<=', 2**63 - 1) + 1) if bounds else None

    def _bound(self, pattern: str) -> dict[str, int]:
        """Returns the values that the matches of a pattern compare with, by the sign that is its group."""
        found = {match[1]: self.cql[: match.end()].count('?') - 1 for match in re.finditer(pattern, self.cql)}
        return {sign: struct.unpack('>q', self.values[i] or b'')[0] for sign, i in found.items()}


@dataclasses.dataclass(frozen=True)
class Fail:
    """Answers with an error instead of asking the node."""

    code: int
    message: str
    details: bytes = b''


@dataclasses.dataclass(frozen=True)
class Delay:
    """Passes the request on some seconds later."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class Drop:
    """Ends the connection, with all that is under way on it."""


@dataclasses.dataclass(frozen=True)
class Damage:
    """Changes the body of the ROWS result; told the body and where in it the first row begins."""

    change: Callable[[bytes, int], bytes]


Rule = Callable[[Execute], 'Fail | Delay | Drop | Damage | None']

# At consistency ONE, none of one replica answered, and no data came.
READ_TIMEOUT = Fail(0x1200, 'made by the proxy: timed out', struct.pack('>HiiB', 1, 0, 1, 0))
OVERLOADED = Fail(0x1001, 'made by the proxy: overloaded')


class CqlProxy(Proxy):
    """Listens on an address and forwards to a node; a context manager.

    Attributes:
      rule: What becomes of each EXECUTE; None passes it on.
      record: Every EXECUTE since the record was last cleared.
    """

    def __init__(self, address: str, port: int, node: tuple[str, int]) -> None:
        self.rule: Rule = lambda execute: None
        self.record: list[Execute] = []
        super().__init__((address, port), node)
        self._prepared: dict[bytes, str] = {}

    def reset(self) -> None:
        """Forgets the rule and the record."""
        self.rule, self.record = (lambda execute: None), []

    def scans(self) -> list[Execute]:
        """The record's reads of token ranges, in the order they were asked."""
        return [execute for execute in self.record if execute.token_range]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            node = await asyncio.open_connection(*self._node)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await _Connection(self, (reader, writer), node).serve()
            node[1].close()
        finally:
            writer.close()
            self._tasks.discard(task)


@dataclasses.dataclass(frozen=True)
class _Frame:
    flags: int
    stream: int
    opcode: int
    body: bytes

    def bytes(self, direction: int) -> bytes:
        return struct.pack('>BBhBi', direction | 4, self.flags, self.stream, self.opcode, len(self.body)) + self.body


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One connection of the driver's and the one to the node that it is passed on to."""

    def __init__(self, proxy: CqlProxy, driver: _Stream, node: _Stream) -> None:
        self._proxy, self._driver, self._node = proxy, driver, node
        self._preparing: dict[int, str] = {}  # stream -> statement
        self._executing: dict[int, tuple[Execute, Damage | None]] = {}  # by stream
        self._later: set[asyncio.Task] = set()

    async def serve(self) -> None:
        tasks = [asyncio.ensure_future(part) for part in (self._requests(), self._responses())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, *self._later):
                task.cancel()
            await asyncio.gather(*tasks, *self._later, return_exceptions=True)

    async def _requests(self) -> None:
        while True:
            version, frame = await _frame(self._driver[0])
            if version > 4:
                text = f'Invalid or unsupported protocol version ({version}); supported versions are (4/v4)'
                self._answer(frame.stream, Fail(0x0A, text))
                return
            fault = None
            if frame.opcode == _PREPARE:
                self._preparing[frame.stream] = frame.body[4:].decode()
            elif frame.opcode == _EXECUTE:
                execute = self._parsed(frame.body)
                self._proxy.record.append(execute)
                fault = self._proxy.rule(execute)
                self._executing[frame.stream] = (execute, fault if isinstance(fault, Damage) else None)
            if isinstance(fault, Drop):
                return
            if isinstance(fault, Fail):
                self._executing.pop(frame.stream)[0].answered = time.monotonic()
                self._answer(frame.stream, fault)
            elif isinstance(fault, Delay):
                task = asyncio.ensure_future(self._pass_on(frame, fault.seconds))
                self._later.add(task)
                task.add_done_callback(self._later.discard)
            else:
                self._node[1].write(frame.bytes(0))

    async def _pass_on(self, frame: _Frame, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._node[1].write(frame.bytes(0))

    async def _responses(self) -> None:
        while True:
            _, frame = await _frame(self._node[0])
            if frame.opcode == _SUPPORTED:
                options = read_stringmultimap(io.BytesIO(frame.body))
                written = io.BytesIO()
                write_stringmultimap(written, options | {'COMPRESSION': []})
                frame = dataclasses.replace(frame, body=written.getvalue())
            elif frame.stream in self._preparing:
                self._learn(frame)
            elif frame.stream in self._executing:
                frame = self._seen(frame)
            self._driver[1].write(frame.bytes(0x80))
            await self._driver[1].drain()

    def _answer(self, stream: int, fail: Fail) -> None:
        message = fail.message.encode()
        body = struct.pack('>iH', fail.code, len(message)) + message + fail.details
        self._driver[1].write(_Frame(0, stream, _ERROR, body).bytes(0x80))

    def _learn(self, frame: _Frame) -> None:
        cql = self._preparing.pop(frame.stream)
        body = _result(frame)
        if body is not None and read_int(body) == _PREPARED:
            (size,) = struct.unpack('>H', body.read(2))
            self._proxy._prepared[body.read(size)] = cql

    def _parsed(self, body: bytes) -> Execute:
        (size,) = struct.unpack_from('>H', body)
        cql, rest = self._proxy._prepared.get(body[2 : 2 + size], ''), io.BytesIO(body[2 + size :])
        consistency, flags = struct.unpack('>HB', rest.read(3))
        values = []
        if flags & _VALUES:
            for _ in range(struct.unpack('>H', rest.read(2))[0]):
                length = read_int(rest)
                values.append(rest.read(length) if length >= 0 else None)
        page_rows = read_int(rest) if flags & _PAGE_SIZE else None
        paging_state = rest.read(read_int(rest)) if flags & _PAGING_STATE else None
        return Execute(
            len(self._proxy.record), cql, consistency, tuple(values), page_rows, paging_state, time.monotonic()
        )

    def _seen(self, frame: _Frame) -> _Frame:
        execute, damage = self._executing.pop(frame.stream)
        execute.answered, execute.size = time.monotonic(), len(frame.body)
        body = _result(frame)
        if body is None or read_int(body) != _ROWS:
            return frame
        metadata = ResultMessage(_ROWS)
        metadata.recv_results_metadata(body, {})
        execute.rows, execute.more = read_int(body), metadata.paging_state is not None
        return dataclasses.replace(frame, body=damage.change(frame.body, body.tell())) if damage else frame


async def _frame(reader: asyncio.StreamReader) -> tuple[int, _Frame]:
    """Reads one frame; returns the protocol version it was written in, and the frame."""
    version, flags, stream, opcode, size = struct.unpack('>BBhBi', await reader.readexactly(9))
    return version & 0x7F, _Frame(flags, stream, opcode, await reader.readexactly(size))


def _result(frame: _Frame) -> io.BytesIO | None:
    """Returns a result's body after the warnings that may stand before it; None where it is no result."""
    if frame.opcode != _RESULT:
        return None
    body = io.BytesIO(frame.body)
    if frame.flags & _WARNINGS:
        for _ in range(struct.unpack('>H', body.read(2))[0]):
            read_string(body)
    return body
