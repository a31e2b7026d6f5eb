"""Loads with a writer that keeps rows in memory: mappings, errors by place, dead letters, checkpoints, limits."""

from __future__ import annotations

import datetime
import io
import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from cassandra import cqltypes

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.errors import SchemaError, WriteError
from tfx_cassandra.components.ingest import columnar, delimited, json_lines
from tfx_cassandra.components.ingest.checkpoint import Checkpoint
from tfx_cassandra.components.ingest.inputs import find
from tfx_cassandra.components.ingest.layout import Target
from tfx_cassandra.components.ingest.load import Load
from tfx_cassandra.components.ingest.mapping import Mapping, of_parts, parse
from tfx_cassandra.components.ingest.options import ErrorLimit, LoadOptions, Summary
from tfx_cassandra.components.progress import step

TEXTS = cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, cqltypes.UTF8Type])
KINDS = {
    'model_id': cqltypes.UTF8Type,
    'feature_name': cqltypes.UTF8Type,
    'timestamp': cqltypes.TimestampType,
    'value': cqltypes.DoubleType,
    'count': cqltypes.Int32Type,
    'raw': cqltypes.BytesType,
    'metadata': TEXTS,
}
TABLE = Table(
    'k', 't', ('model_id', 'feature_name'), ('timestamp',), tuple((name, kind.typename) for name, kind in KINDS.items())
)


class Refused(NamedTuple):
    row: int
    message: str


class Killed(BaseException):
    """The process ends here."""


class Store:
    """What was written; refuses models whose name begins with `refused`, and ends after a number of batches."""

    def __init__(self, batches: int | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self._left = batches

    def write(self, batch: pa.RecordBatch) -> list[Refused]:
        if self._left is not None:
            if not self._left:
                raise Killed
            self._left -= 1
        rows = batch.to_pylist()
        refused = [i for i, row in enumerate(rows) if row['model_id'].startswith('refused')]
        self.rows += [row for i, row in enumerate(rows) if i not in refused]
        return [Refused(i, 'InvalidRequest: no') for i in refused]


def load(paths: list[Path], store: Store, timestamp_column: str | None = None, **options: Any) -> Summary:
    made = LoadOptions(timestamp_column=timestamp_column, **options)
    loading = Load(Target(TABLE, KINDS, made.mapping, timestamp_column), made, store.write, {'table': 'k.t'})
    inputs = find(list(map(str, paths)))
    loading.check(inputs)
    with step('load', io.StringIO()) as running:
        return loading.run(inputs, running)


HEADER = 'model_id,feature_name,timestamp,value,count,raw,metadata\n'
GOOD = 'm,f,2013-01-01T00:00Z,1.5,7,0xff,"{""a"": ""b""}"\n'
NOON = datetime.datetime(2013, 1, 1, tzinfo=datetime.timezone.utc)
ROW = {
    'model_id': 'm',
    'feature_name': 'f',
    'timestamp': NOON,
    'value': 1.5,
    'count': 7,
    'raw': b'\xff',
    'metadata': [('a', 'b')],
}


def csv_file(tmp_path: Path, *lines: str, header: str = HEADER, name: str = 'rows.csv') -> Path:
    path = tmp_path / name
    path.write_text(header + ''.join(lines), encoding='utf-8', errors='surrogateescape', newline='')
    return path


def test_rows_by_name(tmp_path: Path) -> None:
    store = Store()
    summary = load([csv_file(tmp_path, GOOD, 'n,f,0,,,,\n')], store)
    assert store.rows[0] == ROW
    assert store.rows[1]['timestamp'].year == 1970
    assert [store.rows[1][name] for name in ('value', 'count', 'raw', 'metadata')] == [None] * 4
    assert (summary.rows, summary.records, summary.failed) == (2, 2, 0)


AT = 'm,f,2013-01-01T00:00Z'
BAD = [
    (f'{AT},much,,,\n', "value: got 'much', rule: a value of type double (not a number)"),
    (f'{AT},,3.5,,\n', "count: got '3.5', rule: a value of type int (not an integer)"),
    (f'{AT},,3000000000,,\n', "count: got '3000000000', rule: a value of type int (beyond 32 bits)"),
    (f'{AT},,,zz,\n', "raw: got 'zz', rule: a value of type blob (neither bytes nor text such as 0xcafe)"),
    (f'{AT},,,,nope\n', "metadata: got 'nope', rule: a value of type map<text, text> (not JSON)"),
    (',f,0,,,,\n', 'model_id: got nothing, rule: a value in every column of the primary key'),
    ('m,f,,,,,\n', 'timestamp: got nothing, rule: a value in every column of the primary key'),
    ('m,f,2013-01-01,,,,\n', "timestamp: got '2013-01-01', rule: a value of type timestamp (a time without an offset)"),
    (
        'm,f,1356998400000000,,,,\n',
        "timestamp: got '1356998400000000', rule: a value of type timestamp (not in the years 1 to 9999)",
    ),
    (
        f'{"x" * 65_536},f,0,,,,\n',
        'model_id: got 65,536 bytes, rule: at most 65,535 bytes in a column of the primary key',
    ),
    ('m\udcff,f,0,,,,\n', "model_id: got 'm\\udcff', rule: a value of type text (not UTF-8)"),
    ('m,f\n', "got 2 values in 'm,f', rule: 7, as many as there are fields"),
    ('m,f,0,"1\n2",,,\n', "value: got '1\\n2', rule: a value of type double (not a number)"),
    ('refused,f,0,,,,\n', 'InvalidRequest: no'),
]


@pytest.mark.parametrize(('line', 'error'), BAD)
def test_a_bad_record_is_one_line_with_its_place(tmp_path: Path, line: str, error: str) -> None:
    path = csv_file(tmp_path, GOOD, line, GOOD)
    store = Store()
    with pytest.raises(WriteError) as raised:
        load([path], store)
    assert str(raised.value) == f'records failed: got 1 of 3, rule: at most 0 (first: {path}:3: {error})'
    assert store.rows == [ROW, ROW]
    summary = load([path], Store(), dry_run=True)
    if 'refused' not in line:
        assert summary.errors == [f'{path}:3: {error}']


def test_other_formats_name_the_row(tmp_path: Path) -> None:
    path = tmp_path / 'rows.parquet'
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({'model_id': ['m', 'm'], 'feature_name': ['f', 'f'], 'timestamp': [0, 1], 'count': [1, 2**40]}), path
    )
    with pytest.raises(
        WriteError, match=r'first: .*rows.parquet:row 2: count: got 1099511627776, rule: a value of type int'
    ):
        load([path], Store())


