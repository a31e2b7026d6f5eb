"""SSTables that a real Cassandra has written, in each version, against what CQL said of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded_sstables import unpacked
from snapshots import difference, in_files

from tfx_cassandra.components.sstable import data, layout
from tfx_cassandra.components.sstable.schema_file import SchemaFile
from tfx_cassandra.components.sstable.snapshot import open_snapshot
from tfx_cassandra.components.sstable.sstable import SSTable


@pytest.mark.parametrize('archive', ['recorded_nb', 'recorded_oa', 'recorded_da'])
def test_recorded_tables_equal_cql(tmp_path: Path, archive: str) -> None:
    tables = unpacked(tmp_path, archive)
    assert len(tables) >= {'recorded_nb': 300}.get(archive, 40)
    for name, one in tables.items():
        assert in_files(one.folder, one.now)[0].names == one.names
        assert (name, difference(one)) == (name, None)


def first_clusterings(schema: SchemaFile, sstable: SSTable) -> Iterator[bytes]:
    """Yields the values of the first clustering column of all rows of an SSTable that are not deleted in it."""
    header = sstable.statistics.header
    plan = layout.plan_of(schema, [header], schema.table.clustering[:1])
    stream = layout.stream_of(schema, header, sstable.files.version, sstable.name, layout.Part())
    content = sstable.feed()
    merger = data.Merger(plan, [stream], [lambda: next(content, b'')], 0, 1000, 1 << 20)
    while True:
        count, cells, _ = merger.batch()
        if not count:
            return
        yield from (cells[0].value(i) for i in range(count))


@pytest.mark.parametrize('archive', ['recorded', 'recorded_oa', 'recorded_da'])
def test_the_bounds_of_an_sstable_hold_all_its_rows(tmp_path: Path, archive: str) -> None:
    tight = 0
    for one in unpacked(tmp_path, archive).values():
        schema, sstables = open_snapshot(one.folder)
        for sstable in sstables if schema.table.clustering else ():
            known = sstable.statistics
            (order,) = layout.plan_of(schema, [known.header], []).clustering_orders[:1]
            values = [value for value in first_clusterings(schema, sstable) if value is not None]
            least, greatest = known.bounds
            assert all(least is None or data.compare(order, least, value) <= 0 for value in values)
            assert all(greatest is None or data.compare(order, value, greatest) <= 0 for value in values)
            tight += bool(values) and (least, greatest) == (values[0], values[-1]) and least != greatest
    assert tight >= 1


def test_what_a_window_needs(tmp_path: Path) -> None:
    _, (first, *_) = open_snapshot(unpacked(tmp_path)['written'].folder)

    def concerns(start: int, end: int, **changes: object) -> bool:
        known = {'bounds': (moment(10), moment(20)), 'partitions_deleted': False, **changes}
        header = dataclasses.replace(first.statistics.header, statics=known.pop('statics', ()))
        changed = dataclasses.replace(first.statistics, header=header, **known)
        return dataclasses.replace(first, statistics=changed).concerns(start, end)

    assert [concerns(start, start + 5) for start in (5, 6, 10, 20, 21)] == [False, True, True, True, False]
    assert concerns(30, 40, bounds=(moment(35), moment(-7)))  # a descending order
    assert not concerns(30, 40, bounds=(moment(-7), moment(-70)))
    for changes in (
        {'bounds': (None, moment(20))},
        {'bounds': (moment(10), b'')},
        {'partitions_deleted': True},
        {'statics': (('s', 'org.apache.cassandra.db.marshal.Int32Type'),)},
    ):
        assert concerns(30, 40, **changes)


def moment(milliseconds: int) -> bytes:
    return milliseconds.to_bytes(8, 'big', signed=True)
