"""The pure parts of benchmarks/read: medians, the target table, and what a run says of itself."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'read'


@pytest.fixture(autouse=True)
def plain_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark is a plain folder of scripts: it is on the path only while they run."""
    monkeypatch.syspath_prepend(str(FOLDER))


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def run(reader: str, wall: float, rows: int = 1000, table_rows: int = 1000, **fields: float) -> dict:
    values = {'cpu': 0.002, 'peak': 50e6, 'process_wall': wall + 1, **fields}
    return {'reader': reader, 'layout': 'feature_store', 'table_rows': table_rows, 'rows': rows, 'wall': wall, **values}


def figures_of(*runs: dict) -> object:
    figures = module('figures')
    return figures.Figures(figures.summarize(runs), rows=1000, large=4000)


def verdict(name: str, *runs: dict) -> list[str]:
    lines = module('figures').verdicts(figures_of(*runs))
    (line,) = [line for line in lines if line[0] == name]
    return line


def test_medians_are_taken_per_reader_and_table() -> None:
    runs = [run('raw', 1.0, cpu=0.001), run('batches', 2.0), run('raw', 4.0, cpu=0.003), run('raw', 2.0, cpu=0.009)]
    raw, batches = module('figures').summarize([*runs])
    assert (raw.key, raw.rate, raw.rounds) == ('raw', 500.0, 3)
    assert raw.cpu == pytest.approx(3.0)  # seconds a million rows
    assert raw.process_wall == 3.0
    assert (batches.key, batches.rounds) == ('batches', 1)


@pytest.mark.parametrize(
    ('wall', 'measured', 'expected'),
    [(1.05, '0.95', 'aim'), (1.1, '0.91', 'floor'), (1.25, '0.80', 'MISSED')],
)
def test_a_share_of_the_limit_has_a_verdict(wall: float, measured: str, expected: str) -> None:
    line = verdict('(b) record batches, share of (a)', run('raw', 1.0), run('batches', wall))
    assert line[1:] == ['0.85', '0.95', measured, expected]


@pytest.mark.parametrize(('cpu', 'expected'), [(0.0008, 'aim'), (0.0011, 'floor'), (0.0013, 'MISSED')])
def test_less_cpu_is_better(cpu: float, expected: str) -> None:
    assert verdict('client CPU s / M rows, (c)', run('examples', 1.0, cpu=cpu))[-1] == expected


def test_memory_is_compared_between_the_two_tables() -> None:
    small, large = run('examples', 1.0, peak=100e6), run('examples', 4.0, 4000, 4000, peak=105e6)
    assert verdict('peak memory, 4 x the rows', small, large)[3:] == ['1.05x', 'floor']


def test_what_the_work_takes_is_told_apart_from_what_the_imports_take() -> None:
    small = run('examples', 1.0, peak=100e6) | {'details': {'resident': 90e6}}
    large = run('examples', 4.0, 4000, 4000, peak=105e6) | {'details': {'resident': 91e6}}
    assert figures_of(small, large).grown('examples') == '10 MB for 1,000 rows, 14 MB for 4,000 rows'
    assert figures_of(run('examples', 1.0)).grown('examples') == ''


def test_a_slow_reader_s_small_table_still_gives_a_ratio() -> None:
    line = verdict("(c) in Beam against TFX's chain", run('example_gen', 1.0), run('tfx_chain', 2.0, 100, 100))
    assert line[3:] == ['20.00x', 'aim']


def test_what_returned_other_rows_is_marked_and_gives_no_figure() -> None:
    runs = [run('raw', 1.0), run('batches', 1.0), run('batches', 1.0, rows=999)]
    figures = module('figures')
    (_, line) = figures.rates(figures.summarize(runs), {'raw': 'a', 'batches': 'b'}, {'feature_store': 1000.0})
    assert line[-1] == '999 or 1,000 of 1,000: WRONG'
    assert verdict('(b) record batches, share of (a)', *runs)[-1] == 'not measured'


def test_what_was_not_measured_is_said() -> None:
    assert {line[-1] for line in module('figures').verdicts(figures_of())} == {'not measured'}


