"""The metrics of this package, each declared once.

A metric is a Prometheus metric of the process, in prometheus_client's default registry. Where a DoFn runs, it is also a
Beam metric of the DoFn's step, in the namespace `tfx_cassandra`: a counter under the same name, and a histogram of
seconds as a distribution of microseconds, because distributions of Beam hold integers. Beam's metrics have no labels: a
counter is the sum over them. Gauges are metrics of Prometheus alone.

Code counts pages, batches and requests, never single rows, in the thread that processes them: Beam finds the step by
it.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import prometheus_client
from prometheus_client import core
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from tfx_cassandra.components.errors import invalid

NAMESPACE = 'tfx_cassandra'

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
_RUN_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)  # seconds


class Metric:
    """A declared metric.

    Attributes:
      name: Its name in Prometheus.
      kind: 'counter', 'gauge' or 'histogram'.
      about: What it counts or measures.
      labels: Names of its labels.
    """

    def __init__(self, kind: str, name: str, about: str, labels: tuple[str, ...]) -> None:
        if any(metric.name == name for metric in _declared):
            raise invalid('name', name, 'a metric that is declared once')
        self.kind, self.about, self.labels = kind, about, labels
        self.name: str = name
        self._beam: Any = None
        self.reset()
        _declared.append(self)

    @property
    def beam_name(self) -> str | None:
        """Its name in Beam; None for a gauge."""
        if self.kind == 'gauge':
            return None
        return f'{self.name.removesuffix("_seconds")}_microseconds' if self.kind == 'histogram' else self.name

    def reset(self) -> None:
        """Forgets all values, and a lock that a thread may hold which does not exist in a forked child."""
        self._lock = threading.Lock()

    def family(self) -> Any:
        """Returns the values in the form of prometheus_client; None if others show them."""
        return None

    def _in_beam(self, kind: str) -> Any:
        """Returns the Beam metric; None where Beam is not loaded, and so no DoFn runs."""
        if self._beam is None:
            factory = getattr(sys.modules.get('apache_beam.metrics.metric'), 'Metrics', None)
            # Outside a DoFn, updates of a Beam metric have no effect.
            self._beam = factory and getattr(factory, kind)(NAMESPACE, self.beam_name)
        return self._beam


class Counter(Metric):
    """A number that grows."""

    def __init__(self, name: str, about: str, *labels: str) -> None:
        super().__init__('counter', name, about, labels)

    def reset(self) -> None:
        super().reset()
        self._values: dict[tuple[str, ...], int] = {} if self.labels else {(): 0}

    def add(self, amount: int = 1, *labels: str) -> None:
        """Adds to the series of some labels."""
        if amount:
            with self._lock:
                self._values[labels] = self._values.get(labels, 0) + amount
            if (beam := self._in_beam('counter')) is not None:
                beam.inc(amount)

    def family(self) -> Any:
        family = core.CounterMetricFamily(self.name, self.about, labels=self.labels)
        for labels, value in list(self._values.items()):
            family.add_metric(labels, value)
        return family


class Gauge(Metric):
    """A number that grows and shrinks: a function gives it whenever the metrics are read."""

    def __init__(self, name: str, about: str) -> None:
        super().__init__('gauge', name, about, ())
        self._function: Callable[[], float] = float

    def read_from(self, function: Callable[[], float]) -> None:
        """Takes the value from a function."""
        self._function = function

    def family(self) -> Any:
        return core.GaugeMetricFamily(self.name, self.about, self._function())


class Histogram(Metric):
    """Durations in seconds, from which quantiles follow."""

    def __init__(self, name: str, about: str, buckets: Sequence[float] = _REQUEST_BUCKETS) -> None:
        self._bounds = (*buckets, float('inf'))  # upper ends, included
        super().__init__('histogram', name, about, ())

    def reset(self) -> None:
        super().reset()
        self._counts, self._sum = [0] * len(self._bounds), 0.0

    def observe(self, seconds: float) -> None:
        """Adds a duration."""
        place = bisect.bisect_left(self._bounds, seconds)
        with self._lock:
            self._counts[place] += 1
            self._sum += seconds
        if (beam := self._in_beam('distribution')) is not None:
            beam.update(int(seconds * 1e6))

    def family(self) -> Any:
        with self._lock:
            counts, total = list(self._counts), self._sum
        ends = map(floatToGoString, self._bounds)
        buckets = list(zip(ends, itertools.accumulate(counts), strict=True))
        return core.HistogramMetricFamily(self.name, self.about, buckets=buckets, sum_value=total)


class _Collector(Collector):
    """Shows the values to prometheus_client.

    Its own counters and histograms take several times as long for each update, which the loops would notice.
    """

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        yield from filter(None, (metric.family() for metric in _declared))


_declared: list[Metric] = []
prometheus_client.REGISTRY.register(_Collector())


def declared() -> tuple[Metric, ...]:
    """Returns the metrics that this process has declared, in order."""
    return tuple(_declared)


def _reset_all() -> None:
    for metric in _declared:
        metric.reset()


os.register_at_fork(after_in_child=_reset_all)


@contextlib.contextmanager
def timed(seconds: Histogram) -> Iterator[None]:
    """Adds the duration of a block to a histogram, however the block ends."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds.observe(time.monotonic() - began)


