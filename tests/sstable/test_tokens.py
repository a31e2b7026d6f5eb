"""Ranges of tokens, of a reading and of what a node owned: every row is in one of those that tile the ring."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from murmur3 import key_of
from recorded_sstables import Recorded, unpacked
from snapshots import in_files
from written_streams import PLAN, batches, feed, partition, row, stream

from tfx_cassandra.components.sstable import data
from tfx_cassandra.components.sstable.layout import Part
from tfx_cassandra.components.sstable.read import Reading
from tfx_cassandra.components.sstable.snapshot import open_snapshot

LEAST, MOST = -(2**63), 2**63 - 1
TOKENS = (LEAST + 1, -5, 0, 7, 8, MOST)


@pytest.fixture(scope='module')
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    return unpacked(tmp_path_factory.mktemp('recorded'))


def read(*parts: Part, tokens: tuple[int, ...] = TOKENS) -> tuple[list[int], list[tuple[int, int]]]:
    """Reads an SSTable with two rows of each token for each part; returns the tokens of the rows, and the counts."""
    streams = [stream(f'nb-{i}-big', part) for i, part in enumerate(parts)]
    content = b''.join(b''.join(partition(token, [row(1, b'a'), row(2, b'b')])) for token in tokens)
    names = {key_of(token): token for token in tokens}
    merger = data.Merger(PLAN, streams, [feed([content]) for _ in parts], 0, 1000, 1 << 20)
    found = [names[cells[0].value(i)] for count, cells in batches(merger) for i in range(count)]
    return found, merger.counts


@pytest.mark.parametrize(
    ('tokens', 'expected'),
    [
        ((LEAST, MOST), TOKENS),
        ((LEAST + 1, MOST), TOKENS[1:]),
        ((LEAST, LEAST + 1), TOKENS[:1]),
        ((-5, 0), (0,)),
        ((-6, 0), (-5, 0)),
        ((-6, -1), (-5,)),
        ((-5, -1), ()),
        ((7, 8), (8,)),
        ((8, MOST), (MOST,)),
        ((8, MOST - 1), ()),
    ],
)
@pytest.mark.parametrize('first_key', [None, key_of(TOKENS[0])])
def test_a_range_has_its_end_and_not_its_start(
    tokens: tuple[int, int], expected: tuple[int, ...], first_key: bytes | None
) -> None:
    found, counts = read(Part(first_key, tokens))
    assert found == [token for token in expected for _ in range(2)]
    assert counts == [(len(expected), 2 * len(expected))]


def test_what_a_node_did_not_own_is_left_out_and_counted() -> None:
    owned = ((LEAST, -5), (-1, 0), (7, 9))
    found, counts = read(Part(None, owned=owned))
    assert found[::2] == [LEAST + 1, -5, 0, 8]
    assert counts == [(6, 12)]
    assert read(Part(None, owned=()))[0] == []
    assert read(Part(None, (-5, 7), owned))[0][::2] == [0]
    # The other SSTable's node owns the rest.
    assert read(Part(None, owned=owned), Part(None, owned=((-5, -1), (0, 7), (9, MOST))))[0][::2] == list(TOKENS)
    assert len(read(Part(None, owned=()), Part(None, owned=None))[0]) == 12


def test_nothing_is_read_of_an_sstable_that_starts_behind_the_range() -> None:
    def never() -> bytes:
        raise AssertionError

    one = stream(part=Part(key_of(7), (LEAST, 6)))
    assert data.Merger(PLAN, [one], [never], 0, 10, 1000).batch()[0] == 0


def cuts(seed: int, tokens: list[int]) -> list[tuple[int, int]]:
    """Returns ranges that tile the ring, many of which end at a partition."""
    rng = random.Random(seed)
    some = {rng.choice(tokens) + rng.choice([-1, 0, 0, 1]) for _ in range(4)} if tokens else set()
    return list(itertools.pairwise(sorted({LEAST, MOST, *some, rng.randrange(LEAST, MOST)})))


def tokens_of(folder: Path) -> list[int]:
    """Returns the tokens at which SSTables start and end."""
    _, sstables = open_snapshot(folder)
    return [data.token(key) for one in sstables for key in (one.first_key, one.statistics.last_key) if key is not None]


@pytest.mark.parametrize('seed', range(3))
def test_ranges_that_tile_the_ring_give_every_row_once(recorded: dict[str, Recorded], seed: int) -> None:
    for one in recorded.values():
        schema, sstables = open_snapshot(one.folder)
        ranges = cuts(seed, tokens_of(one.folder))
        pieces = [in_files(one.folder, one.now, tokens=tokens)[1] for tokens in ranges]
        assert [list(itertools.chain(*column)) for column in zip(*pieces, strict=True)] == one.values
        owned = [[ranges, None][i % 2] for i in range(len(sstables))]
        assert in_files(one.folder, one.now, owned=owned)[1] == one.values
        counts = []
        for tokens in ranges:
            reading = Reading(schema, sstables, one.now, tokens=tokens)
            list(reading)
            counts.append(reading.counts)
        assert [sum(rows for _, rows in each) for each in zip(*counts, strict=True)] == [
            sstable.statistics.rows for sstable in sstables
        ]


def test_what_is_owned_by_nobody_is_not_read(recorded: dict[str, Recorded]) -> None:
    for one in recorded.values():
        _, sstables = open_snapshot(one.folder)
        assert not any(in_files(one.folder, one.now, owned=[()] * len(sstables))[1])


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'tokens': (3, 3)}, r'tokens: got \(3, 3\), rule: ranges \(start, end\] of tokens, start < end'),
        ({'tokens': (4, 3)}, r'tokens: got \(4, 3\)'),
        ({'owned': [[(1, 5), (3, 6)]]}, r'owned: got \(3, 6\), rule: .* that do not overlap'),
        ({'owned': []}, r'owned: got 0, rule: ranges of each of the 1 SSTables'),
    ],
)
def test_ranges_that_are_none(recorded: dict[str, Recorded], arguments: dict[str, object], message: str) -> None:
    one = next(iter(recorded.values()))
    schema, sstables = open_snapshot(one.folder)
    with pytest.raises(ValueError, match=message):
        Reading(schema, sstables[:1], one.now, **arguments)
