"""What an SSTable holds, compared with what is read of it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest
from recorded_sstables import Recorded, unpacked

from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import data, describe, layout
from tfx_cassandra.components.sstable.files import Files, data_files, local_files
from tfx_cassandra.components.sstable.index import entries
from tfx_cassandra.components.sstable.snapshot import open_snapshot


@pytest.fixture(scope='module')
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    return unpacked(tmp_path_factory.mktemp('recorded'))


def test_numbers_are_those_of_what_is_read(recorded: dict[str, Recorded]) -> None:
    for one in recorded.values():
        schema, sstables = open_snapshot(one.folder)
        headers = [sstable.statistics.header for sstable in sstables]
        for sstable in sstables:
            found = describe.describe(sstable.files, widest=100)
            plan = layout.plan_of(schema, headers, [], [])
            stream = layout.stream_of(schema, sstable.statistics.header, found.version, found.name, layout.Part())
            content = list(sstable.feed())
            merger = data.Merger(plan, [stream], [iter([*content, b'']).__next__], 0, 1000, 1 << 20)
            while merger.batch()[0]:
                pass
            assert merger.counts == [(found.partitions, found.rows)]
            assert found.uncompressed == sum(map(len, content)) == sum(partition.bytes for partition in found.widest)
            assert found.uncompressed <= found.largest_partition * found.partitions
            assert found.bytes == sstable.files.ranges('Data.db').size
            assert [p.bytes for p in found.widest] == sorted((p.bytes for p in found.widest), reverse=True)
            assert len(found.widest) == found.partitions


def test_ranges(recorded: dict[str, Recorded]) -> None:
    """Of the table `written`, whose statements are in sstable_tables.WrittenTable."""
    first, *_ = (describe.describe(local_files(path)) for path in data_files([recorded['written'].folder]))
    moment = lambda microseconds: datetime.datetime(1970, 1, 1, 0, 0, 0, microseconds, datetime.timezone.utc)  # noqa: E731
    assert (first.version, first.compression, first.chunk_kib) == ('nb', 'LZ4Compressor', 16)
    # 92 rows and the static rows of three partitions.
    assert (first.partitions, first.rows) == (5, 60 + 5 + 27 + 3)
    assert first.written == (moment(9), moment(14))  # a list is deleted just before it is written
    assert first.ttls == (0, 5_000_100)
    assert first.tokens == (data.token(b'\0\0\0\5'), data.token(b'\0\0\0\3'))
    assert (first.level, first.repaired) == (0, None)
    assert {partition.key for partition in describe.describe(first_files(recorded), 9).widest} == set('12345')


def first_files(recorded: dict[str, Recorded]) -> Files:
    return local_files(next(recorded['written'].folder.glob('nb-1-*-Data.db')))


class Whole:
    """A file in memory, of which at most so many bytes are read at once."""

    def __init__(self, content: bytes) -> None:
        self.content, self.size = content, len(content)

    def read(self, start: int, length: int) -> bytes:
        return self.content[start : start + length]


@pytest.mark.parametrize('size', [1, 7, 30, 1 << 20])
def test_an_index_is_read_in_any_pieces(size: int) -> None:
    expected = [(bytes([n]) * (n % 40), n * 100) for n in range(100)]
    content = b''.join(
        len(key).to_bytes(2, 'big') + key + b'\xc0' + position.to_bytes(2, 'big') + b'\3abc'
        for key, position in expected
    )
    assert list(entries(Whole(content), 'i', size=size)) == expected
    assert list(entries(Whole(content), 'i', len(expected[0][0]) + 9, size)) == expected[1:]
    with pytest.raises(ReadError, match=r'^i: got \d+ bytes, rule: \d+ more'):
        list(entries(Whole(content[:-1]), 'i', size=size))


def test_keys_as_text() -> None:
    marshal = 'org.apache.cassandra.db.marshal.'
    assert describe._text(f'{marshal}UTF8Type', b'abc') == 'abc'
    composite = b'\0\4\0\0\0\7\0' + b'\0\1x\0'
    assert describe._text(f'{marshal}CompositeType({marshal}Int32Type,{marshal}UTF8Type)', composite) == '7:x'


def test_without_an_index_no_partition_is_named(recorded: dict[str, Recorded]) -> None:
    (path, *_) = data_files([recorded['written'].folder])
    files = local_files(path)
    less = Files(files.name, 'nb', {name: file for name, file in files.components.items() if name != 'Index.db'})
    assert describe.describe(less).widest == ()


def test_the_command(recorded: dict[str, Recorded], capsys: pytest.CaptureFixture) -> None:
    folder = recorded['written'].folder
    assert cli.main(['sstable', 'describe', str(folder)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ['name', 'compression', 'bytes']
    assert [line.split()[0] for line in lines] == ['nb-1-big', 'nb-2-big', 'nb-3-big', 'nb-4-big']
    assert (
        cli.main(['sstable', 'describe', str(next(folder.glob('nb-1-*-Data.db'))), '--format', 'json', '--widest', '1'])
        == 0
    )
    (one,) = json.loads(capsys.readouterr().out)
    assert (one['rows'], one['partitions'], len(one['widest'])) == (95, 5, 1)


@pytest.mark.parametrize('name', ['nb-1-big-Index.db', 'schema.cql'])
def test_what_is_no_sstable_is_an_error_of_one_line(
    recorded: dict[str, Recorded], name: str, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(['sstable', 'describe', str(recorded['written'].folder / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('tfx-cassandra: error: ')


def test_a_folder_without_sstables(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['sstable', 'describe', str(tmp_path)]) == 2
    assert 'got a folder without Data.db files' in capsys.readouterr().err
