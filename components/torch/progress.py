"""How far a reader has come in an epoch, and its form as the plain values of a `state_dict`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tfx_cassandra.components.errors import DatasetError
from tfx_cassandra.components.torch.blocks import BEGINNING, Batch, Start, content_crc
from tfx_cassandra.components.torch.epochs import Record
from tfx_cassandra.components.torch.interleave import Interleave, Place, UnitRead
from tfx_cassandra.components.torch.shares import Reader

VERSION = 1  # of the state's form


@dataclasses.dataclass
class Progress:
    """How far a reader has come in an epoch.

    Attributes:
      digest: Of what decides about the order of the rows.
      epoch: The epoch.
      reader: The reader.
      place: Where the block begins that is read; None for the beginning.
      start: The block, and how many of its batches were given away.
      version: Of the source's rows.
      before: The units that were finished when the iteration began.
      delivered, dropped: Rows in batches so far, and in a dropped last one.
    """

    digest: str
    epoch: int
    reader: Reader
    place: Place | None = None
    start: Start = BEGINNING
    version: str | None = None
    before: tuple[UnitRead, ...] = ()
    delivered: int = 0
    dropped: int = 0
    _done: Sequence[UnitRead] = ()  # units finished since, of which the first `_finished` were before the block
    _finished: int = 0
    _block: pa.Table | None = None
    _crc: int | None = None  # of the block, once a state has asked for it

    def check_version(self, version: str) -> None:
        """Raises DatasetError if the source's rows are not those of the state."""
        if self.version not in (None, version):
            rule = 'that of the table, or the training set, that is read'
            raise DatasetError(f'state: got version {self.version} of the rows, rule: {rule} ({version})')
        self.version = version

    def record(self, batch: Batch, done: list[UnitRead]) -> None:
        """Records a batch that is given away, or dropped."""
        if batch.dropped:
            self.dropped += batch.rows.num_rows
        else:
            self.delivered += batch.rows.num_rows
        if batch.block is not self._block:
            self._block, self._crc = batch.block, None
        self.place = batch.place
        self.start = Start(batch.number, batch.batches)
        self._done, self._finished = done, batch.units

    def record_end(self, rows: Interleave) -> None:
        """Records that all units have been read."""
        self._done, self._finished = rows.done, len(rows.done)
        self.place, self._block, self._crc = rows.place, None, None

    @property
    def units(self) -> tuple[UnitRead, ...]:
        """The units that were finished before the block."""
        return (*self.before, *self._done[: self._finished])

    def as_record(self) -> Record:
        """Returns the record of a finished share."""
        version = str(self.version)
        return Record(self.digest, version, self.epoch, self.reader, self.units, self.delivered, self.dropped)

    def state(self) -> dict[str, Any]:
        """Returns what `restored` needs, in plain values."""
        reader, place = self.reader, self.place
        if self._block is not None and self._crc is None:
            self._crc = content_crc(self._block)
        return {
            'version': VERSION,
            'digest': self.digest,
            'rows': self.version,
            'epoch': self.epoch,
            'reader': [reader.rank, reader.ranks, reader.worker, reader.workers],
            'place': None if place is None else [[list(lane) for lane in place.lanes], *place[1:]],
            'block': [self.start.number, self.start.batches, self._crc],
            'units': [list(unit) for unit in self.units],
            'delivered': self.delivered,
            'dropped': self.dropped,
        }


def begun(epoch: int) -> dict[str, Any]:
    """Returns the state of a reader that has not begun an epoch."""
    return {'version': VERSION, 'epoch': epoch}


def restored(fresh: Progress, state: Mapping[str, Any]) -> Progress:
    """Returns the progress of a state.

    Args:
      fresh: Of the reader that continues, before it has read anything.
      state: The state.

    Raises:
      DatasetError: The state is of another reader, or of other arguments.
    """
    saved = Reader(*state['reader'])
    if saved != fresh.reader:
        raise DatasetError(f'state: got that of {saved}, rule: the number of ranks and workers it was saved with')
    if state['digest'] != fresh.digest:
        raise DatasetError('state: got that of another dataset, rule: the arguments that it was saved with')
    place = state['place']
    if place is not None:
        lanes, *rest = place
        place = Place(tuple((position, taken) for position, taken in lanes), *rest)
    units = tuple(UnitRead(*unit) for unit in state['units'])
    return dataclasses.replace(
        fresh, place=place, start=Start(*state['block']), version=state['rows'], before=units,
        delivered=state['delivered'], dropped=state['dropped'],
    )  # fmt: skip
