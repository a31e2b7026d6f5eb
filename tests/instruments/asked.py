"""Which partitions of a table with a layout a session reads."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

from cassandra.cluster import Session

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def ms(moment: datetime.datetime) -> int:
    """Returns milliseconds since 1970."""
    return (moment - EPOCH) // datetime.timedelta(milliseconds=1)


def days(*moments: datetime.datetime) -> list[int]:
    """Returns when the days of moments begin, in milliseconds since 1970."""
    return [ms(moment.replace(hour=0, minute=0)) for moment in moments]


@contextlib.contextmanager
def partitions_asked(session: Session, table: str) -> Iterator[list[dict[str, Any]]]:
    """Notes the layout's columns of each read of a table, as the session sends them."""
    asked: list[dict[str, Any]] = []
    send = session.execute_async

    def noted(statement: Any, *args: Any, **options: Any) -> Any:
        prepared = getattr(statement, 'prepared_statement', None)
        if prepared is not None and f'"{table}"' in prepared.query_string and 'SELECT' in prepared.query_string:
            named = zip([column.name for column in prepared.column_metadata], statement.values, strict=False)
            asked.append(
                {
                    name: int.from_bytes(value, 'big', signed=True)
                    for name, value in named
                    if name in ('bucket', 'part', 'salt')
                }
            )
        return send(statement, *args, **options)

    session.execute_async = noted
    try:
        yield asked
    finally:
        del session.execute_async
