"""The proposal of a layout: literal workloads, and the CQL of the table."""

from __future__ import annotations

import datetime
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.cql.layout import Bucket, Layout, Salt, parse
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.schema.plan import LIMIT, Estimate, Workload, estimates, laid_out
from tfx_cassandra.components.schema.relations import table

READINGS = table(
    'readings', 'Readings.', {'sensor': 'text', 'at': 'timestamp', 'id': 'decimal', 'value': 'double'},
    ['sensor'], {'at': 'desc', 'id': 'asc'},
    {'default_time_to_live': 60, 'compaction': {'class': 'LeveledCompactionStrategy'}}, comment="it's event_time=at",
)  # fmt: skip
DAY = datetime.timedelta(1)


def planned(row_bytes: float, rate: float, days: float, limit: float = LIMIT) -> list[Estimate]:
    return estimates(READINGS, Workload(row_bytes, rate, days * DAY, 'at'), limit)


@pytest.mark.parametrize(
    ('row_bytes', 'rate', 'days', 'layout', 'megabytes', 'partitions'),
    [
        (100, 0.1, 90, '', 77.76, 1),
        (100, 0.2, 90, 'bucket=bucket:month:at', 53.568, 4),
        (100, 2, 90, 'bucket=bucket:day:at', 17.28, 91),
        (100, 200, 30, 'bucket=bucket:hour:at', 72, 721),
        (100, 2000, 30, 'bucket=bucket:hour:at salt=salt:8:at', 90, 721 * 8),
        (100, 2000, 0.01, 'bucket=bucket:hour:at salt=salt:2:at', 86.4, 4),
    ],
)
def test_the_coarsest_layout_under_the_limit_is_proposed(
    row_bytes: float, rate: float, days: float, layout: str, megabytes: float, partitions: int
) -> None:
    *coarser, proposal = planned(row_bytes, rate, days)
    assert (str(proposal.layout), proposal.partitions) == (layout, partitions)
    assert proposal.partition_bytes == pytest.approx(megabytes * 1e6)
    assert all(each.partition_bytes > LIMIT for each in coarser)


@given(st.floats(1, 1e4), st.floats(1e-4, 1e4), st.floats(0.1, 1000))
def test_a_proposal_keeps_the_limit(row_bytes: float, rate: float, days: float) -> None:
    if row_bytes * rate * min(3600, days * 86400) > 1024 * LIMIT:
        with pytest.raises(SchemaError, match='MB an hour and entity'):
            planned(row_bytes, rate, days)
        return
    found = planned(row_bytes, rate, days)
    proposal = found[-1]
    assert proposal.partition_bytes <= LIMIT
    assert proposal.partitions * proposal.partition_bytes >= 0.999 * row_bytes * rate * days * 86400
    assert [each.partition_bytes for each in found] == sorted((each.partition_bytes for each in found), reverse=True)


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(SchemaError, match=r'readings: got 3,600,000 MB an hour, rule: at most 102,400 MB an hour'):
        planned(1000, 1e6, 90)
    with pytest.raises(SchemaError, match="time column: got 'id', rule: a clustering column of readings of type"):
        estimates(READINGS, Workload(1, 1, DAY, 'id'))
    for workload in ((0, 1, DAY), (1, math.inf, DAY), (1, 1, 0 * DAY)):
        with pytest.raises(ValueError, match=r'^(row_bytes|rate|retention): got .*, rule: (above|longer than) zero'):
            Workload(*workload, 'at')
    again = laid_out(READINGS, 'again', planned(100, 2, 90)[-1].layout)
    with pytest.raises(SchemaError, match="again: got 'bucket=bucket:day:at', rule: a table without a layout"):
        estimates(again, Workload(1, 1, DAY, 'at'))


def test_the_new_table_is_the_old_one_with_the_columns_of_the_layout() -> None:
    layout = Layout(Bucket('bucket', 'hour', 'at'), Salt('salt', 8, ('at',)))
    new = laid_out(READINGS, 'readings_by_hour', layout)
    assert new.cql.partition('\n')[2] == (
        'CREATE TABLE IF NOT EXISTS {keyspace}.readings_by_hour (\n'
        '    sensor text,\n'
        '    at timestamp,\n'
        '    id decimal,\n'
        '    value double,\n'
        '    bucket timestamp,\n'
        '    salt int,\n'
        '    PRIMARY KEY ((sensor, bucket, salt), at, id)\n'
        ') WITH CLUSTERING ORDER BY (at DESC, id ASC)\n'
        '   AND default_time_to_live = 60\n'
        '   AND gc_grace_seconds = 864000\n'
        "   AND compaction = {'class': 'LeveledCompactionStrategy'}\n"
        "   AND comment = 'it''s event_time=at bucket=bucket:hour:at salt=salt:8:at'"
    )
    assert parse(str(new.options['comment']), 'readings') == layout


def test_a_declared_layout_is_of_the_declared_columns() -> None:
    with pytest.raises(SchemaError, match=r'comment of t: got .*, rule: at is a timestamp of the clustering columns'):
        table('t', '', {'k': 'text', 'at': 'date'}, ['k'], {'at': 'asc'}, layout=Layout(Bucket('b', 'day', 'at')))
