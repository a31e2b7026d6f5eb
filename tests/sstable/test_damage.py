"""Damaged files are an error, whatever is damaged, and never give other rows: on files that a real Cassandra wrote."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import random
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded_sstables import Recorded, unpacked
from snapshots import in_files

from tfx_cassandra.components.cql import rows, types
from tfx_cassandra.components.errors import DatasetError, ReadError, SchemaError
from tfx_cassandra.components.sstable import chunks, data, layout
from tfx_cassandra.components.sstable.files import LocalFile, local_files, split_name
from tfx_cassandra.components.sstable.read import Reading
from tfx_cassandra.components.sstable.snapshot import open_snapshot


@pytest.fixture(scope='module')
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    return unpacked(tmp_path_factory.mktemp('recorded'))


@pytest.fixture
def table(recorded: dict[str, Recorded], tmp_path: Path) -> Recorded:
    """A copy of a table with many SSTables and rows, to damage."""
    most = large(recorded)
    return most._replace(folder=Path(shutil.copytree(most.folder, tmp_path / 'copy')))


def large(recorded: dict[str, Recorded]) -> Recorded:
    return max(recorded.values(), key=lambda one: len(one.values[0]) * len(list(one.folder.glob('*-Data.db'))))


@pytest.mark.parametrize('batch_rows', [1, 2, 7])
def test_batches_cut_partitions_anywhere(recorded: dict[str, Recorded], batch_rows: int) -> None:
    for one in recorded.values():
        assert in_files(one.folder, one.now, batch_rows=batch_rows)[1] == one.values


@pytest.mark.parametrize('size', [1, 3, 64])
def test_bytes_may_come_in_any_pieces(
    recorded: dict[str, Recorded], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = data.Merger

    def cut(plan: object, streams: object, feeds: list, *rest: int) -> data.Merger:
        return whole(plan, streams, [pieces(feed, size) for feed in feeds], *rest)

    monkeypatch.setattr(data, 'Merger', cut)
    for one in recorded.values():
        assert in_files(one.folder, one.now)[1] == one.values


def pieces(feed: object, size: int) -> object:
    def parts() -> Iterator[bytes]:
        while content := feed():
            for start in range(0, len(content), size):
                yield content[start : start + size]

    found = parts()
    return lambda: next(found, b'')


def outcome(table: Recorded) -> str:
    """Says how reading a table ends: 'equal' to what CQL said, or the error."""
    try:
        return 'equal' if in_files(table.folder, table.now)[1] == table.values else 'different'
    except (ReadError, SchemaError, DatasetError) as error:
        return str(error)


def test_a_flipped_bit_anywhere_in_the_data_is_an_error(table: Recorded) -> None:
    for path in table.folder.glob('*-Data.db'):
        whole = path.read_bytes()
        for at in range(0, len(whole), max(1, len(whole) // 40)):
            path.write_bytes(flipped(whole, at, at // 3 % 8))
            assert 'rule: undamaged' in outcome(table) or 'Digest.crc32: got' in outcome(table), (path.name, at)
        path.write_bytes(whole)


@pytest.mark.parametrize('component', ['Statistics.db', 'Digest.crc32', 'CompressionInfo.db', 'Summary.db', 'TOC.txt'])
def test_a_flipped_bit_in_a_small_file_never_gives_other_rows(table: Recorded, component: str) -> None:
    path = sorted(table.folder.glob(f'*-{component}'))[0]
    whole = path.read_bytes()
    step = max(1, len(whole) // 60)
    found = []
    for at in range(0, len(whole), step):
        path.write_bytes(flipped(whole, at, at // step % 8))
        found.append(outcome(table))
    assert 'different' not in found
    assert any(result != 'equal' for result in found)
    if component in ('Statistics.db', 'Digest.crc32'):
        assert 'equal' not in found


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


@pytest.mark.parametrize('component', ['Data.db', 'Statistics.db', 'CompressionInfo.db', 'Digest.crc32', 'Summary.db'])
def test_a_file_that_ends_early_is_an_error(table: Recorded, component: str) -> None:
    path = sorted(table.folder.glob(f'*-{component}'))[0]
    whole = path.read_bytes()
    for size in sorted({0, 1, len(whole) // 2, len(whole) - 1}):
        path.write_bytes(whole[:size])
        assert outcome(table) not in ('equal', 'different'), size


def test_a_file_that_is_missing_is_named(table: Recorded) -> None:
    for path in sorted(table.folder.glob('nb-1-big-*')):
        hidden = path.rename(path.with_name(f'hidden-{path.name}'))
        component = path.name.removeprefix('nb-1-big-')
        expected = f'nb-1-big: got no {component}, rule: all files of an SSTable'
        assert outcome(table) == expected
        hidden.rename(path)


def test_a_file_that_is_gone_since_it_was_opened_is_named(table: Recorded) -> None:
    schema, sstables = open_snapshot(table.folder)
    (table.folder / 'nb-1-big-Data.db').unlink()
    with pytest.raises(ReadError, match=r'/nb-1-big-Data\.db: got No such file or directory, rule: a file that stays'):
        list(Reading(schema, sstables, table.now))
    with pytest.raises(ReadError, match=r'/nothing: got No such file or directory, rule: a file that stays'):
        LocalFile(table.folder / 'nothing')


def test_an_sstable_without_toc_is_refused(table: Recorded) -> None:
    (table.folder / 'nb-1-big-TOC.txt').unlink()
    assert outcome(table) == 'nb-1-big: got no TOC.txt, rule: all files of an SSTable'


@pytest.mark.parametrize('name', ['me-1-big-Data.db', 'oa-1-bti-Data.db', 'pa-1-big-Data.db', 'nb-1-bti-Data.db'])
def test_an_unknown_version_is_refused_by_name(name: str) -> None:
    version, _, form, _ = name.split('-')
    with pytest.raises(ReadError, match=f'^{name}: got version {version}-{form}, rule: one of nb-big, oa-big, da-bti'):
        split_name(name)


@pytest.mark.parametrize('name', ['Data.db', 'nb-1-big', 'nb_txn_compaction_1.log', 'NB-1-big-Data.db'])
def test_what_is_no_file_of_an_sstable(name: str) -> None:
    with pytest.raises(ReadError, match='rule: VERSION-ID-FORMAT-COMPONENT'):
        split_name(name)


@pytest.mark.parametrize('name', ['manifest.json', 'schema.cql'])
def test_a_folder_that_is_no_snapshot_is_refused(table: Recorded, name: str) -> None:
    """A folder that Cassandra writes to has neither of these files."""
    (table.folder / name).unlink()
    assert f'got no {name}, rule: the folder of a snapshot, not one that Cassandra writes to' in outcome(table)


@pytest.mark.parametrize('text', ['', '[]', '{}', '{"files": 3}', '{"files": [3]}'])
def test_a_manifest_that_is_none(table: Recorded, text: str) -> None:
    (table.folder / 'manifest.json').write_text(text)
    said = outcome(table)
    assert 'manifest.json: got ' in said
    assert said.endswith('rule: the manifest of a snapshot')


def test_only_what_the_manifest_lists_is_read(table: Recorded) -> None:
    (table.folder / 'nb-99-big-Data.db').write_bytes(b'half written')
    assert outcome(table) == 'equal'


def test_a_snapshot_of_an_empty_table(tmp_path: Path) -> None:
    (tmp_path / 'manifest.json').write_text('{"files": []}')
    (tmp_path / 'schema.cql').write_text('CREATE TABLE a.b (k int, c int, v text, PRIMARY KEY (k, c))')
    schema, sstables = open_snapshot(tmp_path)
    reading = Reading(schema, sstables, datetime.datetime.now(datetime.timezone.utc))
    assert (list(reading), reading.schema.names) == ([], ['k', 'c', 'v'])


def test_a_drop_without_its_time_is_refused(recorded: dict[str, Recorded], tmp_path: Path) -> None:
    dropped = next(one for one in recorded.values() if ' DROP ' in (one.folder / 'schema.cql').read_text())
    copy = dropped._replace(folder=Path(shutil.copytree(dropped.folder, tmp_path / 'copy')))
    text = (copy.folder / 'schema.cql').read_text()
    lines = [line.partition(' USING')[0] + ';' if ' DROP ' in line else line for line in text.splitlines()]
    (copy.folder / 'schema.cql').write_text('\n'.join(lines))
    assert 'rule: DROP ... USING TIMESTAMP' in outcome(copy)


def test_rows_that_the_statistics_do_not_count_are_an_error(
    recorded: dict[str, Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = next(iter(recorded.values()))
    schema, sstables = open_snapshot(one.folder)
    more = dataclasses.replace(sstables[0].statistics, rows=sstables[0].statistics.rows + 1)
    sstables[0] = dataclasses.replace(sstables[0], statistics=more)
    with pytest.raises(ReadError, match=r'got \d+ rows, rule: \d+, as its statistics say'):
        list(Reading(schema, sstables, one.now))


def test_where_chunks_start_takes_eight_bytes_each(tmp_path: Path) -> None:
    count, codec = 100_000, b'org.apache.cassandra.io.compress.LZ4Compressor'
    head = len(codec).to_bytes(2, 'big') + codec + struct.pack('>iiiqi', 0, 10, 10, 10 * count, count)
    (tmp_path / 'nb-1-big-CompressionInfo.db').write_bytes(head + struct.pack(f'>{count}q', *range(0, 9 * count, 9)))
    (tmp_path / 'nb-1-big-Data.db').touch()
    os.truncate(tmp_path / 'nb-1-big-Data.db', 9 * count)
    (tmp_path / 'nb-1-big-TOC.txt').write_text('Data.db')
    offsets = chunks.compression(local_files(tmp_path / 'nb-1-big-Data.db')).offsets
    assert list(offsets) == [*range(0, 9 * count + 1, 9)]
    assert len(memoryview(offsets).tobytes()) == 8 * (count + 1)


def test_a_file_is_open_only_while_it_is_read(recorded: dict[str, Recorded]) -> None:
    one = large(recorded)
    before = set(os.listdir('/proc/self/fd'))
    schema, sstables = open_snapshot(one.folder)
    batches = iter(Reading(schema, sstables, one.now, batch_rows=1))
    next(batches)
    assert set(os.listdir('/proc/self/fd')) == before
    assert isinstance(sstables[0].files.ranges('Data.db'), LocalFile)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Returns bytes with a few changes, as no checksum would let them pass."""
    made = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(made))
        change = rng.random()
        if change < 0.5:
            made[at] ^= 1 << rng.randrange(8)
        elif change < 0.7:
            made[at] = rng.choice([0, 1, 2, 0x20, 0x7F, 0x80, 0xFF])
        elif change < 0.85:
            made[at : at + rng.randrange(1, 9)] = b''
        else:
            made[at:at] = bytes(rng.choice([0xFF, 0x80, 0]) for _ in range(rng.randrange(1, 9)))
        if not made:
            return b''
    return bytes(made)