@pytest.mark.parametrize(
    ('header', 'mapping', 'message'),
    [
        ('model_id,feature_name,value\n', {}, "fields: got none for 'timestamp', rule: a field or a constant for each"),
        (HEADER.replace('raw', 'row'), {}, "fields: got ['row'], rule: columns of k.t ("),
        (HEADER, {'columns': {'nope': 'raw'}}, "mapping: got 'nope', rule: a column of k.t ("),
        (HEADER, {'columns': {'value': 'nope'}}, "fields: got ['count', "),
        (HEADER, {'columns': {'value': 'value'}}, "fields: got none for 'model_id', 'feature_name', 'timestamp'"),
        (
            'model_id,timestamp\n',
            {'constants': {'feature_name': 'f', 'count': 'x'}},
            "mapping.constants: got count='x', rule: a value of type int",
        ),
    ],
)
def test_what_does_not_fit_the_table_is_said_before_the_first_write(
    tmp_path: Path, header: str, mapping: dict, message: str
) -> None:
    first, second = csv_file(tmp_path, GOOD, name='a.csv'), csv_file(tmp_path, GOOD, header=header, name='b.csv')
    store = Store()
    with pytest.raises(SchemaError) as raised:
        load([first, second], store, mapping=of_parts(mapping))
    assert str(raised.value).startswith(message)
    assert store.rows == []


def test_columns_of_other_types_are_refused(tmp_path: Path) -> None:
    path = tmp_path / 'rows.arrow'
    table = pa.table({'model_id': ['m'], 'feature_name': ['f'], 'timestamp': pa.array([0], pa.timestamp('ms'))})
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(SchemaError) as raised:
        load([path], Store())
    rule = 'a value of type timestamp (a time without a time zone)'
    assert str(raised.value) == f"timestamp: got field 'timestamp' of type timestamp[ms], rule: {rule}"


