"""The ledger accepts exactly the sets of ranges that tile the ring."""

from __future__ import annotations

import pytest

from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.scan import ledger, ring
from tfx_cassandra.components.scan.ledger import RangeRead
from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN, TokenRange

READS = [RangeRead(r, 2, 100, 1, 0, 2**63 + i) for i, r in enumerate(ring.subdivide(ring.ring_ranges([0, 100]), 8))]


def test_adds_up() -> None:
    coverage = ledger.verified(list(reversed(READS)))
    assert (coverage.ranges, coverage.rows, coverage.pages) == (len(READS), 2 * len(READS), len(READS))
    assert coverage.checksum == sum(2**63 + i for i in range(len(READS))) % 2**64


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


def test_nothing_read_is_not_a_scan() -> None:
    with pytest.raises(CoverageError) as caught:
        ledger.verified([])
    assert str(TokenRange(MIN_TOKEN, MAX_TOKEN)) in str(caught.value)


def test_pages_add_up() -> None:
    read = RangeRead(TokenRange(0, 1)).with_page(2, 100, 2**64 - 1).with_page(3, 50, 3)
    assert read == RangeRead(TokenRange(0, 1), rows=5, bytes=150, pages=2, retries=0, checksum=2)


def test_the_fingerprint_tells_question_and_content_apart() -> None:
    coverage = ledger.verified(READS)
    other = ledger.verified([RangeRead(TokenRange(MIN_TOKEN, MAX_TOKEN), coverage.rows, checksum=coverage.checksum)])
    assert other.fingerprint('SELECT', 'w') == coverage.fingerprint('SELECT', 'w')
    assert coverage.fingerprint('SELECT', 'v') != coverage.fingerprint('SELECT', 'w')
    assert coverage.fingerprint('SELECT x', 'w') != coverage.fingerprint('SELECT', 'w')
