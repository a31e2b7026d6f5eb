"""Cuts a scan into areas: how many there are, where they end, and which node is asked for each.

    nodes' token ranges (survey.py)  -> cut in proportion, none across a node's range
    a giant partition                -> a token range of its own, cut in slices of time
    splits of one replica set        -> groups, each read by one worker

Cassandra's own size estimates are rough: system.size_estimates counts flushed data only, is minutes old and states at
least 128 partitions. A few sampled rows correct them, and fetch.py cuts areas that turn out larger while it reads.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from tfx_cassandra.components.scan import ring
from tfx_cassandra.components.scan.area import Area, Slice
from tfx_cassandra.components.scan.page_size import PAGE_BYTES
from tfx_cassandra.components.scan.query import Scan
from tfx_cassandra.components.scan.ring import TokenRange

SPLIT_BYTES = 8 << 20  # results of one split; small enough that workers end together
GROUP_BYTES = 128 << 20  # results one worker reads with one element; seconds of reading
MIN_SPLITS = 16  # of a node, so that several can be in flight until the end
PER_GROUP = 16  # splits of one group at most, where the number of splits is given: as many are read at once
_MAX_SPLITS = 8192
_MIN_GIANT_SLICES, _MAX_GIANT_SLICES = 16, 256  # slices of a giant partition
_MAX_PAGE_BYTES = 2 * PAGE_BYTES  # of a page, if all its rows were as large as the largest last row of a partition
_FIRST_ROWS = 8  # rows of an area's first page at most, for each row in the sample


class OwnedRange(NamedTuple):
    """A range between two tokens of the ring and its replicas, `address:port`, the owner first."""

    tokens: TokenRange
    replicas: tuple[str, ...]


class SizeEstimate(NamedTuple):
    """A node's estimate of a table in a token range: the number of partitions, and their mean size in bytes on disk."""

    tokens: TokenRange
    partitions: int
    mean_bytes: int


class Giant(NamedTuple):
    """A partition larger than a split: its token, its first and last time in ms, and its approximate size in bytes."""

    token: int
    oldest: int
    newest: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Sample:
    """Statistics of a few pages of a table.

    Attributes:
      rows, bytes: Rows read, and the size of the results they came in.
      share: The share of the scan that these pages cover; 1 if they are all of it.
      giants: Partitions to read in slices of time.
      partitions: Partitions in the pages' share.
      last_bytes: Size of the largest last row of the partitions that were sampled.
    """

    rows: int = 0
    bytes: int = 0
    share: float = 0.0
    giants: tuple[Giant, ...] = ()
    partitions: int = 0
    last_bytes: int = 0