def test_a_run_counts_children_and_takes_the_reader_s_own_clock(tmp_path: Path) -> None:
    script = tmp_path / 'reader.py'
    script.write_text(
        'import clock, subprocess, sys, time\n'
        'held = bytearray(50_000_000)\n'
        'code = "import time; held = bytearray(b\'x\' * 60_000_000); time.sleep(0.4); sum(range(3_000_000))"\n'
        'subprocess.run([sys.executable, "-c", code])\n'
        'clock.say(7, 0.25, cpu=None, note="n")\n'
    )
    log = tmp_path / 'log'
    done = module('measure').run([sys.executable, str(script)], log, {'PYTHONPATH': str(FOLDER)}, timeout=30)
    assert (done.rows, done.wall, done.details) == (7, 0.25, {'note': 'n'})
    assert done.process_wall > 0.4
    assert done.cpu == done.process_cpu > 0.02
    assert done.peak > 110e6  # both processes' memory at the same time


@pytest.mark.parametrize(
    ('code', 'message'),
    [
        ('import sys; sys.exit("no such table")', 'exit code 1: no such table'),
        ('print("done")', 'exit code 0: done'),
        ('import time; time.sleep(30)', 'exit code -9 .out of time.: no output'),
    ],
)
def test_a_reader_that_fails_says_why_in_one_line(tmp_path: Path, code: str, message: str) -> None:
    measure = module('measure')
    with pytest.raises(measure.ReaderError, match=message):
        measure.run([sys.executable, '-c', code], tmp_path / 'log', {}, timeout=1.5)


def test_processes_start_together_and_their_rows_add_up(capfd: pytest.CaptureFixture) -> None:
    module('clock').measure(lambda part, parts, connected: connected() or 10 * part + parts, 2)
    said = json.loads(capfd.readouterr().out)
    assert said['rows'] == 0 + 2 + 10 + 2
    assert said['wall'] > 0


def test_a_peer_that_cannot_be_had_gives_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', str(tmp_path))
    environments, readers = module('environments'), module('readers')
    with pytest.raises(environments.AbsentError, match=r'^no java on PATH$'):
        readers.BY_KEY['dsbulk'].command(tmp_path)
    with pytest.raises(environments.AbsentError, match=r'^no javac on PATH$'):
        readers.BY_KEY['beam_java'].command(tmp_path)


def test_every_reader_has_its_script() -> None:
    readers = module('readers')
    assert all((readers.FOLDER / reader.script).exists() for reader in readers.READERS)
    assert {reader.key for reader in readers.READERS} >= {'raw', 'batches', 'examples', 'example_gen', 'tfx_chain'}


def test_every_other_row_has_a_map_and_layouts_name_their_columns() -> None:
    load = module('load')
    for layout in load.LAYOUTS.values():
        values = layout.row(3, 1)
        assert len(values) == len(layout.columns)
        assert set(layout.example_columns) <= set(layout.columns)
        assert values == layout.row(3, 1)
    metadata = [load.FEATURE_STORE.row(0, i)[4] for i in range(4)]
    assert [isinstance(value, dict) and len(value) == 2 for value in metadata] == [False, True, False, True]


def test_a_digest_is_of_the_examples_and_not_of_their_order_or_bytes(tmp_path: Path) -> None:
    features = [
        b'\n\n\n\x01' + name + b'\x12\x05\x1a\x03\n\x01' + value for name, value in ((b'a', b'\1'), (b'b', b'\2'))
    ]
    one, other = (b'\n' + bytes([len(body)]) + body for body in (b''.join(features), b''.join(features[::-1])))
    digest = module('digest')
    found = {}
    for name, records in {'here': [one, b''], 'there': [b'', other], 'less': [one]}.items():
        folder = tmp_path / name / 'Split-train'
        folder.mkdir(parents=True)
        with digest.tf.io.TFRecordWriter(str(folder / 'data_tfrecord-00000-of-00001.gz'), 'GZIP') as file:
            for record in records:
                file.write(record)
        found[name] = digest.digest(tmp_path / name)
    assert found['here'] == found['there'] != found['less']
    assert found['here']['Split-train'][0] == 2