class Requests:
    """The metrics of one kind of requests: how many are in flight, and how long each takes."""

    def __init__(self, in_flight: Gauge, seconds: Histogram) -> None:
        self.in_flight, self.seconds = in_flight, seconds
        self._open: set[Request] = set()  # changed by several threads, by operations that are atomic in Python
        in_flight.read_from(lambda: len(self._open))
        os.register_at_fork(after_in_child=self._open.clear)

    def begin(self) -> Request:
        """Returns a request that is sent now."""
        request = Request(self.seconds, self._open)
        self._open.add(request)
        return request


class Request:
    """A request in flight: `end` when it is answered, in any thread; `observe` in the thread that takes the answer."""

    __slots__ = ('_began', '_histogram', '_open', '_seconds')

    def __init__(self, histogram: Histogram, in_flight: set[Request]) -> None:
        self._histogram, self._open, self._began = histogram, in_flight, time.monotonic()
        self._seconds: float | None = None

    def end(self, *_: object) -> bool:
        """Ends the request, also as a callback of the driver; returns whether this is its first answer.

        The driver may answer one request twice: with an error when its time is over, and with what arrives later.
        """
        try:
            self._open.remove(self)  # in whichever thread is first
        except KeyError:
            return False
        self._seconds = time.monotonic() - self._began
        return True

    def observe(self) -> float:
        """Adds its duration to the histogram; returns the seconds."""
        # The driver may hand out an answer just before it calls back.
        seconds = time.monotonic() - self._began if self._seconds is None else self._seconds
        self._histogram.observe(seconds)
        return seconds


READ_ROWS = Counter('tfx_cassandra_read_rows_total', 'Rows read by scans.', 'table')
READ_BYTES = Counter('tfx_cassandra_read_bytes_total', 'Bytes of the pages read by scans.', 'table')
READ_PAGES = Counter('tfx_cassandra_read_pages_total', 'Pages read by scans.', 'table')
READ_RETRIES = Counter(
    'tfx_cassandra_read_retries_total', 'Pages requested again: node unreachable, slow or refusing.', 'table', 'reason'
)
READ_DIVISIONS = Counter(
    'tfx_cassandra_read_divisions_total', 'Token ranges cut while they are read.', 'table', 'reason'
)
READ_REQUESTS = Requests(
    Gauge('tfx_cassandra_read_in_flight', 'Pages requested by scans and not yet answered.'),
    Histogram('tfx_cassandra_read_seconds', 'Time to the answer of a page requested by a scan.'),
)

