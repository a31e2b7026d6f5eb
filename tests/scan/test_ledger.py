"""The ledger accepts exactly the sets of areas that tile what was asked for."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.scan import ledger, ring
from tfx_cassandra.components.scan.area import WHOLE, Area, Slice, cut
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.ring import TokenRange

READS = [
    RangeRead(Area(tokens), 2, 100, 1, 0, 2**63 + i)
    for i, tokens in enumerate(ring.subdivide(ring.ring_ranges([0, 100]), 8))
]


def test_the_sums_of_the_entries() -> None:
    coverage = ledger.verified(list(reversed(READS)))
    assert (coverage.ranges, coverage.rows, coverage.pages) == (len(READS), 2 * len(READS), len(READS))
    assert coverage.checksum == sum(2**63 + i for i in range(len(READS))) % 2**64
    assert coverage.reads == tuple(READS)


@pytest.mark.parametrize('index', range(len(READS)))
def test_names_the_range_that_was_not_read(index: int) -> None:
    left = READS[:index] + READS[index + 1 :]
    with pytest.raises(CoverageError) as caught:
        ledger.verified(left)
    assert f'not read: {READS[index].token_range}' in str(caught.value)


@pytest.mark.parametrize('index', range(len(READS)))
def test_names_the_range_that_was_read_twice(index: int) -> None:
    with pytest.raises(CoverageError) as caught:
        ledger.verified([*READS, READS[index]])
    assert f'read more than once: {READS[index].token_range}' in str(caught.value)


def test_names_the_slice_that_was_not_read() -> None:
    wanted = [Area(TokenRange(0, 9), Slice(0, 100))]
    reads = [RangeRead(Area(TokenRange(0, 9), s)) for s in Slice(0, 100).cut([30, 60])]
    assert ledger.verified(reads, wanted).ranges == 3
    with pytest.raises(CoverageError, match=r'token ranges not read: \(0, 9\] x \[30, 60\) ms \(rule:'):
        ledger.verified([reads[0], reads[2]], wanted)


def test_names_what_was_not_asked_for() -> None:
    with pytest.raises(CoverageError, match=r'token ranges read but not asked for: \(9, 10\]'):
        ledger.verified([RangeRead(Area(TokenRange(0, 10)))], [Area(TokenRange(0, 9))])


def test_nothing_read_is_not_a_scan() -> None:
    with pytest.raises(CoverageError) as caught:
        ledger.verified([])
    assert str(WHOLE) in str(caught.value)


def test_nothing_wanted_is_nothing_read() -> None:
    assert ledger.verified([], []).rows == 0


def test_pages_add_up() -> None:
    area = Area(TokenRange(0, 1))
    read = RangeRead(area).with_page(2, 100, 2**64 - 1).with_page(3, 50, 3)
    assert read == RangeRead(area, rows=5, bytes=150, pages=2, retries=0, checksum=2)


def test_an_entry_as_json() -> None:
    read = RangeRead(Area(TokenRange(0, 1), Slice(5, 7)), 1, 20, 1, 3, 255, '10.0.0.1:9042')
    assert read.as_json() == {
        'tokens': [0, 1], 'times': [5, 7], 'rows': 1, 'bytes': 20, 'pages': 1, 'retries': 3,
        'checksum': '00000000000000ff', 'coordinator': '10.0.0.1:9042',
    }  # fmt: skip
    assert RangeRead(Area(TokenRange(0, 1))).as_json()['times'] is None


def test_the_fingerprint_depends_on_the_statement_and_on_the_content() -> None:
    coverage = ledger.verified(READS)
    other = ledger.verified([RangeRead(WHOLE, coverage.rows, checksum=coverage.checksum)])
    assert other.fingerprint('SELECT', 'w') == coverage.fingerprint('SELECT', 'w')
    assert coverage.fingerprint('SELECT', 'v') != coverage.fingerprint('SELECT', 'w')
    assert coverage.fingerprint('SELECT x', 'w') != coverage.fingerprint('SELECT', 'w')


def pieces_of(area: Area, times: int) -> list[Area]:
    """Cuts an area as a read does that has got nowhere: again and again, by tokens and then by time."""
    pieces = [area]
    for number in range(times):
        found = cut(pieces[number % len(pieces)], None, sliceable=True)
        if found is not None:
            pieces[number % len(pieces) : number % len(pieces) + 1] = [found.rest, *found.fresh]
    return pieces


@given(st.integers(1, 40), st.integers(0, 200), st.randoms())
def test_the_ledger_has_an_entry_for_each_planned_area_however_it_was_cut(count: int, cuts: int, draw: Random) -> None:
    giant = TokenRange(500, 501)  # which is planned in slices of time
    sides = [*TokenRange(ring.MIN_TOKEN, 500).split(count), *TokenRange(501, ring.MAX_TOKEN).split(2)]
    planned = [*map(Area, sides), *(Area(giant, s) for s in Slice().cut(range(0, 10 * count, 10)))]
    pieces = [piece for area in planned for piece in pieces_of(area, cuts // len(planned) + draw.randrange(3))]
    reads = [RangeRead(piece, draw.randrange(9), 7, 1, 0, draw.randrange(2**64)) for piece in pieces]
    draw.shuffle(reads)
    merged = ledger.merged(reads, planned)
    assert sorted(read.area for read in merged) == sorted(planned)
    whole, single = ledger.verified(reads), ledger.verified(merged)
    assert (single.rows, single.bytes, single.pages, single.checksum) == (
        whole.rows, whole.bytes, whole.pages, whole.checksum,
    )  # fmt: skip


@given(st.integers(2, 60), st.data())
def test_entries_that_do_not_tile_their_area_are_not_merged(cuts: int, data: st.DataObject) -> None:
    planned = [Area(tokens) for tokens in ring.RING.split(3)]
    reads = [RangeRead(piece, 1) for area in planned for piece in pieces_of(area, cuts)]
    lost = data.draw(st.sampled_from(reads))
    left = [read for read in reads if read is not lost]
    with pytest.raises(CoverageError, match='not read'):
        ledger.verified(ledger.merged(left, planned))
    with pytest.raises(CoverageError, match='read more than once'):
        ledger.verified(ledger.merged([*reads, lost], planned))
