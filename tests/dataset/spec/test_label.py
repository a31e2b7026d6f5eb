"""The spine: labels that are not known yet are missing, rows without entity or time are errors."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pytest

from tfx_cassandra.components.dataset.spec.label import Label, LabelSource, spine
from tfx_cassandra.components.errors import DatasetError

UTC = datetime.timezone.utc
NOW = datetime.datetime(2020, 1, 1, tzinfo=UTC)
HOUR = datetime.timedelta(hours=1)
SOURCE = LabelSource(
    't', 'e', 'at', ('now', Label('later', rename='renamed', delay=2 * HOUR), Label('slow')), delay=HOUR
)


def batch(hours: list[float | None], entities: list[str | None]) -> pa.RecordBatch:
    times = [None if hour is None else NOW + hour * HOUR for hour in hours]
    columns = {'at': pa.array(times, pa.timestamp('ms', 'UTC')), 'e': pa.array(entities, pa.string())}
    columns |= {name: pa.array([[1]] * len(hours)) for name in ('slow', 'later', 'now')}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def test_each_label_has_its_delay_and_the_moment_itself_counts_as_known() -> None:
    rows = spine(batch([-3, -2, -1.999, -1, -0.5], ['x'] * 5), SOURCE, NOW)
    assert rows.schema.names == ['e', 'at', 'now', 'renamed', 'slow']
    known = {
        name: [value is not None for value in rows.column(i).to_pylist()] for i, name in enumerate(rows.schema.names)
    }
    assert known['renamed'] == [True, True, False, False, False]
    assert known['slow'] == known['now'] == [True, True, True, True, False]  # the delay of the source
    assert known['e'] == known['at'] == [True] * 5


def test_without_a_delay_a_label_is_known_at_once() -> None:
    rows = spine(batch([5], ['x']), LabelSource('t', 'e', 'at', 'now'), NOW)
    assert rows.to_pydict()['now'] == [[1]]


@pytest.mark.parametrize(('hours', 'entities', 'name'), [([1, None], ['x', 'y'], 'at'), ([1, 2], ['x', None], 'e')])
def test_a_row_without_entity_or_time_is_an_error(hours: list, entities: list, name: str) -> None:
    with pytest.raises(DatasetError, match=rf'^label source t: got .*None.*, rule: a value in {name} of every row$'):
        spine(batch(hours, entities), SOURCE, NOW)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'entity_columns': ()}, 'entity_columns: got (), rule: one or more names'),
        ({'label_columns': ('e',)}, "label_columns: got ['e'], rule: no two"),
        ({'label_columns': ('a', Label('b', rename='a'))}, "label_columns: got ['a'], rule: no two"),
        ({'timestamp_column': ''}, "timestamp_column: got '', rule: a non-empty text"),
        ({'delay': -HOUR}, 'delay: got datetime.timedelta(days=-1'),
    ],
)
def test_bad_sources(change: dict, message: str) -> None:
    arguments = {'table': 't', 'entity_columns': ('e',), 'timestamp_column': 'at', 'label_columns': ('l',)}
    with pytest.raises(ValueError, match='rule') as caught:
        LabelSource(**{**arguments, **change})
    assert str(caught.value).startswith(message)
