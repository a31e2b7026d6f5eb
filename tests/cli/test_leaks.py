"""`tfx-cassandra leaks` on files as the component writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.dataset.files.encode import encode
from tfx_cassandra.components.dataset.files.examples import compressed

HOUR = 3_600_000  # milliseconds
KINDS = {'user': 'bytes_list', 'shop': 'int64_list', 'at': 'int64_list', 'x': 'float_list'}


@pytest.fixture(params=[(), ('x',)], ids=['Example', 'SequenceExample'])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Two splits that share the user ada, but no user and shop; the second starts two hours after the first ends."""
    rows = {
        'train': {'user': ['ada', 'bob'], 'shop': [1, 2], 'at': [0, 9 * HOUR], 'x': [[0.5], [1.5, 2.5]]},
        'eval': {'user': ['ada', 'cy'], 'shop': [2, 1], 'at': [11 * HOUR, 12 * HOUR], 'x': [[], [3.5]]},
    }
    for name, columns in rows.items():
        (tmp_path / f'Split-{name}').mkdir()
        framed = encode(pa.RecordBatch.from_pydict(columns), KINDS, sequences=request.param)
        (tmp_path / f'Split-{name}' / 'data_tfrecord-00000-of-00001.gz').write_bytes(compressed(framed.buffer))
    return str(tmp_path)


@pytest.mark.parametrize(
    ('options', 'code', 'line'),
    [
        (['--entity', 'user'], 1, 'entity: 1 examples of train have an entity of eval, such as'),
        (['--entity', 'user,shop'], 0, 'no leak'),
        (['--time', 'at', '--gap-hours', '2'], 0, 'no leak'),
        (['--time', 'at', '--gap-hours', '2.5'], 1, 'time: 1 examples of train are not early enough before eval'),
        (['eval', 'train', '--time', 'at'], 1, 'time: 2 examples of eval are not early enough before train'),
    ],
)
def test_what_splits_share(
    folder: str, options: list[str], code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(['leaks', folder, *options]) == code
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines[:2]) == ['eval: 2 examples', 'train: 2 examples']
    assert lines[2].startswith(line)
    assert len(lines) == 3
    assert cli.main(['leaks', folder, *options, '--format', 'json']) == code
    found = json.loads(capsys.readouterr().out)
    assert found == {'examples': {'eval': 2, 'train': 2}, 'leaks': lines[2:] if code else []}


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ([], '--entity: got None, rule: this or --time'),
        (['train', 'test', '--time', 'at'], "splits: got 'test', rule: a folder Split-test with files in"),
        (['--entity', 'who'], "columns: got 'who', rule: a feature with one value in every example"),
    ],
)
def test_bad_options_are_one_line(
    folder: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(['leaks', folder, *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f'tfx-cassandra: error: {message}')
