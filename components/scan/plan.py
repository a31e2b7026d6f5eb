"""Which areas a scan is read in: how many, where they end, and which node is asked for each.

    nodes' ranges  (survey.py)  -> cut in proportion, none across a node's range
    a giant partition           -> a range of its own, cut in slices of time
    splits of one replica set   -> groups, each read by one worker

The sizes Cassandra states are rough: system.size_estimates knows flushed data only, is minutes old and counts at least
128 partitions. So a few sampled rows correct them, and what the plan still gets wrong, fetch.py cuts while it reads.
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
FEWEST_SPLITS = 16  # of a node, so that several can be in flight until the end
_MOST_SPLITS = 8192
_GIANT_SLICES = (16, 256)  # fewest and most slices of a giant partition
_MOST_PAGE_BYTES = 2 * PAGE_BYTES  # of a page, if all its rows were as large as the largest last row of a partition
_FIRST_ROWS = 8  # rows of an area's first page at most, for each row of the sample


class OwnedRange(NamedTuple):
    """A range between two tokens of the ring and the nodes that hold its rows, `address:port`, the owner first."""

    tokens: TokenRange
    replicas: tuple[str, ...]


class SizeEstimate(NamedTuple):
    """What a node states of a table in a range: partitions, and the mean size of one in bytes on disk."""

    tokens: TokenRange
    partitions: int
    mean_bytes: int


class Giant(NamedTuple):
    """A partition of more than a split: its token, its first and last time in ms, and about how many bytes it has."""

    token: int
    oldest: int
    newest: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Sample:
    """What a few pages told of a table.

    Attributes:
      rows, bytes: Rows read, and the size of the results they came in.
      share: Share of what the scan reads that these pages span; 1 if they are all of it.
      giants: Partitions that are to be read in slices.
      partitions: Partitions in the pages' share.
      last_bytes: Size of the largest row that ends a partition which the pages begin.
    """

    rows: int = 0
    bytes: int = 0
    share: float = 0.0
    giants: tuple[Giant, ...] = ()
    partitions: int = 0
    last_bytes: int = 0


class Split(NamedTuple):
    """An area of a scan and how to begin with it.

    Attributes:
      area: What is read.
      replicas: Nodes to ask for it, first choice first; none to leave the choice to the driver.
      first_rows: Rows of the first page; None for as many as a page may have.
      row_bytes: Expected size of a row; 0 if it is unknown.
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
      wanted: What its areas tile.
      groups: Splits that one worker reads together, several at once.
      page_rows: Rows of a page.
      bytes: Estimated size of all results.
    """

    scan: Scan
    wanted: tuple[Area, ...]
    groups: tuple[tuple[Split, ...], ...]
    page_rows: int
    bytes: int

    @property
    def splits(self) -> list[Split]:
        return [split for group in self.groups for split in group]


def plan(
    scan: Scan,
    owned: Sequence[OwnedRange],
    estimates: Sequence[SizeEstimate] = (),
    sample: Sample = Sample(),
    keys: Sequence[int] | None = None,
    least: int | None = None,
    page_rows: int = 5000,
    together: bool = False,
) -> Plan:
    """Plans a scan.

    Args:
      scan: What is read.
      owned: Ranges that tile the ring, in its order.
      estimates: What the nodes state of the table's sizes.
      sample: What a few pages told.
      keys: Tokens of the only partitions wanted, each once; None for all.
      least: Number of splits at least; None for what the size asks for.
      page_rows: Rows of a page at most.
      together: Whether one worker must read all of it.
    """
    if keys is None:
        size = table_bytes(estimates, sample)
        nodes = len({owner.replicas[:1] for owner in owned})
        count = max(FEWEST_SPLITS * nodes, min(-(-size // SPLIT_BYTES), _MOST_SPLITS))
        count = 1 << (count - 1).bit_length()  # in steps, so that a plan stays as it is while estimates wobble
        ranges = ring.subdivide([owner.tokens for owner in owned], least or count)
        wanted: tuple[Area, ...] = (Area(ring.RING, scan.times),)
    else:
        size = int(sample.bytes / sample.share) if sample.share else 0
        size = size if sample.share >= 1 else max(size, len(keys) * _mean_bytes(estimates))
        ranges = [TokenRange(key - 1, key) for key in sorted(keys)]
        wanted = tuple(Area(tokens, scan.times) for tokens in ranges)
    areas = [area for tokens in ranges for area in _around_giants(scan, tokens, sample.giants)]
    most, first, row_bytes = _page_rows(sample, page_rows)
    splits = [
        Split(area, _rotated(_replicas(owned, area.tokens), turn), first, row_bytes) for turn, area in enumerate(areas)
    ]
    groups = (tuple(splits),) if together else _groups(splits, size)
    return Plan(scan, wanted, groups, most, size)


def _page_rows(sample: Sample, page_rows: int) -> tuple[int, int, float]:
    """Returns (rows of a page at most, rows of an area's first page, mean size of a row) by what a sample has seen."""
    row_bytes = sample.bytes / sample.rows if sample.rows else 0.0
    fitting = min(page_rows, PAGE_BYTES / max(row_bytes, 1.0), _MOST_PAGE_BYTES / max(sample.last_bytes, 1))
    most = max(1, int(fitting))
    return most, max(1, min(most, _FIRST_ROWS * sample.rows)), row_bytes


def table_bytes(estimates: Sequence[SizeEstimate], sample: Sample) -> int:
    """Estimates the size of all results of a scan: the sample scaled up, or what the nodes state if that is more.

    Of the two the larger, for too many splits cost little: a sample misses what lies in few large partitions, and the
    nodes know nothing of what is still in memory.
    """
    if sample.share >= 1:
        return sample.bytes
    covered = sum(estimate.tokens.width for estimate in estimates)
    # A node that did not answer holds about as much as the others.
    partitions = sum(estimate.partitions for estimate in estimates) * ring.RING.width / covered if covered else 0
    if sample.partitions:
        # Each file of a range counts as 128 partitions at least. Tokens are spread evenly: so the sample counts better.
        partitions = min(partitions, sample.partitions / sample.share)
    return max(int(partitions * _mean_bytes(estimates)), int(sample.bytes / sample.share) if sample.share else 0)


def _mean_bytes(estimates: Sequence[SizeEstimate]) -> int:
    partitions = sum(estimate.partitions for estimate in estimates)
    return sum(estimate.partitions * estimate.mean_bytes for estimate in estimates) // partitions if partitions else 0


def _around_giants(scan: Scan, tokens: TokenRange, giants: Sequence[Giant]) -> list[Area]:
    """Cuts a range so that each giant partition in it has a range of its own, in slices."""
    inside = [giant for giant in giants if tokens.start < giant.token <= tokens.end]
    cuts = sorted({tokens.start, tokens.end, *(t for giant in inside for t in (giant.token - 1, giant.token))})
    slices = {giant.token: _slices(scan.times, giant) for giant in inside}
    return [
        Area(TokenRange(start, end), times)
        for start, end in itertools.pairwise(cuts)
        for times in (slices.get(end, [scan.times]) if end - start == 1 else [scan.times])
    ]


def _slices(times: Slice, giant: Giant) -> list[Slice]:
    """Cuts a slice evenly where a giant has rows; a few times as often as it is larger than a split, for they vary."""
    fewest, most = _GIANT_SLICES
    count = min(max(fewest, 4 * giant.bytes // SPLIT_BYTES), most)
    start, end = max(times.start, giant.oldest), min(times.end, giant.newest + 1)
    return times.cut(start + (end - start) * i // count for i in range(1, count)) if start < end else [times]


def _replicas(owned: Sequence[OwnedRange], tokens: TokenRange) -> tuple[str, ...]:
    """Returns the nodes that hold a range, which lies inside one of `owned`."""
    at = bisect.bisect_left(owned, tokens.end, key=lambda owner: owner.tokens.end)
    return owned[at].replicas


def _rotated(replicas: tuple[str, ...], turn: int) -> tuple[str, ...]:
    at = turn % len(replicas) if replicas else 0
    return replicas[at:] + replicas[:at]


def _groups(splits: list[Split], size: int) -> tuple[tuple[Split, ...], ...]:
    """Groups the splits of each replica set, so that a worker's requests go to few nodes; groups are of like size."""
    sets: dict[tuple[str, ...], list[Split]] = {}
    for split in splits:
        sets.setdefault(tuple(sorted(split.replicas)), []).append(split)
    per_group = max(1, -(-len(splits) * GROUP_BYTES // size)) if size else len(splits)
    return tuple(
        tuple(members[i : i + per_group]) for members in sets.values() for i in range(0, len(members), per_group)
    )
