"""How many rows to ask a server for: few at first, then what the bytes of the pages that came allow.

A server builds a page in its memory before it sends it, and it counts rows, not bytes. So nobody may ask for many rows
of a table whose rows may be large.
"""

from __future__ import annotations

import dataclasses

PAGE_BYTES = 4 << 20  # results of one page, the unit of a worker's memory, and of a server's
GROWTH = 4  # a page has at most so many times the rows of the page before it


@dataclasses.dataclass
class PageSize:
    """The rows of the next page of one read.

    A read that is like earlier ones may begin with `dataclasses.replace(PageSize(most), rows=..., row_bytes=...)` of
    what those have learned. One object belongs to one read: pages of another one say nothing of where this one stands.

    Attributes:
      most: Rows of a page at most.
      rows: Rows to ask for next; one, as long as nothing is known.
      bytes: Size of a page that is aimed at.
      row_bytes: Mean size of a row of the last page; 0 if none has come.
    """

    most: int
    rows: int = 1
    bytes: int = PAGE_BYTES
    row_bytes: float = 0.0

    def __post_init__(self) -> None:
        self.most = max(1, self.most)
        self.rows = max(1, min(self.rows, self.most))

    def came(self, rows: int, size: int) -> None:
        """Notes a page of `rows` rows and `size` bytes; a page without a row tells nothing."""
        if not rows:
            return
        estimate = size / rows
        if self.row_bytes and estimate > 2 * self.row_bytes:
            # Where rows become larger, the last ones may hold all that is more: the next are taken to be as large.
            estimate = max(estimate, size - rows * self.row_bytes)
        fitting = int(self.bytes / max(estimate, 1.0))
        self.row_bytes = size / rows
        self.rows = max(1, min(self.most, max(self.rows, GROWTH * rows), fitting))
