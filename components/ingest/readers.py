"""The reader of an input, by its format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tfx_cassandra.components.ingest import columnar
from tfx_cassandra.components.ingest.delimited import CsvFormat, CsvReader
from tfx_cassandra.components.ingest.inputs import Input, Stream, opened, seekable
from tfx_cassandra.components.ingest.json_lines import JsonReader
from tfx_cassandra.components.ingest.records import Records
from tfx_cassandra.components.ingest.tfrecords import ExampleReader


class Reader(Protocol):
    """Reads the records of an input."""

    @property
    def fields(self) -> list[str] | None:
        """The fields of every record, in order; None if each record has its own."""

    def read(self, *arguments: Any, **options: Any) -> Iterator[Records]:
        """Yields the records behind a place, with the wanted fields.

        Args:
          wanted: The fields.
          start: The place.
          others: Of records that have their own fields: whether they may have others.
        """
        ...


@contextmanager
def reader(source: Input, csv: CsvFormat) -> Iterator[tuple[Stream, Reader]]:
    """Opens an input; gives its stream and its reader.

    Raises:
      InputError, SchemaError: It cannot be read, or is of another format.
    """
    with opened(source) as stream:
        if source.format == 'csv':
            yield stream, CsvReader(source.path, stream, csv)
        elif source.format == 'jsonl':
            yield stream, JsonReader(source.path, stream)
        elif source.format == 'tfrecord':
            yield stream, ExampleReader(source.path, stream)
        elif source.format == 'arrow' and not columnar.is_arrow_file(stream):
            yield stream, columnar.arrow(source, stream, None)
        else:
            with seekable(source, stream) as file:
                yield stream, _columnar(source, stream, file)


def _columnar(source: Input, stream: Stream, file: Any) -> Reader:
    if source.format == 'parquet':
        return columnar.parquet(source.path, file)
    return columnar.arrow(source, stream, file)
