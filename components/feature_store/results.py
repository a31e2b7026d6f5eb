"""The outcomes of a bulk write."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import overload

from tfx_cassandra.components.errors import WriteError


@dataclasses.dataclass(frozen=True, slots=True)
class WriteResult:
    """The outcome of one row of `write_features`.

    Attributes:
      index: The position of the row in the input, from 0.
      error: Why it was not written, or None if it was.
    """

    index: int
    error: WriteError | None


class WriteResults(Sequence[WriteResult]):
    """The outcomes of the rows of `write_features`, in the order of the input; only errors take memory.

    Args:
      count: Number of rows.
      errors: The errors of the rows that were not written, by position.

    Attributes:
      errors: The same.
      failed: The outcomes of those rows, in order.
    """

    def __init__(self, count: int, errors: Mapping[int, WriteError]) -> None:
        self._count, self.errors = count, errors
        self.failed = [WriteResult(index, errors[index]) for index in sorted(errors)]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> WriteResult: ...
    @overload
    def __getitem__(self, index: slice) -> list[WriteResult]: ...
    def __getitem__(self, index: int | slice) -> WriteResult | list[WriteResult]:
        places = range(self._count)[index]
        if isinstance(places, range):
            return [WriteResult(place, self.errors.get(place)) for place in places]
        return WriteResult(places, self.errors.get(places))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (WriteResults, list)):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as of a list

    def __repr__(self) -> str:
        return f'<WriteResults of {self._count} rows, {len(self.failed)} failed>'
