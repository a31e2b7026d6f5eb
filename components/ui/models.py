"""Model versions with their aliases, lineage and intervals, and time series of metrics, each read with a limit."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from cassandra import ConsistencyLevel
from cassandra.cluster import Session

from tfx_cassandra.components.cql.table import quoted
from tfx_cassandra.components.driver.concurrent import outcomes
from tfx_cassandra.components.driver.responses import utc
from tfx_cassandra.components.experiment.plots import Interval
from tfx_cassandra.components.registry.registry import ModelRegistry, ModelVersion

MAX_EXPERIMENTS, MAX_SERIES = 200, 1000  # that are listed
_POINTS, _DRAWN = 300, 12  # newest points of a series, and series on the page
_IN_FLIGHT = 8
_STATISTIC = re.compile(r'(?P<metric>.*)\{ab=(?P<statistic>[a-z_]+)\}', re.DOTALL)
_NEEDED = ('difference', 'low', 'high')


@dataclasses.dataclass(frozen=True)
class Versions:
    """A page of the versions of an experiment, newest first.

    Attributes:
      experiment: Its id.
      versions: The versions.
      aliases: Names of the aliases that point at (model_id, version).
      missing: Aliases of versions that are not on this page: name -> 'model/version'.
      older: The moment before which the next page begins; None on the last page.
    """

    experiment: str
    versions: tuple[ModelVersion, ...]
    aliases: Mapping[tuple[str, str], tuple[str, ...]]
    missing: Mapping[str, str]
    older: datetime.datetime | None


@dataclasses.dataclass(frozen=True)
class Series:
    """A time series: its points in the order of time, finite ones alone."""

    model_id: str
    name: str
    points: tuple[tuple[datetime.datetime, float], ...]


@dataclasses.dataclass(frozen=True)
class Metrics:
    """Time series of `model_metrics`: those that are drawn, and how many match, of how many that were listed."""

    drawn: tuple[Series, ...]
    matching: int
    listed: int

    @property
    def complete(self) -> bool:
        """Whether the list of series is not cut."""
        return self.listed < MAX_SERIES


def page_of_versions(
    registry: ModelRegistry, experiment: str, limit: int, before: datetime.datetime | None
) -> Versions:
    """Reads one page of versions and all aliases of an experiment."""
    found = registry.newest(experiment, limit + 1, before)
    shown = found[:limit]
    names: dict[tuple[str, str], tuple[str, ...]] = {}
    for move in registry.aliases(experiment):
        key = (move.model_id, move.version)
        names[key] = (*names.get(key, ()), move.alias)
    on_page = {(version.model_id, version.version) for version in shown}
    missing = {
        alias: f'{model}/{version}'
        for (model, version), aliases in names.items()
        if (model, version) not in on_page
        for alias in aliases
    }
    older = shown[-1].created_at if len(found) > limit else None
    return Versions(experiment, shown, names, missing, older)


def plain_metrics(version: ModelVersion) -> dict[str, float]:
    """Returns a version's metrics without the statistics of its A/B test, those of the overall slice first."""
    plain = {key: value for key, value in version.metrics.items() if not _STATISTIC.fullmatch(key)}
    return dict(sorted(plain.items(), key=lambda item: ('{' in item[0], item[0])))


def over_versions(versions: Sequence[ModelVersion], limit: int) -> dict[str, list[Series]]:
    """Returns the metrics over the versions of each model: metric -> a series a model, for `limit` metrics at most."""
    counts: dict[str, int] = {}
    for version in versions:
        for name in plain_metrics(version):
            counts[name] = counts.get(name, 0) + 1
    # First the metrics that most versions have, and of those the overall slice.
    chosen = sorted(counts, key=lambda name: ('{' in name, -counts[name], name))[:limit]
    models = sorted({version.model_id for version in versions})
    found: dict[str, list[Series]] = {}
    for name, model in itertools.product(chosen, models):
        values = [(v.created_at, v.metrics.get(name, math.nan)) for v in reversed(versions) if v.model_id == model]
        if points := tuple(point for point in values if math.isfinite(point[1])):
            found.setdefault(name, []).append(Series(model, name, points))
    return found


def intervals(versions: Sequence[ModelVersion], limit: int) -> dict[str, list[Interval]]:
    """Returns the differences from the control that A/B tests have recorded: metric -> one a version, newest first."""
    found: dict[str, list[Interval]] = {}
    for version in versions:
        statistics: dict[str, dict[str, float]] = {}
        for key, value in version.metrics.items():
            if (match := _STATISTIC.fullmatch(key)) and math.isfinite(value):
                statistics.setdefault(match['metric'], {})[match['statistic']] = value
        for metric, values in sorted(statistics.items()):
            if all(name in values for name in _NEEDED) and len(found.get(metric, ())) < limit:
                label = f'{version.ab_test_group or version.model_id} {version.version}'
                difference, low, high = (values[name] for name in _NEEDED)
                ends = values.get('sequential_low'), values.get('sequential_high')
                found.setdefault(metric, []).append(Interval(label, difference, low, high, *ends))
    return found


def metrics(session: Session, keyspace: str, wanted: str, first: Iterable[str]) -> Metrics:
    """Reads the newest points of series of `model_metrics`.

    Args:
      session: The driver's session.
      keyspace: Keyspace of the table.
      wanted: Text that the model or the name of a series has in it; '' for any.
      first: Models whose series come first.
    """
    table, first = f'{quoted(keyspace)}.model_metrics', set(first)
    listing = session.prepare(f'SELECT DISTINCT model_id, metric_name FROM {table} LIMIT ?')
    listing.consistency_level = ConsistencyLevel.LOCAL_ONE
    listed = [(str(row.model_id), str(row.metric_name)) for row in session.execute(listing, (MAX_SERIES,))]
    matching = [key for key in listed if wanted.casefold() in f'{key[0]} {key[1]}'.casefold()]
    matching.sort(key=lambda key: (key[0] not in first, key))
    newest = session.prepare(
        f'SELECT timestamp, value FROM {table} WHERE model_id = ? AND metric_name = ? ORDER BY timestamp DESC LIMIT ?'
    )
    newest.consistency_level = ConsistencyLevel.LOCAL_ONE
    drawn = []
    requests = ((key, newest.bind((*key, _POINTS))) for key in matching[:_DRAWN])
    for (model_id, name), outcome in outcomes(session, requests, _IN_FLIGHT):
        if isinstance(outcome, Exception):
            raise outcome
        rows = [row for row in reversed(outcome) if isinstance(row.timestamp, datetime.datetime)]
        points = [(utc('timestamp', row.timestamp), row.value) for row in rows if isinstance(row.value, float)]
        drawn.append(Series(model_id, name, tuple(point for point in points if math.isfinite(point[1]))))
    return Metrics(tuple(drawn), len(matching), len(listed))
