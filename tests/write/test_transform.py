"""WriteToCassandra's arguments, its limit of errors, and where failed rows come out; writers fail as they are told."""

from __future__ import annotations

import datetime
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, GlobalWindow, TimestampedValue

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import WriteError
from tfx_cassandra.components.write import transform as write
from tfx_cassandra.components.write.transform import FailedRow, Tally, WriteToCassandra
from tfx_cassandra.components.write.writer import Failure


class Writer:
    """Fails rows whose `id` is negative, and remembers what it got."""

    written: list = []

    def write(self, rows: Any) -> list[Failure]:
        self.written.append(rows)
        ids = rows.column(0).to_pylist() if isinstance(rows, pa.RecordBatch) else [row['id'] for row in rows]
        return [Failure(number, 'InvalidRequest', f'no {each}') for number, each in enumerate(ids) if each < 0]


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    Writer.written = []
    monkeypatch.setattr(write._WriteRows, 'setup', lambda self: setattr(self, '_writer', Writer()))
    monkeypatch.setattr(write._WriteRows, 'teardown', lambda self: None)


def transform(**options: Any) -> WriteToCassandra:
    return WriteToCassandra(CassandraConnection(), 't', **options)


def failed(row: dict) -> FailedRow:
    return FailedRow(row, f't: no {row["id"]}', 't', 'InvalidRequest')


def test_mappings_and_batches_are_written_in_their_order() -> None:
    batches = [pa.RecordBatch.from_pydict({'id': ids}) for ids in ([3, -4], [], [5], [-6])]
    other = pa.RecordBatch.from_pydict({'id': [-7], 'x': ['a']})
    elements = [{'id': 1}, {'id': -2}, *batches, other, {'id': -8}]
    with TestPipeline() as pipeline:
        result = pipeline | beam.Create([elements]) | beam.FlatMap(list) | transform(max_errors=None)
        bad = [{'id': -2}, {'id': -4}, {'id': -6}, {'id': -7, 'x': 'a'}, {'id': -8}]
        assert_that(result.failed, equal_to([failed(row) for row in bad]))


def test_rows_are_gathered_up_to_a_number_and_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, 'MOST_ROWS', 5)
    gathering = write._WriteRows(CassandraConnection(), 't', write.WriteOptions())
    gathering.setup()
    gathering.start_bundle()
    for number in range(12):
        list(gathering.process({'id': number}, 0, GlobalWindow()))
    assert [len(rows) for rows in Writer.written] == [5, 5]
    list(gathering.finish_bundle())
    assert [len(rows) for rows in Writer.written] == [5, 5, 2]
    list(gathering.finish_bundle())
    assert len(Writer.written) == 3
    monkeypatch.setattr(write, 'MOST_ROWS', 10**9)
    monkeypatch.setattr(write, '_MOST_BYTES', 40)
    gathering.start_bundle()
    for _ in range(5):  # 24 bytes each
        list(gathering.process(pa.RecordBatch.from_pydict({'id': [1, 2, 3]}), 0, GlobalWindow()))
    assert [rows.num_rows for rows in Writer.written[3:]] == [6, 6]


def test_failed_rows_are_in_the_windows_of_their_elements() -> None:
    elements = [TimestampedValue({'id': -each}, each) for each in (1, 11, 12, 25)]
    with TestPipeline() as pipeline:
        result = pipeline | beam.Create(elements) | beam.WindowInto(FixedWindows(10)) | transform(max_errors=None)
        counted = result.failed | beam.Map(lambda each: 1) | beam.CombineGlobally(sum).without_defaults()
        assert_that(counted, equal_to([1, 2, 1]))


@pytest.mark.parametrize('rate', [None, 1000.0])
@pytest.mark.parametrize(
    ('max_errors', 'message'),
    [
        (None, None), (3, None),
        (2, r'rows failed: got 3, rule: at most max_errors = 2 rows fail \(one of them: t: no -'),
        (0.3, None), (0.29, r'got 3, rule: at most max_errors = 0\.29 of 10 rows fail'),
        (0, 'got 3, rule: at most max_errors = 0 rows fail'),
    ],
)  # fmt: skip
def test_too_many_failed_rows_are_an_error(max_errors: float | None, message: str | None, rate: float | None) -> None:
    rows = [{'id': each} for each in range(-3, 7)]

    def run() -> None:
        with TestPipeline() as pipeline:
            _ = pipeline | beam.Create(rows) | transform(max_errors=max_errors, rows_per_second=rate)

    if message is None:
        run()
    else:
        with pytest.raises(Exception, match=message):
            run()


def test_nothing_to_write_is_no_error() -> None:
    with TestPipeline() as pipeline:
        _ = pipeline | beam.Create([]) | transform()


def test_the_sum_of_tallies_keeps_an_error() -> None:
    assert write._summed([Tally(5, 0, ''), Tally(7, 2, 'why'), Tally(1, 1, 'other')]) == Tally(13, 3, 'why')
    with pytest.raises(WriteError):
        write._check_limit(Tally(13, 3, 'why'), 2)


def test_a_console_shows_the_table() -> None:
    assert transform().display_data()['table'].value == 't'


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'table': ''}, "table: got '', rule: the name of a table"),
        ({'table': None}, 'table: got None, rule: the name of a table'),
        ({'ttl': datetime.timedelta(0)}, 'ttl: got datetime.timedelta(0), rule: whole seconds, at least one'),
        ({'ttl': datetime.timedelta(seconds=1.5)}, 'ttl: got .*, rule: whole seconds, at least one'),
        ({'ttl': datetime.timedelta(1), 'ttl_column': 'x'}, "ttl_column: got 'x', rule: without ttl"),
        ({'max_errors': -1}, 'max_errors: got -1, rule: a number of rows, or a share of them below 1, or None'),
        ({'max_errors': 1.5}, 'max_errors: got 1.5, rule: a number of rows'),
        ({'consistency': 'MOST'}, "consistency: got 'MOST', rule: one of"),
        ({'nulls': 'drop'}, "nulls: got 'drop', rule: 'unset' or 'delete'"),
        ({'collections': 'add'}, "collections: got 'add', rule: 'replace' or 'append'"),
        ({'rows_per_second': 0}, 'rows_per_second: got 0, rule: a number above 0'),
    ],
)
def test_bad_arguments_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace('(', r'\(').replace(')', r'\)')):
        WriteToCassandra(CassandraConnection(), **{'table': 't', **options})
    WriteToCassandra(CassandraConnection(), 't', ttl=datetime.timedelta(seconds=1), max_errors=0)
