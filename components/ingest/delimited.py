"""CSV -> records: cut by `splitting.split`, parsed by pyarrow.csv, so that each record keeps its line."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from tfx_cassandra.components.checks import Name, Rule, check_fields
from tfx_cassandra.components.errors import SchemaError, shown
from tfx_cassandra.components.ingest.convert import Source, texts_of
from tfx_cassandra.components.ingest.inputs import Stream
from tfx_cassandra.components.ingest.records import START, Broken, Position, Records
from tfx_cassandra.components.ingest.splitting import MOST_BYTES, Dialect, Split, split

BLOCK = 2 << 20  # bytes that are parsed at once
_BOM = b'\xef\xbb\xbf'

_Character = Annotated[str, Rule('one ASCII character', lambda text: len(text) == 1 and text.isascii())]


@dataclasses.dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is written.

    Attributes:
      delimiter: What stands between two values.
      nulls: The texts that stand for no value, besides that of no characters, where they are not quoted.
      fields: Names of the fields where the file has no line of them.
    """

    delimiter: _Character = ','
    nulls: tuple[str, ...] = ()
    fields: tuple[Name, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, 'csv.')


class CsvReader:
    """Reads the records of a CSV file.

    Args:
      path: Its path, for messages.
      stream: The open file.
      format: How it is written.

    Raises:
      SchemaError: It has no line of names, or a wrong one.
    """

    def __init__(self, path: str, stream: Stream, format: CsvFormat) -> None:
        self._path, self._stream, self._format = path, stream, format
        self._dialect = Dialect(format.delimiter)
        self._buffer, self._ended = b'', False
        self._fill(max(BLOCK, len(_BOM)))
        begins = len(_BOM) if self._buffer.startswith(_BOM) else 0
        self._buffer = self._buffer[begins:]
        self._at = Position(0, 0, begins)
        self.fields = list(format.fields) or self._header()

    def _fill(self, size: int) -> None:
        data = self._stream.take(size)
        self._ended = not data
        self._buffer += data

    def _header(self) -> list[str]:
        while not (found := split(self._buffer, self._dialect, self._ended)).starts.size and not self._ended:
            if found.broken:
                break
            self._fill(BLOCK)
        if not found.starts.size:
            reason = found.broken[1] if found.broken else 'nothing'
            raise SchemaError(f'{self._path}:1: got {reason}, rule: a line with the names of the fields')
        start, end = int(found.starts[0]), int(found.ends[0])
        text = self._buffer[start:end].decode(errors='backslashreplace')
        try:
            (names,) = csv.reader(io.StringIO(text, newline=''), delimiter=self._format.delimiter)
        except csv.Error as error:  # such as a NUL character, below Python 3.11
            rule = f'a line with the names of the fields ({error})'
            raise SchemaError(f'{self._path}:1: got {shown(text)}, rule: {rule}') from error
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SchemaError(f'{self._path}:1: got field {twice[0]!r} twice, rule: each name once')
        after = self._buffer.find(b'\n', end) + 1 or len(self._buffer)
        self._at = Position(0, self._buffer.count(b'\n', 0, after), self._at.offset + after)
        self._buffer = self._buffer[after:]
        return names

    def read(self, wanted: Sequence[str], start: Position = START) -> Iterator[Records]:
        """Yields the records behind a place that an earlier run has reached, with the wanted fields as texts.

        Raises:
          InputError: The file is damaged.
        """
        if start.offset > self._at.offset:
            skipped = start.offset - self._at.offset
            self._stream.skip(skipped - len(self._buffer))
            self._buffer, self._at = self._buffer[skipped:], start
        while True:
            found = split(self._buffer, self._dialect, self._ended)
            if found.used or found.broken:
                yield self._records(found, wanted)
            if found.broken:
                continue
            if self._ended:
                return
            # A record that is longer than all that was read so far: twice as much.
            self._fill(BLOCK if found.used else max(BLOCK, len(self._buffer)))

    def _records(self, found: Split, wanted: Sequence[str]) -> Records:
        end = found.used
        if found.broken:
            end = min(found.broken[0] + 1, len(self._buffer))
        block, self._buffer = self._buffer[:end], self._buffer[end:]
        breaks = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
        numbers = self._at.records + 1 + np.arange(len(found.starts))
        lines = self._at.lines + 1 + np.searchsorted(breaks, found.starts)
        fits = found.values == len(self.fields)
        broken = [
            self._broken(int(numbers[i]), int(lines[i]), block[found.starts[i] : found.ends[i]], int(found.values[i]))
            for i in np.flatnonzero(~fits)
        ]
        count = len(numbers)
        if found.broken:
            line = self._at.lines + 1 + int(np.searchsorted(breaks, found.used))
            text = block[found.used :].decode(errors='surrogateescape').rstrip('\r\n')
            error = f'got {shown(text)}, rule: quotes as in RFC 4180 ({found.broken[1]})'
            broken.append(Broken(self._at.records + 1 + count, line, text[:MOST_BYTES], error))
            count += 1
        self._at = Position(
            self._at.records + count, self._at.lines + len(breaks), self._at.offset + len(block)
        )  # fmt: skip
        columns = self._parsed(block, found, fits, wanted)
        return Records(columns, numbers[fits], lines[fits], broken, self._at, self._stream.share)

    def _broken(self, number: int, line: int, text: bytes, values: int) -> Broken:
        shown_text = text.decode(errors='surrogateescape')
        error = f'got {values} values in {shown(shown_text)}, rule: {len(self.fields)}, as many as there are fields'
        return Broken(number, line, shown_text, error)

    def _parsed(self, block: bytes, found: Split, fits: NDArray[Any], wanted: Sequence[str]) -> dict[str, Source]:
        count = int(fits.sum())
        if not count:
            return {name: pa.array([], pa.string()) for name in wanted}
        if not fits.all():
            places = zip(found.starts[fits], found.ends[fits], strict=True)
            block = b'\n'.join(block[start:end] for start, end in places)
        else:
            block = block[: found.used]
        # pa_csv.read_csv searches all objects of the process for references after each call (25 ms with TFX loaded).
        opened = pa_csv.open_csv(
            pa.py_buffer(block),
            pa_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=self.fields),
            pa_csv.ParseOptions(delimiter=self._format.delimiter, newlines_in_values=True),
            pa_csv.ConvertOptions(
                check_utf8=False, column_types=dict.fromkeys(self.fields, pa.binary()),
                null_values=['', *self._format.nulls], strings_can_be_null=True, quoted_strings_can_be_null=False,
                include_columns=list(wanted),
            ),
        )  # fmt: skip
        table = opened.read_all()
        if table.num_rows != count:
            raise AssertionError(f'{self._path}: pyarrow parsed {table.num_rows} records of {count}')
        return {name: _texts(table.column(name).combine_chunks()) for name in wanted}


def _texts(column: pa.Array | pa.ChunkedArray) -> Source:
    array = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        return texts_of(array)
