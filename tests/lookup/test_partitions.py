"""Which partitions hold the rows of a key: literal buckets, without a cluster."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt
from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.lookup.partitions import Partitions

DAY = 86_400_000
TABLE = Table('ks', 't', ('k', 'day'), ('at',), (('k', 'text'), ('day', 'timestamp'), ('at', 'timestamp')))
DAYS = Layout(Bucket('day', 'day', 'at'))


def partitions(layout: Layout, known: list[int]) -> Partitions:
    made: Any = Partitions.__new__(Partitions)
    made._table = dataclasses.replace(TABLE, layout=layout)
    made._reads = None if layout.bucket is None else 'reads'
    made._starts, made._ends = [day * DAY for day in known], [(day + 1) * DAY for day in known]
    return made


@pytest.mark.parametrize(
    ('start', 'end', 'days'),
    [
        (None, None, [7, 6, 2, 1]),
        (None, 6 * DAY, [2, 1]),
        (None, 6 * DAY + 1, [6, 2, 1]),
        (2 * DAY, 7 * DAY, [6, 2]),
        (3 * DAY, 6 * DAY, []),
        (3 * DAY - 1, 6 * DAY, [2]),
        (-(2**63), 2**63, [7, 6, 2, 1]),
    ],
)
def test_known_buckets_of_a_window_newest_first(start: int | None, end: int | None, days: list[int]) -> None:
    (places,) = partitions(DAYS, [1, 2, 6, 7]).of({'k': 'a'}, start, end)
    assert list(places) == [((day + 1) * DAY, (day * DAY,)) for day in days]


def test_each_salt_has_its_own_partitions() -> None:
    both = dataclasses.replace(DAYS, salt=Salt('part', 2, ('at',)))
    assert [list(places) for places in partitions(both, [1]).of({'k': 'a'}, None, None)] == [
        [(2 * DAY, (DAY, 0))], [(2 * DAY, (DAY, 1))],
    ]  # fmt: skip
    salted = Layout(None, Salt('part', 2, ('k',)))
    assert [list(places) for places in partitions(salted, []).of({'k': 'a'}, 0, 1)] == [[(2**63, (1,))]]
    assert [list(places) for places in partitions(Layout(), []).of({'k': 'a'}, 0, 1)] == [[(2**63, ())]]
