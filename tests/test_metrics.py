"""How metrics are declared, counted and named, in Prometheus and in Beam."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import apache_beam as beam
import prometheus_client
import pytest
from apache_beam.metrics.metric import MetricsFilter
from counted import counted

from tfx_cassandra.components import metrics


def test_names_follow_the_conventions_of_prometheus() -> None:
    names = [metric.name for metric in metrics.declared()]
    assert len(set(names)) == len(names)
    for metric in metrics.declared():
        assert metric.name.startswith('tfx_cassandra_')
        assert metric.name.endswith('_total') == (metric.kind == 'counter')
        assert metric.name.endswith('_seconds') or metric.kind != 'histogram'


def test_a_counter_and_its_labels() -> None:
    with counted() as grown:
        metrics.READ_RETRIES.add(2, 'k.t', 'slow')
        metrics.READ_RETRIES.add(1, 'k.t', 'refused')
        metrics.READ_RETRIES.add(0, 'k.t', 'unreachable')
    name = 'tfx_cassandra_read_retries_total'
    assert grown == {(name, ('k.t', 'slow')): 2.0, (name, ('k.t', 'refused')): 1.0}


def test_a_request_is_in_flight_until_it_ends_once() -> None:
    with counted() as grown:
        request = metrics.READ_REQUESTS.begin()
        with counted() as ended:
            for _ in range(3):  # the driver calls back for every page
                thread = threading.Thread(target=request.end, args=(['page'],))
                thread.start()
                thread.join()
        assert ended == {('tfx_cassandra_read_in_flight', ()): -1.0}
        request.observe()
    assert ('tfx_cassandra_read_in_flight', ()) not in grown
    assert grown['tfx_cassandra_read_seconds_count', ()] == 1


def test_a_duration_counts_where_the_block_fails() -> None:
    with counted() as grown, pytest.raises(OSError, match='no'), metrics.timed(metrics.PUSH_SECONDS):
        raise OSError('no')
    assert grown['tfx_cassandra_push_seconds_count', ()] == 1
    assert 0 < grown['tfx_cassandra_push_seconds_sum', ()] < 60


class _Count(beam.DoFn):
    def process(self, number: int) -> None:
        metrics.WRITE_ROWS.add(number, f'k.t{number}')
        metrics.WRITE_REQUESTS.seconds.observe(number / 1000)


def test_a_dofn_counts_in_beam_under_the_same_name() -> None:
    pipeline = beam.Pipeline()
    _ = pipeline | beam.Create([1, 2, 3]) | beam.ParDo(_Count())
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace('tfx_cassandra'))
    assert {c.key.metric.name: c.committed for c in found['counters']} == {'tfx_cassandra_write_rows_total': 6}
    (distribution,) = found['distributions']
    assert distribution.key.metric.name == metrics.WRITE_REQUESTS.seconds.beam_name
    assert distribution.key.metric.name == 'tfx_cassandra_write_microseconds'
    seen = distribution.committed
    assert (seen.count, seen.sum, seen.min, seen.max) == (3, 6000, 1000, 3000)


def test_beam_is_not_loaded_for_it() -> None:
    code = (
        'import sys; from tfx_cassandra.components import metrics; metrics.READ_ROWS.add(1, "k.t"); '
        'metrics.READ_REQUESTS.begin().observe(); sys.exit("apache_beam" in sys.modules)'
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


@pytest.mark.parametrize('declare', [metrics.Counter, metrics.Gauge, metrics.Histogram])
def test_a_name_is_declared_once(declare: Callable) -> None:
    with pytest.raises(
        ValueError, match=r"^name: got 'tfx_cassandra_read_rows_total', rule: a metric that is declared"
    ):
        declare('tfx_cassandra_read_rows_total', 'Again.')


def test_what_is_shown_is_what_prometheus_client_shows_of_the_same_values() -> None:
    """Our own counters and histograms beside those of prometheus_client."""
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram('h_seconds', 'H.', buckets=(0.5, 1.0), registry=registry)
    counter = prometheus_client.Counter('c_total', 'C.', ('table',), registry=registry)
    ours = metrics.Histogram.__new__(metrics.Histogram)
    ours._bounds, ours._beam = (0.5, 1.0, float('inf')), None
    ours.kind, ours.name, ours.about, ours.labels = 'histogram', 'h_seconds', 'H.', ()
    ours.reset()
    counted_by_us = metrics.Counter.__new__(metrics.Counter)
    counted_by_us._beam, counted_by_us.labels = None, ('table',)
    counted_by_us.kind, counted_by_us.name, counted_by_us.about = 'counter', 'c_total', 'C.'
    counted_by_us.reset()
    for value in (0.1, 0.5, 0.7, 1.0, 9.0):
        theirs.observe(value)
        ours.observe(value)
        counter.labels('t').inc(2)
        counted_by_us.add(2, 't')
    shown = {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in registry.collect() for sample in family.samples if not sample.name.endswith('_created')
    }  # fmt: skip
    families = [ours.family(), counted_by_us.family()]
    assert {(s.name, tuple(s.labels.items())): s.value for family in families for s in family.samples} == shown


def test_no_update_is_lost_between_threads() -> None:
    with counted() as grown:
        threads = [
            threading.Thread(target=lambda: [metrics.READ_REQUESTS.begin().end() for _ in range(2000)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert grown == {}


def test_a_forked_child_starts_with_nothing() -> None:
    metrics.READ_ROWS.add(5, 'forked')
    request = metrics.READ_REQUESTS.begin()
    with metrics.READ_ROWS._lock:  # as if another thread held it
        child = os.fork()
        if child == 0:
            metrics.READ_ROWS.add(1, 'forked')
            values = list(metrics.READ_ROWS._values.values())
            os._exit(0 if values == [1] and metrics.READ_REQUESTS.in_flight._function() == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert metrics.READ_REQUESTS.in_flight._function() == 1
    request.end()
