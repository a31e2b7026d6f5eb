"""The page: reads its parts and renders them. A part that cannot be read says why, and the others are shown."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jinja2

from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.errors import invalid, shown
from tfx_cassandra.components.experiment import plots
from tfx_cassandra.components.ui import charts, features, health, models, ring, runs
from tfx_cassandra.components.ui.source import Kept, Part, Source
from tfx_cassandra.components.window import EPOCH, MILLISECOND

T = TypeVar('T')

PAGE_VERSIONS = 50
_CHARTS, _INTERVALS = 6, 12  # metrics drawn over the versions, and versions in a plot of intervals
_DETAILS = 40  # metrics of a version that are listed
_WORDS, _PLOT_WORDS = 60, 20  # characters of a name, and of one in a plot
_MAX_QUERY = 500  # characters of a parameter
_MAX_MOMENT = 253_402_300_800_000  # the end of the year 9999, in ms since 1970


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the page shows.

    Attributes:
      runs: Folder or URI of the pipeline runs; None for none.
      views: Views whose freshness is shown; empty for what `feature_store` holds.
      experiments: The only experiments shown; empty for all.
      sample: Entities a view's freshness is measured on.
      last_runs: Runs that are shown.
      seconds: How long an answer is used again.
    """

    runs: str | None = None
    views: tuple[FeatureView, ...] = ()
    experiments: tuple[str, ...] = ()
    sample: int = 50
    last_runs: int = 10
    seconds: float = 5.0


class Board:
    """Renders the page from a cluster and a folder of runs.

    Args:
      source: The cluster.
      settings: What is shown.
    """

    def __init__(self, source: Source, settings: Settings) -> None:
        self._source, self._settings = source, settings
        self._kept = Kept(settings.seconds)
        self._start = features.start_token()

    def render(self, query: Mapping[str, str]) -> str:
        """Returns the page.

        Args:
          query: `experiment`: the one shown; `before`: ms since 1970 before which its versions were created; `metrics`:
            text that the metrics shown have in their names. Others are ignored.
        """
        query = {name: value[:_MAX_QUERY] for name, value in query.items()}
        now = datetime.datetime.now(datetime.timezone.utc)
        cluster = self._read('health', self._health)
        experiments = self._of_cluster(cluster, 'experiments', self._experiments)
        chosen = query.get('experiment') or next(iter(experiments.content or ()), '')
        versions: Part[models.Versions] = Part(error=experiments.error)
        if chosen and experiments.content is not None:
            before = query.get('before', '')
            versions = self._of_cluster(cluster, ('versions', chosen, before), lambda: self._versions(chosen, before))
        shown_versions = versions.content.versions if versions.content else ()
        first = tuple(sorted({version.model_id for version in shown_versions}))
        wanted = query.get('metrics', '')
        found_runs = self._runs()
        found = {
            'cluster': cluster,
            'experiments': experiments,
            'versions': versions,
            'metrics': self._of_cluster(cluster, ('metrics', wanted, first), lambda: self._metrics(wanted, first)),
            'features': self._of_cluster(cluster, 'features', lambda: self._features(now)),
            'runs': found_runs,
        }
        return _TEMPLATE.render(
            **found,
            now=now,
            chosen=chosen,
            wanted=wanted,
            before=query.get('before', ''),
            connection=self._source.connection,
            settings=self._settings,
            overview=models.over_versions(shown_versions, _CHARTS),
            intervals=models.intervals(shown_versions, _INTERVALS),
            made_by=_made_by(found_runs.content or ()),
        )

    def _read(self, key: Any, read: Callable[[], T]) -> Part[T]:
        return self._kept.get(key, lambda: self._source.part(read))

    def _of_cluster(self, cluster: Part[health.Health], key: Any, read: Callable[[], T]) -> Part[T]:
        """Reads a part; not even tried while the cluster does not answer, for each try takes its time."""
        if cluster.error:
            return Part(error=cluster.error)
        return self._read(key, read)

    def _health(self) -> health.Health:
        with self._source.session() as session:
            return health.health(session)

    def _experiments(self) -> tuple[str, ...]:
        if self._settings.experiments:
            return self._settings.experiments
        with self._source.registry() as registry:
            return registry.experiments(models.MAX_EXPERIMENTS)

    def _versions(self, experiment: str, before: str) -> models.Versions:
        if self._settings.experiments and experiment not in self._settings.experiments:
            raise invalid('experiment', experiment, f'one of {", ".join(self._settings.experiments)}')
        with self._source.registry() as registry:
            return models.page_of_versions(registry, experiment, PAGE_VERSIONS, _moment(before))

    def _metrics(self, wanted: str, first: Sequence[str]) -> models.Metrics:
        with self._source.session() as session:
            return models.metrics(session, self._source.connection.keyspace, wanted, first)

    def _features(self, now: datetime.datetime) -> list[Part[list[features.Freshness]]]:
        """Measures each view; one that cannot be measured does not hide the others."""
        with self._source.session() as session:
            keyspace, settings = self._source.connection.keyspace, self._settings
            sampler = features.Sampler(session, keyspace, settings.sample, self._start)
            if not settings.views:
                return [self._source.part(lambda: sampler.discovered(now))]
            return [self._source.part(functools.partial(sampler.measure, view, now)) for view in settings.views]

    def _runs(self) -> Part[tuple[runs.Run, ...]]:
        uri, limit = self._settings.runs, self._settings.last_runs
        if uri is None:
            return Part(())
        return self._read('runs', lambda: runs.last_runs(uri, limit))