def read_damaged(one: Recorded, rng: random.Random) -> int:
    """Reads a table whose uncompressed bytes are damaged behind all checksums; returns the rows that come."""
    schema, sstables = open_snapshot(one.folder)
    names = schema.table.readable
    keys = (*schema.table.partition_key, *schema.table.clustering)
    headers = [sstable.statistics.header for sstable in sstables]
    streams = [layout.stream_of(schema, s.statistics.header, s.files.version, s.name, layout.Part()) for s in sstables]
    contents = [b''.join(sstable.feed()) for sstable in sstables]
    victim = rng.randrange(len(contents))
    contents[victim] = damaged(contents[victim], rng)
    feeds = [pieces(iter([content, b'']).__next__, rng.choice([1, 50, 10**6])) for content in contents]
    writetimes = [name for name in names if name not in keys]
    plan = layout.plan_of(schema, headers, names, writetimes)
    merger = data.Merger(
        plan, streams, feeds, int(one.now.timestamp()), rng.choice([1, 3, 1000]), 1 << rng.randrange(6, 20)
    )
    kinds = [types.kind_of(schema.driver_type(schema.table.type_of('columns', name))) for name in names]
    found = 0
    while True:
        count, cells, times = merger.batch()
        if not count:
            return found
        found += count
        assert all(len(column) == 8 * count for column in times)
        for kind, column in zip(kinds, cells, strict=True):
            values = rows.decode(kind, column)
            # Cassandra holds a `time` beyond a day, which Arrow's full validation would refuse.
            values.validate(full='time64' not in str(values.type))


@pytest.mark.parametrize('seed', range(6))
def test_damage_behind_all_checksums_is_an_error_or_rows(recorded: dict[str, Recorded], seed: int) -> None:
    fuzz(recorded, seed, 40)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(100, 140))
def test_much_damage_behind_all_checksums(recorded: dict[str, Recorded], seed: int) -> None:
    fuzz(recorded, seed, 400)


def fuzz(recorded: dict[str, Recorded], seed: int, count: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        with contextlib.suppress(ReadError, DatasetError):
            read_damaged(rng.choice(list(recorded.values())), rng)


def test_this_build_is_tested() -> None:
    built = os.environ.get('TFX_CASSANDRA_SANITIZED')
    if built is not None:
        assert data.__file__.startswith(built)
