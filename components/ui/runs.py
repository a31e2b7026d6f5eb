"""Pipeline runs and their coverage ledgers, from the folder that run-job or a TFX pipeline writes.

RUNS/<run>/summary.json               of `tfx-cassandra run-job`; its tasks name the URIs of their artifacts
ROOT/<component>/examples/<n>/        of a pipeline that TFX runs: the folder of each Examples artifact
<examples>/coverage.json              the ledger that CassandraExampleGen writes beside the examples
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from tfx_cassandra.components.scan import area as areas
from tfx_cassandra.components.scan.area import Area, Slice
from tfx_cassandra.components.scan.ring import RING, TokenRange

COVERAGE_FILE = 'coverage.json'
_MAX_BYTES = 64 << 20  # of a file that is read


@dataclasses.dataclass(frozen=True)
class Ledger:
    """What one scan has read.

    Attributes:
      table: The table.
      rows, bytes, pages, retries, checksum: Its sums, as the file has them.
      areas: The areas read, in ring order, with the rows of each.
      missing, doubled: Areas of what was asked for that were not read, or were read more than once.
    """

    table: str
    rows: int
    bytes: int
    pages: int
    retries: int
    checksum: str
    areas: tuple[tuple[Area, int], ...]
    missing: tuple[Area, ...]
    doubled: tuple[Area, ...]

    @property
    def by_key(self) -> bool:
        """Whether only some partitions were asked for: a scan of those reads each one's token alone."""
        return bool(self.areas) and all(area.tokens.width == 1 for area, _ in self.areas)

    @property
    def whole(self) -> bool:
        """Whether the areas tile what was asked for exactly once."""
        return not self.missing and not self.doubled


@dataclasses.dataclass(frozen=True)
class Examples:
    """Examples that a run has made: where, of which window, their fingerprint, their number by split, their ledgers."""

    uri: str
    window: str
    fingerprint: str
    splits: Mapping[str, int]
    ledgers: tuple[Ledger, ...]


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of a run: its state, seconds, the number of attempts and what it says of its failure."""

    name: str
    state: str
    seconds: float | None
    attempts: int
    error: str


@dataclasses.dataclass(frozen=True)
class Run:
    """A run of a pipeline, or one Examples artifact where nothing else of the run is recorded.

    Attributes:
      name: Its name.
      state: SUCCEEDED, FAILED, RUNNING, CANCELLED; '' if unknown.
      started, ended: When; None if unknown.
      tasks: Its tasks in the order in which they ended.
      examples: What it has read.
      errors: Files that could not be read, one line each.
    """

    name: str
    state: str
    started: datetime.datetime | None
    ended: datetime.datetime | None
    tasks: tuple[Task, ...]
    examples: tuple[Examples, ...]
    errors: tuple[str, ...] = ()


def last_runs(uri: str, limit: int) -> tuple[Run, ...]:
    """Returns the last runs of a folder, newest first.

    Args:
      uri: The folder of `run-job --runs`, or the root of a TFX pipeline: a local path, or a URI that TFX can open.
      limit: Number of runs at most.

    Raises:
      OSError: The folder cannot be read.
    """
    files = Files(uri)
    summaries = files.newest('*/summary.json', limit)
    if summaries:
        return tuple(_run(files, path) for path in summaries)
    return tuple(_artifact(files, path) for path in files.newest(f'*/examples/*/{COVERAGE_FILE}', limit))


class Files:
    """Files of a folder: local ones by Python alone, others by TFX, which takes seconds to import."""

    def __init__(self, uri: str) -> None:
        self.root = uri.removeprefix('file://').rstrip('/') or '/'
        self._remote = '://' in self.root
        if not self._remote and not pathlib.Path(self.root).is_dir():
            raise FileNotFoundError(f'runs: got {uri!r}, rule: a folder')

    def newest(self, pattern: str, limit: int) -> list[str]:
        """Returns the paths that match, newest first: by name of the run, or else by the time of the change."""
        if not self._remote:
            paths = [path for path in pathlib.Path(self.root).glob(pattern) if path.is_file()]
            return [str(path) for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True)[:limit]]
        from tfx.dsl.io import fileio

        return sorted(map(str, fileio.glob(f'{self.root}/{pattern}')), reverse=True)[:limit]

    def json(self, path: str) -> dict[str, Any]:
        """Returns the JSON object of a file.

        Raises:
          OSError, ValueError: It cannot be read, is too large, or is not JSON.
        """
        if '://' not in path:
            if (size := pathlib.Path(path).stat().st_size) > _MAX_BYTES:
                raise ValueError(f'{size} bytes, more than the {_MAX_BYTES} that are read')
            found = json.loads(pathlib.Path(path).read_text(encoding='utf-8'))
        else:
            from tfx.dsl.io import fileio

            with fileio.open(path) as file:
                found = json.loads(file.read(_MAX_BYTES))
        if not isinstance(found, dict):
            raise ValueError('no object of JSON')
        return found


def _run(files: Files, path: str) -> Run:
    name = path.rsplit('/', 2)[-2]
    try:
        summary = files.json(path)
        listed = sorted(summary.get('tasks', {}).items(), key=lambda item: str(item[1].get('ended') or '~'))
        tasks = tuple(_task(label, task) for label, task in listed)
        uris = list(dict.fromkeys(uri for _, task in listed for uri in _examples_uris(task)))
        started, ended = _moment(summary.get('started')), _moment(summary.get('ended'))
        state = str(summary.get('state', ''))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        return Run(name, '', None, None, (), (), (_reason(path, error),))
    examples, errors = _all_examples(files, uris)
    return Run(name, state, started, ended, tasks, examples, errors)


def _artifact(files: Files, path: str) -> Run:
    uri = path.rsplit('/', 1)[0]
    examples, errors = _all_examples(files, [uri])
    ended = None
    if '://' not in path:
        ended = datetime.datetime.fromtimestamp(pathlib.Path(path).stat().st_mtime, datetime.timezone.utc)
    return Run(uri.removeprefix(f'{files.root}/'), '', None, ended, (), examples, errors)


def _task(label: str, task: Mapping[str, Any]) -> Task:
    seconds = task.get('seconds')
    error = ' '.join(str(task.get('error') or '').split())
    attempts = task.get('attempts')
    return Task(
        label,
        str(task.get('state', '')),
        float(seconds) if isinstance(seconds, (int, float)) else None,
        attempts if isinstance(attempts, int) else 0,
        error,
    )


def _examples_uris(task: Mapping[str, Any]) -> Iterator[str]:
    """Yields the URIs of a task's artifacts that have a fingerprint: the examples of this package."""
    for artifacts in ((task.get('outputs') or {}).get('artifacts') or {}).values():
        for artifact in artifacts:
            if 'fingerprint' in (artifact.get('metadata') or {}) and isinstance(artifact.get('uri'), str):
                yield artifact['uri'].rstrip('/')


