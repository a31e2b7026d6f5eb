"""Limits of rows and bytes a second, kept by delaying the requests for pages."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Limiter:
    """Says when a page may be requested, so that a scan keeps to its rate from the first page on.

    A page is reserved at its full number of rows when it is requested, and the reservation is adjusted when the page
    has arrived: several pages in flight cannot exceed the rate, and a short page gives back what it did not use.

    Attributes:
      rows_per_second: Rows a second at most, or None.
      bytes_per_second: Bytes of results a second at most, or None.
    """

    rows_per_second: float | None = None
    bytes_per_second: float | None = None

    def __post_init__(self) -> None:
        self._next_request = 0.0  # when the next page may be requested
        self._row_bytes = 100.0  # mean over the pages that have arrived
        self._row_bytes_known = False

    @property
    def needs_row_size(self) -> bool:
        """Whether bytes are limited and the size of a row is not known yet: then one page at a time is requested."""
        return self.bytes_per_second is not None and not self._row_bytes_known

    def would_wait(self, now: float) -> bool:
        """Whether a page that is requested now would have to wait."""
        return self._next_request > now

    def reserve(self, now: float, rows: int) -> float:
        """Reserves a page of `rows` rows; returns when it may be requested, in the seconds of `now`'s clock."""
        due = max(now, self._next_request)
        self._next_request = due + self._cost(rows, rows * self._row_bytes)
        return due

    def adjust(self, reserved_rows: int, rows: int, size: int) -> None:
        """Replaces the reservation of `reserved_rows` rows by the `rows` rows and `size` bytes that have arrived."""
        self._next_request += self._cost(rows, size) - self._cost(reserved_rows, reserved_rows * self._row_bytes)
        if rows:
            self._row_bytes += (size / rows - self._row_bytes) / (4 if self._row_bytes_known else 1)
            self._row_bytes_known = True

    def _cost(self, rows: float, size: float) -> float:
        """Returns the seconds that rows and bytes take at the limits."""
        by_rows = rows / self.rows_per_second if self.rows_per_second else 0.0
        by_size = size / self.bytes_per_second if self.bytes_per_second else 0.0
        return max(by_rows, by_size)


def page_limit(per_second: float | None, maximum: int) -> int:
    """Returns how much a page may hold: a quarter of a second's worth, so that short periods keep to the rate too."""
    return maximum if per_second is None else max(1, int(min(maximum, per_second / 4)))