WIDE = 'origin,at,temp,humid\nJFK,2013-01-01T00:00Z,39.5,\nEWR,2013-01-01T00:00Z,,80\nLGA,2013-01-01T01:00Z,40,81\n'


def test_the_long_layout_has_a_row_per_feature(tmp_path: Path) -> None:
    store = Store()
    mapping = of_parts(
        {'columns': {'model_id': 'origin', 'timestamp': 'at'}, 'features': {'temp_f': 'temp', 'humid': 'humid'}}
    )
    summary = load([csv_file(tmp_path, WIDE, header='')], store, mapping=mapping)
    assert [(row['model_id'], row['feature_name'], row['value']) for row in store.rows] == [
        ('JFK', 'temp_f', 39.5),
        ('LGA', 'temp_f', 40.0),
        ('EWR', 'humid', 80.0),
        ('LGA', 'humid', 81.0),
    ]
    assert (summary.rows, summary.records) == (4, 3)


def test_constants(tmp_path: Path) -> None:
    store = Store()
    mapping = Mapping(
        (('model_id', 'origin'), ('timestamp', 'at'), ('value', 'temp')),
        (('feature_name', 't'), ('metadata', '{"a": "b"}')),
    )
    load([csv_file(tmp_path, WIDE, header='')], store, mapping=mapping)
    assert [row['feature_name'] for row in store.rows] == ['t'] * 3
    assert store.rows[2]['metadata'] == [('a', 'b')]


def test_a_feature_that_does_not_fit_fails_its_record(tmp_path: Path) -> None:
    mapping = of_parts({'columns': {'model_id': 'origin', 'timestamp': 'at'}, 'features': ['temp', 'humid']})
    path = csv_file(tmp_path, WIDE.replace('80', 'wet'), header='')
    store = Store()
    load([path], store, mapping=mapping, max_errors=ErrorLimit(1), dead_letters=tmp_path / 'dead.jsonl')
    assert {row['model_id'] for row in store.rows} == {'JFK', 'LGA'}
    (letter,) = map(json.loads, (tmp_path / 'dead.jsonl').read_text().splitlines())
    assert letter['_ingest']['error'] == "humid: got 'wet', rule: a value of type double (not a number)"
    assert {name: value for name, value in letter.items() if name != '_ingest'} == {
        'origin': 'EWR',
        'at': '2013-01-01T00:00Z',
        'humid': 'wet',
    }


def test_a_write_time_may_be_another_field(tmp_path: Path) -> None:
    store = Store()
    lines = ['m,f,0,2013-01-01T00:00Z\n', 'm,g,0,\n']
    path = csv_file(tmp_path, *lines, header='model_id,feature_name,timestamp,known_at\n')
    with pytest.raises(WriteError, match='known_at: got nothing, rule: a write time of every row'):
        load([path], store, timestamp_column='known_at')
    assert [row['known_at'] for row in store.rows] == [NOON]
    path = csv_file(tmp_path, GOOD)
    for name, rule in [
        ('nope', 'a column that is loaded, or a field of the input'),
        ('value', 'a column of type timestamp'),
    ]:
        with pytest.raises(SchemaError, match=f"timestamp-column: got '{name}', rule: {rule}"):
            load([path], store, timestamp_column=name)


