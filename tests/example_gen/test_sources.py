"""What is checked about tables before anything is read, on descriptions of tables."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.cql.types import Decoding
from tfx_cassandra.components.dataset.spec.view import Feature, FeatureView, Source
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.options import ReadRequest, TableRead
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.training_set import sources
from tfx_cassandra.components.window import TimesBefore, TimeWindow

TABLE = Table(
    'ks', 't', ('e',), ('ts', 'kind', 'tags', 'made'),
    (
        ('e', 'text'), ('ts', 'timestamp'), ('kind', 'int'), ('tags', 'frozen<map<text, int>>'), ('made', 'timestamp'),
        ('a', 'int'), ('clicks', 'counter'), ('scores', 'map<text, int>'), ('s', 'int'), ('n', 'text'),
    ),
    has_static=True,
)  # fmt: skip


def wide(*features: str | Feature, **more: object) -> FeatureView:
    return FeatureView('v', 't', ('e',), 'ts', features, **more)  # type: ignore[arg-type]


LONG = FeatureView('v', 't', ('e',), 'ts', ('x',), layout='long', feature_name_column='n', value_column='clicks')


@pytest.mark.parametrize(
    ('view', 'column'),
    [
        (wide('clicks'), 'clicks'),
        (wide('a', 'clicks'), 'clicks'),
        (wide(Feature('clicks', rename='a')), 'clicks'),
        (wide('clicks', created_column='made'), 'clicks'),  # which tells when the row was made, not when it grew
        (FeatureView('v', 't', ('e',), None, ('clicks',)), 'clicks'),
        (LONG, 'clicks'),
        (wide('kind'), 'kind'),
        (wide(Feature('ts', rename='then')), 'ts'),
        (wide(Feature('e', rename='who')), 'e'),
        (wide("tags['x']"), 'tags'),
    ],
)
def test_the_cut_off_asks_for_values_that_tell_when_they_were_written(view: FeatureView, column: str) -> None:
    with pytest.raises(SchemaError, match=rf"^view v: got '{column}'.*, rule: .*availability_cut_off=False") as caught:
        sources._check_dated(view, TABLE)
    assert ('counter' in str(caught.value)) == (column == 'clicks')


@pytest.mark.parametrize('view', [wide('a', "scores['x']", 's'), wide('kind', "tags['x']", created_column='made')])
def test_values_that_tell_when_they_were_written(view: FeatureView) -> None:
    sources._check_dated(view, TABLE)


def test_the_times_of_a_view_that_can_matter() -> None:
    window = TimeWindow.parse('2013-01-01T00:00Z/2013-02-01T00:00Z')
    day = datetime.timedelta(days=1)
    assert sources.view_window(wide('a', ttl=day), window) == TimeWindow(window.start - day, window.end)
    assert sources.view_window(FeatureView('v', 't', ('e',), None, ('a',)), window) is None
    for ttl in (None, 2013 * 366 * day, datetime.timedelta.max):
        assert sources.view_window(wide('a', ttl=ttl), window) == TimesBefore(window.end)
    far = window.start - TimesBefore(window.end).start
    assert sources.view_window(wide('a', ttl=far), window) == TimeWindow(window.start - far, window.end)


def test_varints_that_are_read_as_text_are_text_in_the_examples() -> None:
    table = Table('ks', 't', ('e',), (), (('e', 'text'), ('big', 'varint'), ('bigs', 'list<varint>')))
    for decoding, kind in ((Decoding(), 'int64_list'), (Decoding(wide_varints='text'), 'bytes_list')):
        request = ReadRequest(CassandraConnection(), 't', options=ReadOptions(decoding=decoding))
        read = TableRead(request, plan_scan(table), pa.schema([]))
        found = [sources._column(read, 'view v', Source(name), False).kind for name in ('big', 'bigs')]
        assert found == [kind, kind]
