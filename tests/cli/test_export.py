"""Parquet files of an export: row groups of many batches, and dictionaries where values repeat."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tfx_cassandra.components.cli import export


def test_texts_have_dictionaries_and_numbers_have_none(tmp_path: Path) -> None:
    some = {
        'text': pa.array(['a', 'b', None]),
        'number': pa.array([1.5, None, 2.5]),
        'time': pa.array([1, 2, 3], pa.timestamp('ms', 'UTC')),
        'map': pa.array([[('k', 1)], [], None], pa.map_(pa.string(), pa.int32())),
        'parts': pa.array([{'x': b'1', 'y': 1}, None, {'x': None, 'y': 2}]),
    }
    batch = pa.RecordBatch.from_arrays(list(some.values()), names=list(some))
    files = export.Files(tmp_path, 'parquet', batch.schema)
    for _ in range(50):
        files.write(batch)
    files.close()
    (path,) = tmp_path.glob('*.parquet')
    assert pq.read_table(path).equals(pa.Table.from_batches([batch] * 50))
    metadata = pq.ParquetFile(path).metadata
    assert metadata.num_row_groups == 1
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    with_dictionary = {one.path_in_schema for one in columns if one.has_dictionary_page}
    assert with_dictionary == {'text', 'map.key_value.key', 'parts.x'}


def test_a_row_group_is_full_at_its_bytes(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(range(1 << 20), pa.int64())], names=['n'])
    files = export.Files(tmp_path, 'parquet', batch.schema)
    for _ in range(20):
        files.write(batch)
    files.close()
    (path,) = tmp_path.glob('*.parquet')
    metadata = pq.ParquetFile(path).metadata
    assert [metadata.row_group(i).num_rows >> 20 for i in range(metadata.num_row_groups)] == [8, 8, 4]
