"""Spans: what they hold, how they nest, and that nothing happens without OpenTelemetry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import opentelemetry.trace as api
import pytest
from fake_server import TABLE, FakeSession, Row
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tfx_cassandra.components import tracing
from tfx_cassandra.components.errors import ReadError
from tfx_cassandra.components.scan import ring
from tfx_cassandra.components.scan.area import Area
from tfx_cassandra.components.scan.fetch import Fetcher
from tfx_cassandra.components.scan.plan import Split
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.ring import RING

ROWS = [Row(k, n * 1000, 10) for k in range(20) for n in range(30)]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(api, 'get_tracer', provider.get_tracer)
    yield exporter
    provider.shutdown()


def splits(count: int) -> list[Split]:
    return [Split(Area(tokens), (), 1) for tokens in ring.subdivide([RING], count)]


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == f'tfx_cassandra.{name}']


def test_a_scan_and_its_splits(spans: InMemorySpanExporter) -> None:
    list(Fetcher(FakeSession(ROWS), plan_scan(TABLE)).fetch(splits(5)))
    (scan,) = named(spans, 'scan')
    assert scan.attributes == {
        'db.system': 'cassandra', 'db.collection.name': 'ks.t', 'tfx_cassandra.rows': 600,
        'tfx_cassandra.bytes': sum(len(row.packed()) for row in ROWS),
    }  # fmt: skip
    areas = named(spans, 'read_split')
    assert len(areas) == 5
    assert {area.parent.span_id for area in areas if area.parent} == {scan.context.span_id}
    assert sum(area.attributes['tfx_cassandra.rows'] for area in areas if area.attributes) == 600
    assert all(area.status.is_ok or area.status.is_unset for area in (*areas, scan))


def test_a_scan_that_fails(spans: InMemorySpanExporter) -> None:
    session = FakeSession(ROWS, failing=lambda asked: ValueError('boom'))
    with pytest.raises(ReadError):
        list(Fetcher(session, plan_scan(TABLE)).fetch(splits(1)))
    for span in (*named(spans, 'scan'), *named(spans, 'read_split')):
        assert span.status.description == 'ReadError'
    assert len(spans.get_finished_spans()) == 2


def test_a_scan_that_is_left_early_ends_its_spans(spans: InMemorySpanExporter) -> None:
    pages = Fetcher(FakeSession(ROWS), plan_scan(TABLE)).fetch(splits(5))
    next(pages)
    with tracing.span('push'):  # whoever consumes a scan is not within it
        next(pages)
    pages.close()  # type: ignore[attr-defined]
    (push,) = named(spans, 'push')
    assert push.parent is None
    assert len(named(spans, 'scan')) == 1
    assert not [span for span in spans.get_finished_spans() if span.status.description]


def test_a_block_is_the_current_span_and_records_its_error(spans: InMemorySpanExporter) -> None:
    def run() -> None:
        with tracing.span('push', 'model_versions') as span:
            span.set(version='1')
            with tracing.span('lookup', 'k.t'):
                pass
            raise OSError('no')

    with pytest.raises(OSError, match='no'):
        run()
    (push,), (lookup,) = named(spans, 'push'), named(spans, 'lookup')
    assert lookup.parent is not None
    assert lookup.parent.span_id == push.context.span_id
    assert push.attributes is not None
    assert push.attributes['tfx_cassandra.version'] == '1'
    assert push.status.description == 'OSError'
    assert [event.name for event in push.events] == ['exception']


def test_nothing_happens_without_opentelemetry() -> None:
    code = """
import sys
sys.modules['opentelemetry'] = None
from tfx_cassandra.components import tracing
with tracing.span('push') as span:
    span.set(version='1')
tracing.begin('scan', 'k.t', parent=span).end(OSError())
sys.exit(any(name.startswith('opentelemetry.') for name in sys.modules))
"""
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0