def test_dead_letters_can_be_loaded(tmp_path: Path) -> None:
    path, dead = csv_file(tmp_path, GOOD, *(line for line, _ in BAD)), tmp_path / 'dead.jsonl'
    store = Store()
    summary = load([path], store, max_errors=ErrorLimit(len(BAD)), dead_letters=dead)
    assert (summary.rows, summary.records, summary.failed) == (1, 1 + len(BAD), len(BAD))
    letters = [json.loads(line) for line in dead.read_text().splitlines()]
    assert sorted(letter['_ingest']['error'] for letter in letters) == sorted(error for _, error in BAD)
    # Each is fixed, but for the one that has no fields, and loaded.
    fixed = {
        'value': 1.5,
        'count': 7,
        'raw': '0xff',
        'metadata': {'a': 'b'},
        'model_id': 'm',
        'feature_name': 'f',
        'timestamp': NOON.isoformat(),
    }
    again = tmp_path / 'again.jsonl'
    again.write_text(''.join(json.dumps({**letter, **fixed}) + '\n' for letter in letters))
    store = Store()
    load([again], store)
    assert store.rows == [ROW] * len(BAD)
    # As they are they fail for the same reasons.
    summary = load([dead], Store(), max_errors=ErrorLimit(len(BAD)), dead_letters=tmp_path / 'dead2.jsonl')
    assert summary.failed == len(BAD)
    second = [json.loads(line)['_ingest']['error'] for line in (tmp_path / 'dead2.jsonl').read_text().splitlines()]
    without_fields = next(error for line, error in BAD if line == 'm,f\n')
    assert sorted(second) == sorted(
        [
            'model_id: got nothing, rule: a value in every column of the primary key'
            if error == without_fields
            else error
            for _, error in BAD
        ]
    )


def many(tmp_path: Path, kind: str, count: int = 1000) -> Path:
    """A file of records, each tenth of which is refused or does not fit."""
    rows = [
        {
            'model_id': 'refused' if i % 20 == 7 else f'm{i % 50}',
            'feature_name': 'f',
            'timestamp': i,
            'count': 2**40 if i % 20 == 17 else i,
        }
        for i in range(count)
    ]
    path = tmp_path / f'many.{kind}'
    if kind == 'csv':
        path.write_text(
            'model_id,feature_name,timestamp,count\n' + ''.join(','.join(map(str, row.values())) + '\n' for row in rows)
        )
    elif kind == 'jsonl':
        path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
    else:
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize('kind', ['csv', 'jsonl', 'arrow'])
def test_a_load_that_ends_anywhere_goes_on_to_the_same_contents(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, size in ((delimited, 'BLOCK', 1000), (json_lines, 'BLOCK', 3000), (columnar, 'BATCH', 40)):
        monkeypatch.setattr(module, name, size)
    path, other, chance = many(tmp_path, kind), csv_file(tmp_path, GOOD.replace(',7,', ',1,')), random.Random(kind)
    options = {
        'max_errors': ErrorLimit(100),
        'dead_letters': tmp_path / 'dead.jsonl',
        'checkpoint': tmp_path / 'state.json',
    }
    written: list[dict[str, Any]] = []
    runs = 0
    while True:
        store = Store(chance.randint(0, 6))
        runs += 1
        try:
            summary = load([path, other], store, **options)
            break
        except Killed:
            written += store.rows
    written += store.rows
    assert runs > 4
    assert (summary.rows, summary.records, summary.failed) == (901, 1001, 100)
    assert len(written) < 1.5 * 901
    assert {row['count'] for row in written} == {i for i in range(1000) if i % 10 != 7}
    letters = [json.loads(line) for line in (tmp_path / 'dead.jsonl').read_text().splitlines()]
    assert [letter['timestamp'] for letter in letters] == ([i if kind != 'csv' else str(i) for i in range(7, 1000, 10)])
    # A complete load writes nothing more.
    store = Store(0)
    assert load([path, other], store, **options).rows == 901


def test_a_changed_input_is_read_again(tmp_path: Path) -> None:
    path, state = csv_file(tmp_path, GOOD), tmp_path / 'state.json'
    load([path], Store(), checkpoint=state)
    csv_file(tmp_path, GOOD, GOOD)
    store = Store()
    load([path], store, checkpoint=state)
    assert store.rows == [ROW, ROW]


def test_failed_rows_that_are_kept_nowhere_are_not_acknowledged(tmp_path: Path) -> None:
    path, state = csv_file(tmp_path, GOOD, BAD[0][0]), tmp_path / 'state.json'
    for _ in range(2):
        store = Store()
        with pytest.raises(WriteError):
            load([path], store, checkpoint=state)
        assert store.rows == [ROW]


def test_a_checkpoint_of_another_load_is_refused(tmp_path: Path) -> None:
    path, state = csv_file(tmp_path, GOOD), tmp_path / 'state.json'
    load([path], Store(), checkpoint=state)
    content = json.loads(state.read_text())
    state.write_text(json.dumps({**content, 'destination': {'table': 'k.other'}}))
    with pytest.raises(
        ValueError, match=r'checkpoint: got .*, rule: a checkpoint of the same load; it differs in table'
    ):
        load([path], Store(), checkpoint=state)
    state.write_text('{')
    with pytest.raises(ValueError, match=r'checkpoint: got .*, rule: a checkpoint of ingest'):
        load([path], Store(), checkpoint=state)


def test_dead_letters_of_another_load_are_kept(tmp_path: Path) -> None:
    dead = tmp_path / 'dead.jsonl'
    dead.write_text('{}\n')
    with pytest.raises(ValueError, match=r'dead-letters: got .*, rule: a file that does not exist yet'):
        load([csv_file(tmp_path, GOOD)], Store(), dead_letters=dead)


@pytest.mark.parametrize(
    ('limit', 'fails'), [('99', True), ('100', False), ('9.9%', True), ('10%', False), ('0', True), ('100%', False)]
)
def test_the_limit_of_errors(tmp_path: Path, limit: str, fails: bool) -> None:
    path = many(tmp_path, 'jsonl')
    options = {'max_errors': ErrorLimit.parse(limit), 'dead_letters': tmp_path / 'dead.jsonl'}
    if fails:
        with pytest.raises(
            WriteError, match=rf'records failed: got \d+ of [\d,]+, rule: at most {limit} \(first: .*many.jsonl:8: '
        ):
            load([path], Store(), **options)
    else:
        assert load([path], Store(), **options).failed == 100


@pytest.mark.parametrize('text', ['', '-1', '1.5', 'x', '101%', '-1%', '%', 'nan%', '\N{ARABIC-INDIC DIGIT ONE}'])
def test_limits_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match='max-errors: got'):
        ErrorLimit.parse(text)


