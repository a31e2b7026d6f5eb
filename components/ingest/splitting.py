"""Bytes of CSV -> records: where each begins and ends, by counting quotes, without a loop over them (RFC 4180).

A quote opens a value at its start and closes it at its end; two quotes within a quoted value are one. So a line break
ends a record if the number of quotes before it is even. Where the quotes break these rules, the line is one broken
record, and reading goes on behind it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 32 << 20  # of a record: more than a Cassandra node takes by default
_LINE_FEED, _RETURN = 10, 13


class Dialect(NamedTuple):
    """The characters of a CSV file, one byte each."""

    delimiter: str = ','
    quote: str = '"'


class Split(NamedTuple):
    """The records at the beginning of a block of bytes.

    Attributes:
      starts: Where each record begins; shape (records).
      ends: Where its bytes end, without the line break; shape (records).
      values: Number of values of each record; shape (records).
      used: How many bytes the records take.
      broken: (end, reason) of the line behind them that is no record, or None; `end` is without its line break.
    """

    starts: NDArray[Any]
    ends: NDArray[Any]
    values: NDArray[Any]
    used: int
    broken: tuple[int, str] | None = None


def split(block: bytes, dialect: Dialect, final: bool) -> Split:
    """Finds the records in a block that begins with one, up to the last complete one, or up to one that is broken.

    Args:
      block: The bytes.
      dialect: Delimiter and quote.
      final: Whether nothing follows the block.
    """
    data = np.frombuffer(block, np.uint8)
    quotes = np.flatnonzero(data == ord(dialect.quote))
    breaks = _outside(np.flatnonzero(data == _LINE_FEED), quotes)
    wrong = _wrong(data, quotes, ord(dialect.delimiter), final, breaks)
    if wrong is not None:
        before = breaks[breaks < wrong[0]]
        start = int(before[-1]) + 1 if len(before) else 0
        end = block.find(b'\n', start)
        found = _records(data, before, quotes, ord(dialect.delimiter), start)
        return found._replace(broken=(len(block) if end < 0 else end, wrong[1]))
    used = len(block) if final else (int(breaks[-1]) + 1 if len(breaks) else 0)
    if final and len(block) and (not len(breaks) or breaks[-1] != len(block) - 1):
        breaks = np.append(breaks, len(block))
    return _records(data, breaks, quotes, ord(dialect.delimiter), used)


def _outside(places: NDArray[Any], quotes: NDArray[Any]) -> NDArray[Any]:
    """Returns the places that are not within a quoted value."""
    return places[np.searchsorted(quotes, places) % 2 == 0] if len(quotes) else places


def _records(data: NDArray[Any], breaks: NDArray[Any], quotes: NDArray[Any], delimiter: int, used: int) -> Split:
    starts = np.concatenate(([0], breaks[:-1] + 1)).astype(np.int64)[: len(breaks)]
    ends = breaks - ((breaks > 0) & (data[np.maximum(breaks, 1) - 1] == _RETURN)) if len(breaks) else breaks
    ends = np.maximum(ends, starts)
    delimiters = _outside(np.flatnonzero(data[:used] == delimiter), quotes)
    values = 1 + np.searchsorted(delimiters, ends) - np.searchsorted(delimiters, starts)
    filled = ends > starts  # an empty line is no record
    return Split(starts[filled], ends[filled], values[filled], used)


def _wrong(
    data: NDArray[Any], quotes: NDArray[Any], delimiter: int, final: bool, breaks: NDArray[Any]
) -> tuple[int, str] | None:
    """Returns (place, reason) of the first byte that breaks the rules, if any."""
    found = []
    before = data[np.maximum(quotes[0::2] - 1, 0)]
    opens = (quotes[0::2] == 0) | (before == delimiter) | (before == _LINE_FEED)
    opens[1:] |= quotes[2::2] == quotes[1::2][: len(quotes[2::2])] + 1
    if not opens.all():
        found.append((int(quotes[0::2][np.argmin(opens)]), 'a quote within a value that does not begin with one'))
    after = data[np.minimum(quotes[1::2] + 1, len(data) - 1)] if len(data) else quotes[1::2]
    closes = (quotes[1::2] == len(data) - 1) | np.isin(after, [delimiter, _LINE_FEED, _RETURN])
    closes[: len(quotes[2::2])] |= quotes[2::2] == quotes[1::2][: len(quotes[2::2])] + 1
    if not closes.all():
        found.append((int(quotes[1::2][np.argmin(closes)]), 'a character behind the closing quote of a value'))
    returns = _outside(np.flatnonzero(data == _RETURN), quotes)
    alone = returns[(returns < len(data) - 1) & (data[np.minimum(returns + 1, len(data) - 1)] != _LINE_FEED)]
    if len(alone):
        found.append((int(alone[0]), 'a carriage return without a line feed'))
    if len(quotes) % 2 and (final or len(data) - quotes[-1] > MOST_BYTES):
        found.append((int(quotes[-1]), 'a quote that is not closed'))
    elif len(data) - (breaks[-1] if len(breaks) else 0) > MOST_BYTES and not final:
        found.append((int(breaks[-1]) + 1 if len(breaks) else 0, f'a line of more than {MOST_BYTES:,} bytes'))
    return min(found) if found else None
