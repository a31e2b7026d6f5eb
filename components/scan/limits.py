"""Limits of rows and bytes a second, kept by asking for pages no sooner than they are due."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Limiter:
    """Says when a page may be asked for, so that what is read keeps to a rate from the first page on.

    A page is booked at its full number of rows when it is asked for, and settled when it has come: so several pages in
    flight cannot burst, and a short page gives back what it did not use.

    Attributes:
      rows_per_second: Rows a second at most, or None.
      bytes_per_second: Bytes of results a second at most, or None.
    """

    rows_per_second: float | None = None
    bytes_per_second: float | None = None

    def __post_init__(self) -> None:
        self._free = 0.0  # when the next page may be asked for
        self._row_bytes = 100.0  # mean of the pages settled so far
        self._known = False

    @property
    def blind(self) -> bool:
        """Whether bytes are limited and no page has told yet how many a row has: one page at a time, then."""
        return self.bytes_per_second is not None and not self._known

    def busy(self, now: float) -> bool:
        """Whether a page would have to wait."""
        return self._free > now

    def book(self, now: float, rows: int) -> float:
        """Books a page of `rows` rows; returns when it may be asked for, in the seconds of `now`'s clock."""
        due = max(now, self._free)
        self._free = due + self._cost(rows, rows * self._row_bytes)
        return due

    def settle(self, booked: int, rows: int, size: int) -> None:
        """Corrects what was booked for a page of `booked` rows to the `rows` rows and `size` bytes that came."""
        self._free += self._cost(rows, size) - self._cost(booked, booked * self._row_bytes)
        if rows:
            self._row_bytes += (size / rows - self._row_bytes) / (4 if self._known else 1)
            self._known = True

    def _cost(self, rows: float, size: float) -> float:
        """Returns the seconds that rows and bytes are worth."""
        by_rows = rows / self.rows_per_second if self.rows_per_second else 0.0
        by_size = size / self.bytes_per_second if self.bytes_per_second else 0.0
        return max(by_rows, by_size)


def quarter(per_second: float | None, most: int) -> int:
    """Returns what a page may have: a quarter of a second's worth, so that a limit is kept over short times too."""
    return most if per_second is None else max(1, int(min(most, per_second / 4)))
