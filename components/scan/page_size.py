"""How many rows to request of a server: few at first, then as many as the bytes of earlier pages allow.

A server builds a page in its memory before it sends it, and it counts rows, not bytes. So many rows must not be
requested of a table whose rows may be large.
"""

from __future__ import annotations

import dataclasses

PAGE_BYTES = 4 << 20  # results of one page, the unit of a worker's memory, and of a server's
MAX_GROWTH = 4  # a page has at most so many times the rows of the page before it


@dataclasses.dataclass
class PageSize:
    """The number of rows of the next page of one read.

    A read that resembles earlier ones may begin with the `rows` and `row_bytes` that those have found. Each read has an
    object of its own, since rows may be of another size where another read stands.

    Attributes:
      max_rows: Rows of a page at most.
      rows: Rows to request next; one as long as the size of a row is unknown.
      bytes: Target size of a page.
      row_bytes: Mean size of a row of the last page; 0 before the first one.
    """

    max_rows: int
    rows: int = 1
    bytes: int = PAGE_BYTES
    row_bytes: float = 0.0

    def __post_init__(self) -> None:
        self.max_rows = max(1, self.max_rows)
        self.rows = max(1, min(self.rows, self.max_rows))

    def limit_to(self, row_bytes: int) -> None:
        """Limits all later pages to the target size, if every row had `row_bytes` bytes."""
        self.max_rows = max(1, min(self.max_rows, self.bytes // max(1, row_bytes)))
        self.rows = min(self.rows, self.max_rows)

    def record_page(self, rows: int, size: int) -> None:
        """Records a page of `rows` rows and `size` bytes; a page without rows changes nothing."""
        if not rows:
            return
        estimate = size / rows
        if self.row_bytes and estimate > 2 * self.row_bytes:
            # Where rows grow, the last ones may account for all of the growth: assume that the next are as large.
            estimate = max(estimate, size - rows * self.row_bytes)
        fitting = int(self.bytes / max(estimate, 1.0))
        self.row_bytes = size / rows
        self.rows = max(1, min(self.max_rows, max(self.rows, MAX_GROWTH * rows), fitting))