def test_errors_need_a_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='max-errors: got'):
        LoadOptions(max_errors=ErrorLimit(1))


@pytest.mark.parametrize(
    'text',
    [
        'columns: {a: b}\nconstants: {c: 1.5, d: x}\nfeatures: [e]\n',
        '{"columns": {"a": "b"}, "constants": {"c": 1.5, "d": "x"}, "features": {"e": "e"}}',
    ],
)
def test_mapping_files(tmp_path: Path, text: str) -> None:
    (tmp_path / 'mapping').write_text(text)
    assert parse(tmp_path / 'mapping') == Mapping((('a', 'b'),), (('c', '1.5'), ('d', 'x')), (('e', 'e'),))


@pytest.mark.parametrize(
    'text',
    [
        '[',
        '5',
        'column: {}',
        'columns: 5',
        'columns: {a: 5}',
        'features: [1]',
        'columns: {a: b}\nconstants: {a: c}',
        'columns: {value: v}\nfeatures: [e]',
        '\x00',
    ],
)
def test_wrong_mapping_files(tmp_path: Path, text: str) -> None:
    (tmp_path / 'mapping').write_text(text)
    with pytest.raises(ValueError, match=r'^mapping.*: got .*, rule: ') as raised:
        parse(tmp_path / 'mapping')
    assert '\n' not in str(raised.value)
    with pytest.raises(ValueError, match='mapping: got'):
        parse(tmp_path / 'absent')


def test_a_load_that_ends_before_its_first_checkpoint_goes_on_with_its_dead_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = csv_file(tmp_path, GOOD, BAD[0][0])
    options = {
        'max_errors': ErrorLimit(1), 'dead_letters': tmp_path / 'dead.jsonl', 'checkpoint': tmp_path / 'state.json',
    }  # fmt: skip

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, 'save', killed)
        with pytest.raises(Killed):
            load([path], Store(), **options)
    assert len((tmp_path / 'dead.jsonl').read_text().splitlines()) == 1
    assert load([path], Store(), **options).failed == 1
    assert len((tmp_path / 'dead.jsonl').read_text().splitlines()) == 1
