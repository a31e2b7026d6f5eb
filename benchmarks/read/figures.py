"""Runs -> medians -> the table and the verdicts. Values in, text out."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Summary:
    """The medians of a reader's runs on a table.

    Attributes:
      key: The reader's.
      layout: The table's.
      rows: Rows of the table.
      returned: Each number of rows that a run returned.
      rate: Rows a second of the work.
      cpu: CPU seconds of the work, a million rows.
      peak: Bytes resident at once.
      grown: Of these, what was not there when the work began; None where the reader does not say.
      process_wall: Seconds of the whole process.
      rounds: Number of runs.
    """

    key: str
    layout: str
    rows: int
    returned: tuple[int, ...]
    rate: float
    cpu: float
    peak: float
    grown: float | None
    process_wall: float
    rounds: int

    @property
    def complete(self) -> bool:
        """Whether every run returned every row."""
        return self.returned == (self.rows,)


def summarize(runs: Sequence[Mapping[str, Any]]) -> list[Summary]:
    """Takes the medians over the rounds.

    Args:
      runs: Of each run `reader`, `layout`, `table_rows`, and the fields of measure.Run.

    Returns:
      One summary for each reader and table, in the order of their first runs.
    """
    grouped: dict[tuple[str, str, int], list[Mapping[str, Any]]] = {}
    for run in runs:
        grouped.setdefault((run['reader'], run['layout'], run['table_rows']), []).append(run)
    return [_summary(*key, members) for key, members in grouped.items()]


def _summary(key: str, layout: str, rows: int, runs: Sequence[Mapping[str, Any]]) -> Summary:
    def median(value: Callable[[Mapping[str, Any]], float]) -> float:
        return statistics.median(map(value, runs))

    return Summary(
        key,
        layout,
        rows,
        tuple(sorted({run['rows'] for run in runs})),
        # The table's rows, so that a reader that returns fewer is not faster for it.
        rate=median(lambda run: rows / run['wall']),
        cpu=median(lambda run: run['cpu'] / rows * 1e6),
        peak=median(lambda run: run['peak']),
        grown=median(lambda run: run['peak'] - run['details']['resident']) if _says_resident(runs) else None,
        process_wall=median(lambda run: run['process_wall']),
        rounds=len(runs),
    )


def _says_resident(runs: Sequence[Mapping[str, Any]]) -> bool:
    return all('resident' in run.get('details', ()) for run in runs)


@dataclasses.dataclass(frozen=True)
class Target:
    """What a figure must reach.

    Attributes:
      name: What the figure is.
      floor, aim: Its bounds; where `at_most`, it must stay below them.
      unit: Put behind the figure.
      measured: Finds the figure; None where a part of it was not measured.
    """

    name: str
    floor: float
    aim: float
    unit: str
    measured: Callable[[Figures], float | None]
    at_most: bool = False

    def verdict(self, figure: float | None) -> str:
        """Returns 'aim', 'floor', 'MISSED' or 'not measured'."""
        if figure is None:
            return 'not measured'
        sign = -1 if self.at_most else 1
        if figure * sign >= self.aim * sign:
            return 'aim'
        return 'floor' if figure * sign >= self.floor * sign else 'MISSED'


class Figures:
    """Finds medians by reader; what is not there, or returned another number of rows, gives None.

    Args:
      summaries: Of all readers and tables.
      rows: Rows of the table of feature_store's layout.
      large: Rows of the one for the memory figure.
    """

    def __init__(self, summaries: Sequence[Summary], rows: int, large: int) -> None:
        self._summaries = summaries
        self.rows, self.large = rows, large

    def find(self, key: str, rows: int | None = None, layout: str = 'feature_store') -> Summary | None:
        """Returns a reader's summary on the table of so many rows; None for `rows` stands for whichever it read."""
        found = [s for s in self._summaries if s.key == key and s.layout == layout and rows in (None, s.rows)]
        return found[0] if found and found[0].complete else None

    def ratio(self, key: str, other: str, same_table: bool = True) -> float | None:
        """Returns how many times as fast as another a reader is."""
        one, two = self.find(key, self.rows), self.find(other, self.rows if same_table else None)
        return one.rate / two.rate if one and two else None

    def cpu(self, key: str) -> float | None:
        summary = self.find(key, self.rows)
        return summary.cpu if summary else None

    def growth(self, key: str) -> float | None:
        """Returns a reader's peak memory on the large table, as a multiple of that on the other."""
        one, two = self.find(key, self.large), self.find(key, self.rows)
        return one.peak / two.peak if one and two else None

    def grown(self, key: str) -> str:
        """Says how many MB a reader takes for its work, on the table and on the large one."""
        found = [(rows, self.find(key, rows)) for rows in (self.rows, self.large)]
        parts = [f'{s.grown / 1e6:,.0f} MB for {rows:,} rows' for rows, s in found if s and s.grown is not None]
        return ', '.join(parts)


TARGETS = (
    Target('(b) record batches, share of (a)', 0.85, 0.95, '', lambda f: f.ratio('batches', 'raw')),
    Target('(c) gzip TFRecord with hash splits, share of (a)', 0.75, 0.90, '', lambda f: f.ratio('examples', 'raw')),
    Target('(c) against DSBulk unload to CSV', 2.5, 3, 'x', lambda f: f.ratio('examples', 'dsbulk')),
    Target('(c) against Spark to Parquet', 4, 5, 'x', lambda f: f.ratio('examples', 'spark_parquet')),
    Target('(c) against a driver loop', 4, 5, 'x', lambda f: f.ratio('examples', 'driver')),
    Target("(c) in Beam against TFX's chain", 15, 20, 'x', lambda f: f.ratio('example_gen', 'tfx_chain', False)),
    Target('client CPU s / M rows, (c)', 1.2, 0.8, 's', lambda f: f.cpu('examples'), at_most=True),
    Target('peak memory, 4 x the rows', 1.1, 1.0, 'x', lambda f: f.growth('examples'), at_most=True),
)


def verdicts(figures: Figures) -> list[list[str]]:
    """Returns the rows of the target table: name, floor, aim, measured, verdict."""
    lines = []
    for target in TARGETS:
        figure = target.measured(figures)
        said = '-' if figure is None else f'{figure:.2f}{target.unit}'
        bound = '<= ' if target.at_most else ''
        bounds = [f'{bound}{value:g}{target.unit}' for value in (target.floor, target.aim)]
        lines.append([target.name, *bounds, said, target.verdict(figure)])
    return lines


def rates(summaries: Sequence[Summary], titles: Mapping[str, str], limits: Mapping[str, float]) -> list[list[str]]:
    """Returns the rows of the table of readers.

    Args:
      summaries: Of one layout.
      titles: Of the readers, by key.
      limits: Rows a second of the raw pages, by layout.
    """
    lines = []
    for summary in summaries:
        limit = limits.get(summary.layout)
        returned = ' or '.join(f'{rows:,}' for rows in summary.returned)
        lines.append([
            titles[summary.key], f'{summary.rate / 1000:,.0f}', f'{summary.rate / limit:.2f}' if limit else '-',
            f'{summary.cpu:.2f}', f'{summary.peak / 1e6:,.0f}', f'{summary.process_wall:.1f}', str(summary.rounds),
            returned if summary.complete else f'{returned} of {summary.rows:,}: WRONG',
        ])  # fmt: skip
    return lines


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Aligns the cells of a table: the first column to the left, all others to the right."""
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    return '\n'.join(
        '  '.join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(cells))
        for cells in (list(zip(line, widths, strict=True)) for line in [header, *lines])
    )
