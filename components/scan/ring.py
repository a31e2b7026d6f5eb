"""The token ring of the Murmur3 partitioner: ranges `(start, end]`.

Murmur3 gives tokens in `(-2^63, 2^63 - 1]` (the partitioner maps its minimum to the maximum), so the one range
`(MIN_TOKEN, MAX_TOKEN]` holds every row. Beam's own ranges are `[start, stop)`; none of those appear here.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence

from tfx_cassandra.components.errors import invalid

MIN_TOKEN = -(2**63)
MAX_TOKEN = 2**63 - 1


@dataclasses.dataclass(frozen=True, order=True)
class TokenRange:
    """The tokens `start < token <= end`; it never wraps around.

    Raises:
      ValueError: start is not below end, or a bound lies outside the ring.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not MIN_TOKEN <= self.start < self.end <= MAX_TOKEN:
            raise invalid('token range', (self.start, self.end), f'{MIN_TOKEN} <= start < end <= {MAX_TOKEN}')

    @property
    def width(self) -> int:
        """Number of tokens in the range."""
        return self.end - self.start

    def split(self, count: int) -> list[TokenRange]:
        """Cuts the range into `count` ranges of equal width, or into single tokens where it is narrower."""
        count = min(count, self.width)
        cuts = [self.start + self.width * i // count for i in range(count + 1)]
        return [TokenRange(start, end) for start, end in itertools.pairwise(cuts)]

    def __str__(self) -> str:
        return f'({self.start}, {self.end}]'


RING = TokenRange(MIN_TOKEN, MAX_TOKEN)


def ring_ranges(tokens: Iterable[int]) -> list[TokenRange]:
    """Returns the ranges between the nodes' tokens, in ring order; the wrapping range is returned as two."""
    cuts = sorted({MIN_TOKEN, MAX_TOKEN, *tokens})
    return [TokenRange(start, end) for start, end in itertools.pairwise(cuts)]


def subdivide(ranges: Sequence[TokenRange], count: int) -> list[TokenRange]:
    """Cuts ranges in proportion to their widths into at least `count` splits, none across a range's end."""
    total = sum(token_range.width for token_range in ranges)
    # Rounded up, so that there are at least `count` splits.
    return [split for whole in ranges for split in whole.split(-(-whole.width * count // total))]
