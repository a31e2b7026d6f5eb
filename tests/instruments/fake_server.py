"""A table behind the few calls of a driver session that a scan makes, with rows of set sizes and ordered failures."""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from cassandra import cqltypes

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.scan.page import Page, token_of

TABLE = Table('ks', 't', ('k',), ('at',), (('k', 'int'), ('at', 'timestamp'), ('v', 'blob')))
_KINDS = (cqltypes.Int32Type, cqltypes.DateType, cqltypes.BytesType)
NODE = '127.0.0.1:9042'


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of TABLE; `at` is in ms since 1970, or None for an empty one."""

    k: int
    at: int | None
    size: int

    @property
    def token(self) -> int:
        return token_of([struct.pack('>i', self.k)])

    @property
    def place(self) -> tuple[int, int]:
        return self.token, -(2**63) if self.at is None else self.at

    def packed(self) -> bytes:
        values = (struct.pack('>i', self.k), b'' if self.at is None else struct.pack('>q', self.at), bytes(self.size))
        return b''.join(struct.pack('>i', len(value)) + value for value in values)


@dataclasses.dataclass
class Asked:
    """A page that was asked for: its statement, the rows asked for, the node, the rows and bytes that came."""

    cql: str
    fetch_size: int
    host: Any
    rows: int = 0
    bytes: int = 0
    failed: bool = False


class FakeSession:
    """Answers the statements of scan.cql() and of a sample's last rows from a list of rows.

    Args:
      rows: The table.
      failing: Asked -> the error to answer with, or None.
    """

    def __init__(self, rows: Sequence[Row], failing: Callable[[Asked], Exception | None] = lambda asked: None) -> None:
        self._rows = sorted(rows, key=lambda row: row.place)
        self._failing = failing
        self.asked: list[Asked] = []
        host = SimpleNamespace(endpoint=NODE)
        self.cluster = SimpleNamespace(metadata=SimpleNamespace(all_hosts=lambda: [host]))

    def execution_profile_clone_update(self, *_: Any, **changes: Any) -> SimpleNamespace:
        return SimpleNamespace(**changes)

    def prepare(self, cql: str) -> SimpleNamespace:
        statement = SimpleNamespace(
            query_string=cql, column_metadata=None, keyspace_name='ks', retry_policy=None, consistency_level=None,
            serial_consistency_level=None, fetch_size=None, custom_payload=None, is_idempotent=True,
        )  # fmt: skip
        statement.bind = lambda values: SimpleNamespace(
            prepared_statement=statement, values=list(values), fetch_size=None
        )
        return statement

    def execute_async(
        self, bound: Any, paging_state: bytes | None = None, host: Any = None, **_: Any
    ) -> SimpleNamespace:
        cql = bound.prepared_statement.query_string
        asked = Asked(cql, bound.fetch_size, host)
        self.asked.append(asked)
        if error := self._failing(asked):
            asked.failed = True
            return SimpleNamespace(
                result=lambda: _raise(error), add_callbacks=lambda _, failed: failed(error), _paging_state=None
            )
        found = self._found(cql, bound.values)
        if paging_state is not None:  # is the place of the last row, as a server's is
            found = [row for row in found if row.place > struct.unpack('>qq', paging_state)]
        paged = found[: asked.fetch_size]
        body = b''.join(row.packed() for row in paged)
        asked.rows, asked.bytes = len(paged), len(body)
        page = Page(body, 0, asked.rows, ('k', 'at', 'v'), _KINDS)
        return SimpleNamespace(
            result=lambda: SimpleNamespace(current_rows=[page]),
            add_callbacks=lambda came, _: came([page]),
            _paging_state=struct.pack('>qq', *paged[-1].place) if len(paged) < len(found) else None,
        )

    def _found(self, cql: str, values: list) -> list[Row]:
        if 'LIMIT 1' in cql:
            key, _ = values  # and the first moment, which rows without a time come before
            return [row for row in self._rows if struct.pack('>i', row.k) == key and row.at is not None][-1:]
        start, end, *moments = values
        found = [row for row in self._rows if start < row.token <= end]
        for sign, moment in zip(re.findall(r'"at" (>=|<=) \?', cql), moments, strict=True):
            found = [row for row in found if (row.place[1] >= moment if sign == '>=' else row.place[1] <= moment)]
        return found


def _raise(error: Exception) -> None:
    raise error