WRITE_ROWS = Counter('tfx_cassandra_write_rows_total', 'Rows written.', 'table')
WRITE_BYTES = Counter('tfx_cassandra_write_bytes_total', 'Bytes of the requests by which rows were written.', 'table')
WRITE_RETRIES = Counter('tfx_cassandra_write_retries_total', 'Rows sent again after their batch failed.', 'table')
WRITE_DEAD_LETTERS = Counter(
    'tfx_cassandra_write_dead_letters_total', 'Rows that were invalid, or rejected by the cluster.', 'table', 'reason'
)
WRITE_REQUESTS = Requests(
    Gauge('tfx_cassandra_write_in_flight', 'Writes sent and not yet answered.'),
    Histogram('tfx_cassandra_write_seconds', 'Time to the answer of a write, of one row or a batch.'),
)

LOOKUP_KEYS = Counter('tfx_cassandra_lookup_keys_total', 'Keys looked up.', 'table')
LOOKUP_ROWS = Counter('tfx_cassandra_lookup_rows_total', 'Rows read by lookups.', 'table')
LOOKUP_BYTES = Counter('tfx_cassandra_lookup_bytes_total', 'Bytes of the pages read by lookups in pipelines.', 'table')
LOOKUP_PAGES = Counter('tfx_cassandra_lookup_pages_total', 'Pages read by lookups.', 'table')
LOOKUP_RETRIES = Counter('tfx_cassandra_lookup_retries_total', 'Pages requested again by lookups.', 'table')
LOOKUP_REQUESTS = Requests(
    Gauge('tfx_cassandra_lookup_in_flight', 'Pages requested by lookups and not yet answered.'),
    Histogram('tfx_cassandra_lookup_seconds', 'Time to the answer of a page requested by a lookup.'),
)

DRIVER_CONNECTIONS = Gauge('tfx_cassandra_driver_connections', 'Open connections of the driver to nodes.')
DRIVER_REQUESTS = Gauge('tfx_cassandra_driver_requests', 'Requests of the driver that no node has answered yet.')
REQUEST_ATTEMPTS = Counter(
    'tfx_cassandra_request_attempts_total',
    'Attempts of feature stores beyond the first of a request, by retries and speculative requests of the driver.',
)

LOG_ROWS = Counter('tfx_cassandra_log_rows_total', 'Rows written by inference loggers.')
LOG_DROPS = Counter('tfx_cassandra_log_drops_total', 'Rows that inference loggers dropped: queue full, or not open.')
LOG_DEAD_LETTERS = Counter('tfx_cassandra_log_dead_letters_total', 'Rows of inference loggers that were not written.')
LOG_RETRIES = Counter('tfx_cassandra_log_retries_total', 'Rows of inference loggers sent again after their batch.')
LOG_QUEUE = Gauge('tfx_cassandra_log_queue_rows', 'Rows that wait in the queues of inference loggers.')
LOG_REQUESTS = Requests(
    Gauge('tfx_cassandra_log_in_flight', 'Writes of inference loggers sent and not yet answered.'),
    Histogram('tfx_cassandra_log_seconds', 'Time to the answer of a write of an inference logger.'),
)

REGISTRY_RETRIES = Counter('tfx_cassandra_registry_retries_total', 'Transactions of the model registry tried again.')
PUSHES = Counter('tfx_cassandra_pushes_total', 'Runs of CassandraPusher.', 'outcome')
PUSH_SECONDS = Histogram('tfx_cassandra_push_seconds', 'Duration of a run of CassandraPusher.', buckets=_RUN_BUCKETS)
AB_RUNS = Counter('tfx_cassandra_ab_runs_total', 'Evaluations of A/B tests.', 'verdict')
AB_SECONDS = Histogram('tfx_cassandra_ab_seconds', 'Duration of the evaluation of an A/B test.', buckets=_RUN_BUCKETS)
