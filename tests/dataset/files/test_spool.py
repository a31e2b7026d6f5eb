"""Batches are read from spool files as they were written, and the runner shuffles their places only."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.coders import registry
from apache_beam.testing.util import assert_that, equal_to

from tfx_cassandra.components.dataset.files import spool
from tfx_cassandra.components.errors import DatasetError

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

    with spool.spooling(beam.Pipeline, str(tmp_path / 'spool')) as pipeline:
        sides = {'left': pipeline | 'l' >> beam.Create(left), 'right': pipeline | 'r' >> beam.Create(right)}
        got = sides | spool.CoGroupBatches(str(tmp_path / 'spool')) | beam.MapTuple(numbers)
        assert_that(got, equal_to(list(expected.items())))
    assert not list(tmp_path.iterdir())
    spool.clean(str(tmp_path / 'spool'))


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


@pytest.mark.parametrize('error', [None, RuntimeError('of the pipeline')])
def test_a_folder_that_cannot_be_removed_neither_fails_a_pipeline_nor_hides_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception | None
) -> None:
    def delete(_: list[str]) -> None:
        raise OSError('Directory\nnot empty')

    @contextlib.contextmanager
    def pipeline() -> Iterator[None]:
        yield

    monkeypatch.setattr(spool.FileSystems, 'delete', delete)
    folder = str(tmp_path / 'spool')
    expected = contextlib.nullcontext() if error is None else pytest.raises(RuntimeError, match='of the pipeline')
    with expected, spool.spooling(pipeline, folder):
        if error is not None:
            raise error
    assert f'spool folder {folder}: not removed (Directory not empty)' in caplog.text
    with pytest.raises(OSError, match='not empty'):
        spool.clean(folder)


def test_the_files_of_a_store_without_folders_are_deleted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    deleted: list[list[str]] = []
    monkeypatch.setattr(spool.FileSystems, 'get_filesystem', lambda _: SimpleNamespace(has_dirs=lambda: False))
    monkeypatch.setattr(spool.FileSystems, 'delete', deleted.append)
    spool.clean('gs://bucket/spool')
    assert deleted == [['gs://bucket/spool/']]


def test_a_worker_that_does_not_find_the_folder_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is relative, so it is another one for each process, as a local one is for each machine."""

    def elsewhere(element: int) -> int:
        (tmp_path / 'worker').mkdir(exist_ok=True)
        os.chdir(tmp_path / 'worker')
        return element

    def run() -> None:
        with spool.spooling(beam.Pipeline, 'out/spool') as pipeline:
            moved = pipeline | beam.Create([1]) | beam.Map(elsewhere) | beam.Reshuffle()
            _ = {'left': moved | beam.Map(lambda n: (n, batch(n)))} | spool.CoGroupBatches('out/spool')

    (tmp_path / 'submitter').mkdir()
    monkeypatch.chdir(tmp_path / 'submitter')
    with pytest.raises(Exception, match=r"spool folder: got 'out/spool', which the worker on .* does not find, rule:"):
        run()


def test_a_place_is_read_without_what_stands_behind_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an object store every byte read is one transferred: its files have a buffer of 16 MB."""
    transferred: list[int] = []

    class Remote(io.RawIOBase):
        def __init__(self, path: str) -> None:
            self._file = open(path, 'rb', buffering=0)  # noqa: SIM115

        def readable(self) -> bool:
            return True

        def seekable(self) -> bool:
            return True

        def seek(self, offset: int, whence: int = 0) -> int:
            return self._file.seek(offset, whence)

        def readinto(self, target: memoryview) -> int:
            transferred.append(len(target))
            return self._file.readinto(target)

    file = spool.SpoolFile(str(tmp_path))
    places = [file.append(bytes([number]) * 1000) for number in range(200)]
    file.close()
    monkeypatch.setattr(
        spool.FileSystems, 'open', lambda path, **_: io.BufferedReader(Remote(path), buffer_size=16 << 20)
    )
    assert list(spool.read(places[::7])) == [bytes([number]) * 1000 for number in range(0, 200, 7)]
    assert sum(transferred) == 1000 * len(places[::7])
    with pytest.raises(DatasetError, match='got an end 500 bytes early'):
        list(spool.read([places[-1]._replace(offset=199_500)]))


def test_of_google_s_store_a_place_is_read_without_what_stands_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcsio = pytest.importorskip('apache_beam.io.gcp.gcsio')
    transferred: list[int] = []

    class Blob:
        def __init__(self, path: str) -> None:
            self._content = Path(path).read_bytes()
            self.size = len(self._content)

        def download_as_bytes(self, start: int, end: int, **_: object) -> bytes:
            part = self._content[start : end + 1]
            transferred.append(len(part))
            return part

    file = spool.SpoolFile(str(tmp_path))
    places = [file.append(bytes([number]) * 1000) for number in range(200)]
    file.close()
    monkeypatch.setattr(spool.FileSystems, 'open', lambda path, **_: gcsio.BeamBlobReader(Blob(path)))
    for order in (places[::7], places[::-7], places[:3]):
        transferred.clear()
        assert list(spool.read(order)) == [bytes([place.offset // 1000]) * 1000 for place in order]
        assert sum(transferred) <= 1001 * len(order)
