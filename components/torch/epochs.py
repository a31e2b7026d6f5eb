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
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.torch.interleave import UnitRead
from tfx_cassandra.components.torch.shares import Reader, share

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


class Ledger(NamedTuple):
    """The records of a dataset's epochs.

    Attributes:
      folder: Where they are.
      order: Returns the order of all units in an epoch.
      describe: Returns a unit as messages name it.
    """

    folder: str
    order: Callable[[int], NDArray[np.int64]]
    describe: Callable[[int], str]

    def forget(self, epoch: int, reader: Reader) -> None:
        """Removes the record of a reader, who begins the epoch."""
        Record.path(self.folder, epoch, reader).unlink(missing_ok=True)

    def finish(self, record: Record) -> None:
        """Writes the record of a share, and checks the epoch once all of its readers have done so.

        Raises:
          CoverageError: Something was not read, or was read more than once.
        """
        record.write(self.folder)
        reader, records = record.reader, read(self.folder, record.epoch)
        of_rank = [other for other in records if other.reader.rank == reader.rank]
        if len(records) == reader.count:
            self._verified(records, record.epoch, range(reader.ranks))
        elif len(of_rank) == reader.workers:
            self._verified(of_rank, record.epoch, [reader.rank])

    def coverage(self, epoch: int, ranks: int) -> EpochCoverage:
        """Returns what all ranks have read of an epoch; with torch.distributed they exchange their records.

        Raises:
          CoverageError: Something was not read, or was read more than once.
        """
        from torch import distributed as dist

        records = read(self.folder, epoch)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            gathered: list[list[Record]] = [[] for _ in range(dist.get_world_size())]
            dist.all_gather_object(gathered, records)
            records = list({record.reader: record for part in gathered for record in part}.values())
        return self._verified(records, epoch, range(ranks))

    def _verified(self, records: list[Record], epoch: int, ranks: Iterable[int]) -> EpochCoverage:
        """Checks records against the shares of some ranks."""
        order = self.order(epoch)
        workers = max((record.reader.workers for record in records), default=1)
        world = max((record.reader.ranks for record in records), default=1)
        readers = [Reader(rank, world, worker, workers) for rank in ranks for worker in range(workers)]
        return verified(records, [unit for reader in readers for unit in share(order, reader)], self.describe)


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