def _moment(before: str) -> datetime.datetime | None:
    if not before:
        return None
    if not (before.isascii() and before.isdigit() and len(before) < 16 and int(before) < _MAX_MOMENT):
        raise invalid('before', before, 'milliseconds since 1970, of the years until 9999')
    return EPOCH + int(before) * MILLISECOND


def _made_by(found: Sequence[runs.Run]) -> dict[str, int]:
    """Returns the place on the page of the run that has made examples, by their fingerprint."""
    places: dict[str, int] = {}
    for place, run in enumerate(found):
        for examples in run.examples:
            places.setdefault(examples.fingerprint, place)
    return places


_UNITS = ((86400 * 365.25, 'y'), (86400, 'd'), (3600, 'h'), (60, 'min'), (1, 's'))


def span(length: datetime.timedelta | float | None) -> str:
    """Returns a length of time in its largest unit, such as '3.2 h'."""
    if length is None:
        return '-'
    seconds = length.total_seconds() if isinstance(length, datetime.timedelta) else length
    sign = '-' if seconds < 0 else ''
    for size, unit in _UNITS:
        if abs(seconds) >= size:
            return f'{sign}{abs(seconds) / size:.3g} {unit}'
    return f'{seconds:.2g} s'


def number(value: float | None) -> str:
    """Returns a number to four digits, a whole one with its thousands."""
    if value is None:
        return '-'
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e12):
        return f'{int(value):,}'
    return f'{value:.4g}'


def size(count: int) -> str:
    """Returns a number of bytes, such as '44 MB'."""
    for unit in ('B', 'kB', 'MB', 'GB', 'TB'):
        if count < 1000 or unit == 'TB':
            return f'{count:.3g} {unit}'
        count /= 1000  # type: ignore[assignment]
    return ''


def moment(at: datetime.datetime | None) -> str:
    """Returns a moment of UTC to the minute."""
    return '-' if at is None else f'{at.astimezone(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC'


def _window(text: str | None) -> str:
    """Returns a window as dates where it begins and ends at midnight of UTC."""
    return (text or '').replace('T00:00:00+00:00', '').replace('+00:00', 'Z').replace('/', ' to ', 1)


def _shortened(found: Sequence[plots.Interval]) -> list[plots.Interval]:
    return [interval._replace(label=charts.short(interval.label, _PLOT_WORDS)) for interval in found]


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(__package__, ''),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        'span': span, 'number': number, 'size': size, 'moment': moment, 'window': _window, 'one_line': shown,
        'short': lambda text, length=_WORDS: charts.short(str(text), length),
        'ms': lambda at: (at - EPOCH) // MILLISECOND,
    }  # fmt: skip
    environment.globals |= {
        'bar': charts.bar, 'lines': charts.lines,
        'ring': ring.ring, 'verdict': ring.verdict, 'differences': plots.differences,
        'shortened': _shortened, 'plain_metrics': models.plain_metrics, 'DETAILS': _DETAILS, 'COLORS': len(plots.LINES),
    }  # fmt: skip
    return environment.get_template('page.html.jinja')


_TEMPLATE = _template()
