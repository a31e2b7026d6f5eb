"""Batches are read from spool files as they were written, and the runner shuffles their places only."""

from __future__ import annotations

import contextlib
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.coders import registry
from apache_beam.testing.util import assert_that, equal_to

from tfx_cassandra.components.dataset.files import spool

SCHEMA = pa.schema([('n', pa.int64()), ('words', pa.list_(pa.string()))])


def batch(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{'n': n, 'words': [str(n)] * (n % 3) or None} for n in numbers], SCHEMA)


def test_batches_are_grouped_as_beam_groups_elements(tmp_path: Path) -> None:
    left = [(i % 3, batch(*range(i, 2 * i))) for i in range(20)]
    right = [(i % 4, batch(i).slice(i % 2)) for i in range(9)]
    expected = {
        key: [sorted(row['n'] for k, part in side if k == key for row in part.to_pylist()) for side in (left, right)]
        for key in range(4)
    }

    def numbers(key: int, parts: dict) -> tuple:
        rows = {name: [row for part in parts[name] for row in part.to_pylist()] for name in ('left', 'right')}
        assert all(
            row['words'] == ([str(row['n'])] * (row['n'] % 3) or None) for grouped in rows.values() for row in grouped
        )
        again = {name: sum(part.num_rows for part in parts[name]) for name in rows}
        assert again == {name: len(grouped) for name, grouped in rows.items()}
        return key, [sorted(row['n'] for row in grouped) for grouped in rows.values()]

    with beam.Pipeline() as pipeline:
        sides = {'left': pipeline | 'l' >> beam.Create(left), 'right': pipeline | 'r' >> beam.Create(right)}
        got = sides | spool.CoGroupBatches(str(tmp_path / 'spool')) | beam.MapTuple(numbers)
        assert_that(got, equal_to(list(expected.items())))
    assert list((tmp_path / 'spool').iterdir())
    spool.clean(str(tmp_path / 'spool'))
    spool.clean(str(tmp_path / 'spool'))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('rows', [0, 10, 100_000])
def test_the_runner_shuffles_only_places(tmp_path: Path, rows: int) -> None:
    sizes = []
    coder = registry.get_coder(object)

    def size(key: int, spooled: spool.Spooled) -> None:
        sizes.append(len(coder.encode((key, spooled))))
        assert sum(part.num_rows for part in spooled) == rows

    spooling = spool._Spool(str(tmp_path))
    spooling.start_bundle()
    given = [*spooling.process((1, batch(*range(rows)))), *spooling.process((1, batch(*range(rows))))]
    spooling.finish_bundle()
    for element in given:
        size(*element)
    assert max(sizes) < 1000
    assert given[0][1].places[0].path == given[1][1].places[0].path
    assert given[1][1].places[0].offset == given[0][1].places[0].size


def test_a_bundle_without_batches_makes_no_file(tmp_path: Path) -> None:
    spooling = spool._Spool(str(tmp_path))
    spooling.start_bundle()
    spooling.finish_bundle()
    assert not list(tmp_path.iterdir())


def test_few_files_are_open_at_once_whatever_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = []
    for number in range(50):
        file = spool.SpoolFile(str(tmp_path))
        places += [file.append(b'%d-%d' % (number, part)) for part in range(3)]
        file.close()
    opened: list = []
    real = spool.FileSystems.open

    def opening(*given: object, **named: object) -> object:
        opened.append(real(*given, **named))
        assert sum(not file.closed for file in opened) <= spool.MAX_OPEN_FILES
        return opened[-1]

    monkeypatch.setattr(spool.FileSystems, 'open', opening)
    order = [*places, *places[::3], *places[::-1], *places[:3] * 5]
    contents = {place: b'%d-%d' % divmod(i, 3) for i, place in enumerate(places)}
    assert list(spool.read(order)) == [contents[place] for place in order]
    assert len(opened) <= 50 + 50 + 50 + 1
    reading = spool.read(places)
    next(reading)
    reading.close()
    assert all(file.closed for file in opened)
    assert list(spool.read([])) == []


def test_the_file_of_a_bundle_that_failed_is_closed(tmp_path: Path) -> None:
    spooling = spool._Spool(str(tmp_path))
    spooling.start_bundle()
    list(spooling.process((1, batch(1))))
    failed = spooling._file
    spooling.start_bundle()
    assert failed._file.closed
    list(spooling.process((1, batch(1))))
    spooling.teardown()
    assert spooling._file._file.closed


def test_a_folder_is_removed_after_a_failure_too(tmp_path: Path) -> None:
    for error in (None, RuntimeError('no')):
        folder = tmp_path / 'spool'
        folder.mkdir()
        (folder / 'left').write_bytes(b'over')
        with contextlib.suppress(RuntimeError), spool.spooling(beam.Pipeline, str(folder)) as pipeline:
            _ = pipeline | beam.Create([1])
            if error:
                raise error
        assert not folder.exists()