def _all_examples(files: Files, uris: list[str]) -> tuple[tuple[Examples, ...], tuple[str, ...]]:
    examples, errors = [], []
    for uri in uris:
        path = f'{uri.removeprefix("file://")}/{COVERAGE_FILE}'
        try:
            examples.append(examples_of(uri, files.json(path)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            errors.append(_reason(path, error))
    return tuple(examples), tuple(errors)


def examples_of(uri: str, coverage: Mapping[str, Any]) -> Examples:
    """Returns what a coverage.json says.

    Raises:
      KeyError, TypeError, ValueError: It is not as CassandraExampleGen writes it.
    """
    scans = [coverage, *(coverage.get('views') or {}).values()]
    ledgers = tuple(_ledger(scan) for scan in scans if scan.get('plan') != 'lookup')
    splits = {str(name): int(count) for name, count in coverage['examples'].items()}
    return Examples(uri, str(coverage.get('window', '')), str(coverage['fingerprint']), splits, ledgers)


def _ledger(scan: Mapping[str, Any]) -> Ledger:
    reads = [
        (Area(TokenRange(*entry['tokens']), Slice(*entry['times']) if entry['times'] else Slice()), int(entry['rows']))
        for entry in scan['reads']
    ]
    reads.sort(key=lambda read: read[0])
    times = Slice()
    if reads:
        times = Slice(min(area.times.start for area, _ in reads), max(area.times.end for area, _ in reads))
    keys = {area.tokens for area, _ in reads}
    by_key = keys and all(tokens.width == 1 for tokens in keys)
    wanted = [Area(tokens, times) for tokens in sorted(keys)] if by_key else [Area(RING, times)]
    faults = areas.faults([area for area, _ in reads], wanted)
    sums = {field: int(scan[field]) for field in ('rows', 'bytes', 'pages', 'retries')}
    return Ledger(
        str(scan['table']),
        **sums,
        checksum=str(scan['checksum']),
        areas=tuple(reads),
        missing=tuple(faults.missing),
        doubled=tuple(faults.doubled),
    )


def _moment(text: Any) -> datetime.datetime | None:
    try:
        moment = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment.astimezone(datetime.timezone.utc)


def _reason(path: str, error: Exception) -> str:
    return f'{path}: {type(error).__name__}: {" ".join(str(error).split())}'
