"""The ledger of an epoch: what its readers say must be every unit, once."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')

from tfx_cassandra.components.errors import CoverageError
from tfx_cassandra.components.torch import epochs
from tfx_cassandra.components.torch.epochs import Record
from tfx_cassandra.components.torch.interleave import UnitRead
from tfx_cassandra.components.torch.shares import Reader


def record(worker: int, *units: int, **changes: object) -> Record:
    read = tuple(UnitRead(unit, 10, 9, 100, 2**63 + unit) for unit in units)
    made = Record('digest', 'version', 2, Reader(0, 1, worker, 2), read, 9 * len(units), 0)
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def verified(*records: Record) -> epochs.EpochCoverage:
    return epochs.verified(records, range(4), 'range {}'.format)


def test_all_units_once() -> None:
    coverage = verified(record(0, 2, 0), record(1, 1, 3))
    assert coverage == epochs.EpochCoverage(2, 2, 4, 40, 36, 0, 400, 6)
    assert verified(record(0, 2, 0, delivered=15, dropped=3), record(1, 1, 3)).dropped == 3


@pytest.mark.parametrize(
    ('records', 'message'),
    [
        ([record(0, 0, 2)], r'^token ranges of the epoch 2 not read: range 1, range 3 \(rule: '),
        ([record(0, 0, 1, 2), record(1, 2, 3)], '1 read more than once: range 2'),
        ([record(0, 0, 1, 2), record(1, 3, 9)], '1 read but not asked for: range 9'),
        ([record(0, 0, 2), record(1, 1, 3, delivered=17)], '^rows of the epoch: got 35 in batches, rule: the 36 rows'),
        ([record(0, 0, 2), record(1, 1, 3, digest='x')], '^epoch: got records that differ in digest, rule: '),
        ([record(0, 0, 2), record(1, 1, 3, version='x')], '^epoch: got records that differ in version, rule: '),
    ],
)
def test_everything_else_is_an_error(records: list[Record], message: str) -> None:
    with pytest.raises(CoverageError, match=message):
        verified(*records)


def test_records_are_files(tmp_path: pathlib.Path) -> None:
    written = [record(0, 2, 0), record(1, 1, 3)]
    for one in written:
        one.write(str(tmp_path))
    record(1, 1, 3, epoch=3).write(str(tmp_path))
    assert epochs.read(str(tmp_path), 2) == written