class Split(NamedTuple):
    """An area of a scan and how to begin reading it.

    Attributes:
      area: What is read.
      replicas: Nodes to ask for it, first choice first; none to leave the choice to the driver.
      first_rows: Rows of the first page; None for the maximum of a page.
      row_bytes: Expected size of a row; 0 if unknown.
    """

    area: Area
    replicas: tuple[str, ...] = ()
    first_rows: int | None = None
    row_bytes: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a scan is read.

    Attributes:
      scan: The scan.
      wanted: The areas that its splits tile exactly once.
      groups: Splits that one worker reads, several at once.
      page_rows: Rows of a page at most.
      bytes: Estimated size of all results.
    """

    scan: Scan
    wanted: tuple[Area, ...]
    groups: tuple[tuple[Split, ...], ...]
    page_rows: int
    bytes: int

    @property
    def splits(self) -> list[Split]:
        """All splits, in the order of the groups."""
        return [split for group in self.groups for split in group]


def plan(
    scan: Scan,
    owned: Sequence[OwnedRange],
    estimates: Sequence[SizeEstimate] = (),
    sample: Sample = Sample(),
    keys: Sequence[int] | None = None,
    min_splits: int | None = None,
    page_rows: int = 5000,
    one_worker: bool = False,
) -> Plan:
    """Plans a scan.

    Args:
      scan: What is read.
      owned: Ranges that tile the ring, in ring order.
      estimates: The nodes' size estimates of the table.
      sample: Statistics of a few pages.
      keys: Tokens of the only partitions to read, without duplicates; None for all.
      min_splits: Number of splits at least, each group of PER_GROUP at most; None to derive it from the size.
      page_rows: Rows of a page at most.
      one_worker: Whether one worker must read all splits.
    """
    if keys is None:
        size = table_bytes(estimates, sample)
        nodes = len({owner.replicas[:1] for owner in owned})
        count = max(MIN_SPLITS * nodes, min(-(-size // SPLIT_BYTES), _MAX_SPLITS))
        count = 1 << (count - 1).bit_length()  # a power of two, so that a plan is stable while estimates vary
        ranges = ring.subdivide([owner.tokens for owner in owned], min_splits or count)
        wanted: tuple[Area, ...] = (Area(ring.RING, scan.times),)
    else:
        size = int(sample.bytes / sample.share) if sample.share else 0
        size = size if sample.share >= 1 else max(size, len(keys) * _mean_bytes(estimates))
        ranges = [TokenRange(key - 1, key) for key in sorted(keys)]
        wanted = tuple(Area(tokens, scan.times) for tokens in ranges)
    areas = [area for tokens in ranges for area in _around_giants(scan, tokens, sample.giants)]
    max_rows, first_rows, row_bytes = _page_rows(sample, page_rows)
    splits = [
        Split(area, _rotated(_replicas(owned, area.tokens), i), first_rows, row_bytes) for i, area in enumerate(areas)
    ]
    groups = (tuple(splits),) if one_worker else _groups(splits, size, len(splits) if min_splits is None else PER_GROUP)
    return Plan(scan, wanted, groups, max_rows, size)


def _page_rows(sample: Sample, page_rows: int) -> tuple[int, int, float]:
    """Returns (rows of a page at most, rows of an area's first page, mean size of a row) according to a sample."""
    row_bytes = sample.bytes / sample.rows if sample.rows else 0.0
    fitting = min(page_rows, PAGE_BYTES / max(row_bytes, 1.0), _MAX_PAGE_BYTES / max(sample.last_bytes, 1))
    max_rows = max(1, int(fitting))
    return max_rows, max(1, min(max_rows, _FIRST_ROWS * sample.rows)), row_bytes


def table_bytes(estimates: Sequence[SizeEstimate], sample: Sample) -> int:
    """Estimates the size of all results of a scan: the larger of the extrapolated sample and the nodes' estimate.

    The larger one, since too many splits cost little: a sample misses a few large partitions, and the nodes do not
      count
    data that is still in their memory.
    """
    if sample.share >= 1:
        return sample.bytes
    covered = sum(estimate.tokens.width for estimate in estimates)
    # A node that did not answer is taken to hold as much as the others.
    partitions = sum(estimate.partitions for estimate in estimates) * ring.RING.width / covered if covered else 0
    if sample.partitions:
        # Nodes count each file of a range as 128 partitions at least; the sample, of evenly spread tokens, is better.
        partitions = min(partitions, sample.partitions / sample.share)
    return max(int(partitions * _mean_bytes(estimates)), int(sample.bytes / sample.share) if sample.share else 0)


def _mean_bytes(estimates: Sequence[SizeEstimate]) -> int:
    partitions = sum(estimate.partitions for estimate in estimates)
    return sum(estimate.partitions * estimate.mean_bytes for estimate in estimates) // partitions if partitions else 0


def _around_giants(scan: Scan, tokens: TokenRange, giants: Sequence[Giant]) -> list[Area]:
    """Cuts a token range so that each giant partition in it has a range of its own, in slices of time."""
    inside = [giant for giant in giants if tokens.start < giant.token <= tokens.end]
    cuts = sorted({tokens.start, tokens.end, *(t for giant in inside for t in (giant.token - 1, giant.token))})
    slices = {giant.token: _slices(scan.times, giant) for giant in inside}
    return [
        Area(TokenRange(start, end), times)
        for start, end in itertools.pairwise(cuts)
        for times in (slices.get(end, [scan.times]) if end - start == 1 else [scan.times])
    ]


def _slices(times: Slice, giant: Giant) -> list[Slice]:
    """Cuts a slice evenly where a giant has rows, into pieces of about a quarter of a split, for sizes vary."""
    count = min(max(_MIN_GIANT_SLICES, 4 * giant.bytes // SPLIT_BYTES), _MAX_GIANT_SLICES)
    start, end = max(times.start, giant.oldest), min(times.end, giant.newest + 1)
    return times.cut(start + (end - start) * i // count for i in range(1, count)) if start < end else [times]


def _replicas(owned: Sequence[OwnedRange], tokens: TokenRange) -> tuple[str, ...]:
    """Returns the replicas of a token range, which lies inside one of `owned`."""
    index = bisect.bisect_left(owned, tokens.end, key=lambda owner: owner.tokens.end)
    return owned[index].replicas


def _rotated(replicas: tuple[str, ...], steps: int) -> tuple[str, ...]:
    first = steps % len(replicas) if replicas else 0
    return replicas[first:] + replicas[:first]


def _groups(splits: list[Split], size: int, most: int) -> tuple[tuple[Split, ...], ...]:
    """Groups at most `most` splits of a replica set, so that a worker's requests go to few nodes; sizes are similar."""
    sets: dict[tuple[str, ...], list[Split]] = {}
    for split in splits:
        sets.setdefault(tuple(sorted(split.replicas)), []).append(split)
    per_group = min(most, max(1, -(-len(splits) * GROUP_BYTES // size))) if size else most
    return tuple(
        tuple(members[i : i + per_group]) for members in sets.values() for i in range(0, len(members), per_group)
    )
