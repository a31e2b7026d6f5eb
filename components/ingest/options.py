"""How inputs are loaded, and what a load has done."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tfx_cassandra.components.checks import Name, Rate, check_fields
from tfx_cassandra.components.errors import WriteError, invalid
from tfx_cassandra.components.ingest.delimited import CsvFormat
from tfx_cassandra.components.ingest.mapping import Mapping

_BY_NAME, _COMMAS = Mapping(), CsvFormat()
_SHARE_FROM = 1000  # records from which on a share of errors is judged


@dataclasses.dataclass(frozen=True)
class ErrorLimit:
    """How many records may fail.

    Attributes:
      count: Their number; None for no limit by number.
      share: Their share of the records read so far, judged from 1,000 records on and at the end; None for no limit.
    """

    count: int | None = 0
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> ErrorLimit:
        """Parses '10' or '0.5%'; raises ValueError for any other text."""
        try:
            if text.endswith('%') and 0 <= float(text[:-1]) <= 100:
                return cls(None, float(text[:-1]) / 100)
            if text.isascii() and text.isdigit():
                return cls(int(text))
        except ValueError:
            pass
        raise invalid('max-errors', text, 'a number such as 10, or a share such as 0.5%')

    def check(self, failed: int, records: int, first: str, at_end: bool = False) -> None:
        """Raises WriteError if more than may have failed.

        Args:
          failed: How many records have.
          records: How many were read.
          first: The first error.
          at_end: Whether no records follow.
        """
        over = self.count is not None and failed > self.count
        if self.share is not None and (at_end or records >= _SHARE_FROM):
            over = over or failed > self.share * records
        if over:
            raise WriteError(f'records failed: got {failed:,} of {records:,}, rule: at most {self} (first: {first})')

    def __str__(self) -> str:
        return f'{self.count:,}' if self.count is not None else f'{100 * (self.share or 0):g}%'


_NO_ERRORS = ErrorLimit()


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """How inputs are loaded.

    Attributes:
      mapping: How records become rows.
      csv: How CSV files are written.
      timestamp_column: Column, or other field, with each row's write time; None for the time of writing.
      rate: Rows written a second at most.
      max_errors: How many records may fail.
      dead_letters: File for the records that failed; needed if any may fail.
      checkpoint: File for what was acknowledged.
      dry_run: Whether everything is converted and nothing written.

    Raises:
      ValueError: A field breaks its rule.
    """

    mapping: Mapping = _BY_NAME
    csv: CsvFormat = _COMMAS
    timestamp_column: Name | None = None
    rate: Rate | None = None
    max_errors: ErrorLimit = _NO_ERRORS
    dead_letters: Path | None = None
    checkpoint: Path | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if self.max_errors != _NO_ERRORS and self.dead_letters is None and not self.dry_run:
            raise invalid('max-errors', str(self.max_errors), '0 without dead-letters, where the failed rows go')


@dataclasses.dataclass
class Summary:
    """What a load has done; the counts include what its checkpoint knew.

    Attributes:
      rows: Rows written.
      records: Records read.
      failed: Records that failed.
      errors: The first errors of this run, one line each.
    """

    rows: int = 0
    records: int = 0
    failed: int = 0
    errors: list[str] = dataclasses.field(default_factory=list)
