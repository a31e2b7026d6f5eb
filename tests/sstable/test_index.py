"""Indexes: a range of tokens starts near its first partition, gives the same rows as without, and never other ones."""

from __future__ import annotations

import bisect
import random
import shutil
import struct
from pathlib import Path

import pytest
from recorded_sstables import Recorded, unpacked
from snapshots import in_files

from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.sstable import data, index
from tfx_cassandra.components.sstable.snapshot import open_snapshot
from tfx_cassandra.components.sstable.sstable import SSTable

LEAST, MOST = -(2**63), 2**63 - 1


@pytest.fixture(scope='module', params=['nb', 'oa', 'da'])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Thousands of small partitions and three wide ones, in two SSTables."""
    return unpacked(tmp_path_factory.mktemp('recorded'), f'recorded_{request.param}', 'many')['many']


@pytest.fixture
def table(many: Recorded, tmp_path: Path) -> Recorded:
    return many._replace(folder=Path(shutil.copytree(many.folder, tmp_path / 'copy')))


def token_at(content: bytes, position: int) -> int:
    """Returns the token of the partition that starts at a place in a Data.db."""
    (size,) = struct.unpack_from('>H', content, position)
    return data.token(content[position + 2 : position + 2 + size])


def tokens_of(sstable: SSTable) -> list[int]:
    """Returns the tokens of an SSTable: its keys are those of sstable_tables.ManyPartitions' first or second stage."""
    first = sstable.name.split('-')[1] == '1'
    keys = [*range(2000), -1, -2, -3] if first else range(1000, 3000)
    return sorted(data.token(struct.pack('>i', key)) for key in keys)


def test_a_place_is_that_of_the_last_partition_at_or_below_a_token(many: Recorded) -> None:
    _, sstables = open_snapshot(many.folder)
    for sstable in sstables:
        content, tokens = b''.join(sstable.feed()), tokens_of(sstable)
        # A trie has the first bytes of tokens: of a partition that shares them with the token it takes the one before.
        before = 1 if sstable.files.version == 'da' else 0
        asked = [token + step for token in tokens[::7] for step in (-1, 0, 1)]
        for token in (*asked, tokens[-1], LEAST + 1, MOST):
            place, at = index.place_of(sstable.files, token), bisect.bisect_right(tokens, token) - 1
            if place is None:
                assert at < before
                continue
            found = token_at(content, place.position)
            assert place.low <= found <= place.high <= token
            assert tokens.index(found) in range(at - before, at + 1)


def test_ranges_give_the_same_rows_without_an_index(many: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sstables = open_snapshot(many.folder)
    tokens, rng = sorted(token for one in sstables for token in tokens_of(one)), random.Random(1)
    pairs = [sorted([rng.choice(tokens) + rng.choice([-1, 0]), rng.choice(tokens)]) for _ in range(40)]
    used = [in_files(many.folder, many.now, tokens=pair)[1] for pair in pairs]
    monkeypatch.setattr(index, 'place_of', lambda files, token: None)
    assert used == [in_files(many.folder, many.now, tokens=pair)[1] for pair in pairs]
    assert sum(len(columns[0]) for columns in used) > 10_000


@pytest.mark.parametrize('component', ['Index.db', 'Summary.db', 'Partitions.db', 'Rows.db'])
def test_a_flipped_bit_in_an_index_never_gives_other_rows(table: Recorded, component: str) -> None:
    paths = sorted(table.folder.glob(f'*-{component}'))
    if not paths or not paths[0].stat().st_size:
        pytest.skip('this file is of another version')
    _, sstables = open_snapshot(table.folder)
    tokens = tokens_of(sstables[0])
    ranges = [(tokens[i], tokens[i + 30]) for i in (5, 700, 1500)]
    expected = [in_files(table.folder, table.now, tokens=pair)[1] for pair in ranges]
    whole, same = paths[0].read_bytes(), []
    for at in range(0, len(whole), max(1, len(whole) // 120)):
        paths[0].write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at // 7 % 8]) + whole[at + 1 :])
        for pair, rows in zip(ranges, expected, strict=True):
            try:
                same.append(in_files(table.folder, table.now, tokens=pair)[1] == rows)
            except ReadError:
                continue
    assert all(same)


def test_nothing_is_read_of_an_sstable_that_ends_before_the_range(many: Recorded) -> None:
    for sstable in open_snapshot(many.folder)[1]:
        last = tokens_of(sstable)[-1]
        assert sstable.part((last, MOST), None) is None
        assert sstable.part((last - 1, MOST), None) is not None


def test_a_flipped_bit_in_the_last_key_never_loses_rows(table: Recorded) -> None:
    path = min(table.folder.glob('*-Summary.db'), default=None)
    if path is None:
        pytest.skip('this file is of another version')
    tokens = tokens_of(open_snapshot(table.folder)[1][0])
    pair = (tokens[-30], MOST)
    expected, whole, refused = in_files(table.folder, table.now, tokens=pair)[1], path.read_bytes(), 0
    for bit in range(8 * 8):  # the length of the key, which is the last in the file, and its four bytes
        at = len(whole) - 1 - bit // 8
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit % 8]) + whole[at + 1 :])
        try:
            assert in_files(table.folder, table.now, tokens=pair)[1] == expected
        except ReadError:
            refused += 1
    assert refused > 32 or not path.name.startswith('nb-')


def test_a_place_in_the_middle_of_something_is_an_error(many: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sstables = open_snapshot(many.folder)
    token = tokens_of(sstables[0])[500] - 1
    real, first = index.place_of, sstables[0].name
    place = real(sstables[0].files, token)
    for wrong in (
        index.Place(place.position, place.high + 1, token),
        index.Place(10**9, LEAST, token),
        index.Place(place.position, LEAST, MOST),
    ):
        found = lambda files, token, wrong=wrong: wrong if files.name == first else real(files, token)  # noqa: E731
        monkeypatch.setattr(index, 'place_of', found)
        with pytest.raises(ReadError, match=r'another partition than its index names|of its index, rule: undamaged'):
            in_files(many.folder, many.now, tokens=(token, MOST))


def test_an_sstable_without_index_is_read_from_its_start(table: Recorded) -> None:
    expected = in_files(table.folder, table.now, tokens=(0, MOST))[1]
    for path in table.folder.iterdir():
        if path.name.endswith('TOC.txt'):
            path.write_text('Data.db')
        elif path.name.split('-')[-1] in ('Index.db', 'Summary.db', 'Partitions.db', 'Rows.db'):
            path.unlink()
    assert in_files(table.folder, table.now, tokens=(0, MOST))[1] == expected
