"""The ledger of an epoch: what each reader has read, and the proof that together they read everything exactly once.

A reader that has finished its share writes a record into a folder. The last one to finish finds the records of all, and
checks them; where not all ranks share the folder, those of its own rank.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.torch.interleave import UnitRead
from tfx_cassandra.components.torch.shares import Reader

_SHOWN = 5  # units that a message names


@dataclasses.dataclass(frozen=True)
class Record:
    """What one reader has read in an epoch.

    Attributes:
      digest: Of what was to be read and how it was shared.
      version: Of the source's rows.
      epoch: The epoch.
      reader: The reader.
      units: The units that it has read completely.
      delivered: Rows in the batches that it gave away.
      dropped: Rows of a last, too small batch.
    """

    digest: str
    version: str
    epoch: int
    reader: Reader
    units: tuple[UnitRead, ...]
    delivered: int
    dropped: int

    def write(self, folder: str) -> None:
        """Writes the record, so that others see all of it or nothing."""
        path = self.path(folder, self.epoch, self.reader)
        temporary = path.with_suffix(f'.{os.getpid()}')
        temporary.write_text(json.dumps(dataclasses.asdict(self)))
        temporary.replace(path)

    @staticmethod
    def path(folder: str, epoch: int, reader: Reader) -> pathlib.Path:
        """Returns the file of a reader's record."""
        return pathlib.Path(folder, f'epoch-{epoch}-rank-{reader.rank}-worker-{reader.worker}.json')


@dataclasses.dataclass(frozen=True)
class EpochCoverage:
    """What an epoch has read; created by `verified`, so it is everything, exactly once.

    Attributes:
      epoch: The epoch.
      readers: Number of readers.
      units: Number of units: token ranges, or parts of a training set.
      rows: Rows that were read.
      delivered: Rows in batches; `dropped` more were in last batches that were too small, where drop_last is set.
      dropped: See there.
      bytes: Size of what was read.
      checksum: Sum over the rows of a 64-bit hash of each, modulo 2^64: of a table, that of any other scan of it.
    """

    epoch: int
    readers: int
    units: int
    rows: int
    delivered: int
    dropped: int
    bytes: int
    checksum: int


def read(folder: str, epoch: int) -> list[Record]:
    """Returns the records of an epoch."""
    records = []
    for path in sorted(pathlib.Path(folder).glob(f'epoch-{epoch}-rank-*-worker-*.json')):
        content: dict[str, Any] = json.loads(path.read_text())
        units = tuple(UnitRead(*unit) for unit in content['units'])
        records.append(Record(**content | {'reader': Reader(**content['reader']), 'units': units}))
    return records


def verified(records: Sequence[Record], wanted: Iterable[int], describe: Callable[[int], str]) -> EpochCoverage:
    """Adds up records, after checking that their units are those wanted, each exactly once.

    Args:
      records: The records of an epoch.
      wanted: Numbers of the units.
      describe: Returns a unit as the message names it.

    Raises:
      CoverageError: A unit was not read, was read more than once or belongs to no one; rows were read and not
        delivered; or the readers did not read the same.
    """
    _check_alike(records)
    read_units = collections.Counter(unit.unit for record in records for unit in record.units)
    expected = set(wanted)
    problems = [
        ('not read', sorted(expected - read_units.keys())),
        ('read more than once', sorted(unit for unit, count in read_units.items() if count > 1)),
        ('read but not asked for', sorted(read_units.keys() - expected)),
    ]
    texts = [f'{len(units)} {what}: {_named(units, describe)}' for what, units in problems if units]
    if texts:
        raise CoverageError(f'token ranges of the epoch {"; ".join(texts)} (rule: all readers read each exactly once)')
    units = [unit for record in records for unit in record.units]
    kept, given = sum(unit.kept for unit in units), sum(record.delivered + record.dropped for record in records)
    if kept != given:
        raise CoverageError(f'rows of the epoch: got {given} in batches, rule: the {kept} rows that were read')
    return EpochCoverage(
        records[0].epoch if records else 0,
        len(records),
        len(units),
        sum(unit.rows for unit in units),
        sum(record.delivered for record in records),
        sum(record.dropped for record in records),
        sum(unit.bytes for unit in units),
        sum(unit.checksum for unit in units) % 2**64,
    )


def _check_alike(records: Sequence[Record]) -> None:
    for field in ('digest', 'version', 'epoch'):
        if len({getattr(record, field) for record in records}) > 1:
            rule = 'readers of one epoch with equal arguments, of one table'
            raise CoverageError(f'epoch: got records that differ in {field}, rule: {rule}')


def _named(units: list[int], describe: Callable[[int], str]) -> str:
    rest = f' and {len(units) - _SHOWN} more' if len(units) > _SHOWN else ''
    return ', '.join(map(describe, units[:_SHOWN])) + rest
