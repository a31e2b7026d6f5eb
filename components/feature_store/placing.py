"""In which partitions the values of a feature are, in a table with a layout: of which time buckets and hash salts.

A table without a layout has one place, `()`, in the bucket None.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cassandra.cluster import Session

from tfx_cassandra.components.cql import layout
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver.buckets import Buckets
from tfx_cassandra.components.errors import invalid

MOST_DELETED = 10_000  # buckets of one deletion

Place = tuple[int, ...]  # the values of the layout's columns, in their order


class Placing:
    """The places of the values of a table.

    Args:
      session: The driver's session.
      table: The table; its layout is of the columns of feature_store or entity_features.

    Attributes:
      columns: The columns of the layout.
      buckets: The table's known buckets; None if it has none.

    Raises:
      SchemaError: The table has buckets, and its keyspace no table layout_buckets.
    """

    def __init__(self, session: Session, table: Table) -> None:
        self._table, self.columns = table, table.layout.columns
        self.buckets = None if table.layout.bucket is None else Buckets(session, table)

    def place(self, key: Sequence[str], moment: int) -> Place:
        """Returns the place of a value, given the own columns of its partition key and its timestamp."""
        if not self.columns:
            return ()
        ((place,),) = self.places(key, [self.bucket(moment)], moment)
        return place

    def bucket(self, moment: int) -> int | None:
        """Returns the bucket of a timestamp, both in milliseconds since 1970."""
        bucket = self._table.layout.bucket
        return None if bucket is None else bucket.start(moment)

    def places(self, key: Sequence[str], buckets: Sequence[int | None], moment: int | None = None) -> list[list[Place]]:
        """Returns the places of a feature's values: for each bucket one for each salt that they may have."""
        given: dict[str, Any] = dict(zip(self._table.own_partition_key, key, strict=True))
        if moment is not None:
            given['timestamp'] = moment
        salts = self._table.salts(given)
        return [[tuple(part for part in (bucket, salt) if part is not None) for salt in salts] for bucket in buckets]

    def known(self, found: Sequence[int], start: int | None, end: int | None) -> list[int | None]:
        """Returns those of some buckets, newest first, that may have values of `[start, end)`."""
        bucket = self._table.layout.bucket
        return [None] if bucket is None else [*layout.known(found, bucket, start, end)]

    def every(self, bounds: tuple[int, int]) -> list[int | None]:
        """Returns all buckets of a window, also those without values.

        Raises:
          ValueError: It has too many.
        """
        bucket = self._table.layout.bucket
        found: list[int | None] = []
        if bucket is None:
            return [None]
        for start in bucket.within(*bounds):
            if len(found) == MOST_DELETED:
                rule = f'at most {MOST_DELETED:,} buckets of {self._table.name}, each of a {bucket.unit}'
                raise invalid('window', list(bounds), rule)
            found.append(start)
        return found
