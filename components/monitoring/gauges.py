"""The metrics of features, declared; their values are replaced by every round of the monitor."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from tfx_cassandra.components.metrics import Metric


class Measurement(NamedTuple):
    """One value of one metric; `labels` are in the order of the metric's own."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


def _gauge(name: str, about: str, *labels: str) -> Metric:
    return Metric('gauge', f'tfx_cassandra_{name}', about, labels)


_FEATURE = ('view', 'feature')

NEWEST = _gauge(
    'feature_newest_timestamp_seconds', "Time of a feature's newest value, seconds since 1970; 0 if none.", *_FEATURE
)
AGE = _gauge('feature_age_seconds', "Age of a feature's newest value; infinite if no window has one.", *_FEATURE)
MISSING = _gauge('feature_missing_ratio', 'Share of rows whose value is null or NaN.', *_FEATURE, 'window')
VALUES = _gauge('feature_values', 'Values that were read of a window.', *_FEATURE, 'window')
MEAN = _gauge('feature_mean', 'Mean of the values of a window.', *_FEATURE, 'window')
QUANTILE = _gauge('feature_quantile', 'Quantile of the values of a window.', *_FEATURE, 'window', 'quantile')
DRIFT_MEAN = _gauge(
    'feature_drift_mean', "Difference of the windows' means, in standard deviations of the reference.", *_FEATURE
)
DRIFT_QUANTILE = _gauge(
    'feature_drift_quantile',
    "Difference of the windows' quantiles, in standard deviations of the reference.",
    *_FEATURE,
    'quantile',
)
DRIFT_PSI = _gauge('feature_drift_psi', 'Population stability index of the two windows.', *_FEATURE)
DRIFT_KS = _gauge('feature_drift_ks', 'Kolmogorov-Smirnov statistic of the two windows, 0 to 1.', *_FEATURE)
DRIFT_KS_P = _gauge('feature_drift_ks_p_value', 'Its p-value: how likely it is without drift.', *_FEATURE)

_SKEW = ('model', 'feature')
SKEW_VALUES = _gauge('skew_values', 'Served values that were compared with the training set.', *_SKEW)
SKEW_RATIO = _gauge('skew_ratio', 'Share of them that differ from the training set.', *_SKEW)
SKEW_DIFFERENCE = _gauge('skew_mean_difference', 'Mean absolute difference of the two.', *_SKEW)

ROUND_SECONDS = _gauge('monitor_round_seconds', 'Duration of the last complete round.')
ROUND_TIME = _gauge('monitor_last_round_timestamp_seconds', 'When the last complete round ended, seconds since 1970.')


class Snapshot(Collector):
    """Shows the measurements of the last round to Prometheus; ages grow between rounds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._measured: tuple[Measurement, ...] = ()

    def replace(self, measured: Sequence[Measurement]) -> None:
        """Replaces all measurements."""
        with self._lock:
            self._measured = tuple(measured)

    def describe(self) -> list[Any]:
        """Returns nothing, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            measured = self._measured
        families: dict[str, GaugeMetricFamily] = {}
        for metric, labels, value in [*measured, *ages(measured, time.time())]:
            family = families.get(metric.name)
            if family is None:
                family = families[metric.name] = GaugeMetricFamily(metric.name, metric.about, labels=metric.labels)
            family.add_metric(labels, value)
        yield from families.values()


def ages(measured: Sequence[Measurement], now: float) -> list[Measurement]:
    """Returns the ages that follow from the times of the newest values; `now` in seconds since 1970."""
    newest = [m for m in measured if m.metric is NEWEST]
    return [Measurement(AGE, m.labels, now - m.value if m.value else float('inf')) for m in newest]
