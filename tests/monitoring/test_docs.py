"""The page about monitoring names every metric, series, alert and span that there is, and no other."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
import yaml

from tfx_cassandra.components.metrics import Metric, declared
from tfx_cassandra.components.monitoring import config, exporter, gauges

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'monitoring.md').read_text()
METRICS = {metric.name: metric for metric in declared()}
FILES = [*sorted((ROOT / 'docs').rglob('*.md')), ROOT / 'README.md', *sorted((ROOT / 'monitoring').glob('*.*'))]
SUFFIXES = ('_bucket', '_count', '_sum')


def row(metric: Metric) -> str:
    beam = '-' if metric.beam_name is None else 'same' if metric.beam_name == metric.name else f'`{metric.beam_name}`'
    return f'| `{metric.name}` | {metric.kind} | {", ".join(metric.labels) or "-"} | {beam} | {metric.about} |'


def test_the_tables_are_what_the_code_declares() -> None:
    assert exporter.FAILURES in METRICS.values()
    assert gauges.AGE in METRICS.values()
    rows = [line for line in PAGE.splitlines() if line.startswith('| `tfx_cassandra_')]
    assert sorted(rows) == sorted(map(row, METRICS.values()))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    known = {*METRICS, *(metric.beam_name for metric in METRICS.values())}
    named = set(re.findall(r'\btfx_cassandra_[a-z_]*[a-z]\b', path.read_text()))
    plain = {re.sub(f'({"|".join(SUFFIXES)})$', '', name) if name not in known else name for name in named}
    assert plain - known == set()


def test_no_metric_is_declared_outside_the_declarations() -> None:
    """Code that made a Prometheus or Beam metric of its own would escape the comparison."""
    made = re.compile(r'(prometheus_client|core)\.(Counter|Gauge|Histogram|Summary)|MetricFamily\(|Metrics\.\w+\(')
    files = [path for folder in ('components', 'pipelines', 'kubeflow') for path in (ROOT / folder).rglob('*.py')]
    found = {path.name for path in files if made.search(path.read_text())}
    assert found == {'metrics.py', 'gauges.py'}


def test_the_recorded_series_are_those_of_the_rules() -> None:
    groups = yaml.safe_load((ROOT / 'monitoring' / 'rules.yml').read_text())['groups']
    recorded = [rule['record'] for group in groups for rule in group['rules'] if 'record' in rule]
    named = [
        name
        for line in PAGE.splitlines()
        if line.startswith('| `cassandra:')
        for name in re.findall(r'`(cassandra:[\w:]+)`', line)
    ]
    assert sorted(named) == sorted(recorded)


def test_the_spans_are_those_of_the_code() -> None:
    text = ''.join(path.read_text() for path in (ROOT / 'components').rglob('*.py'))
    made = {f'tfx_cassandra.{name}' for name in re.findall(r"tracing\.(?:span|begin)\('(\w+)'", text)}
    assert made == set(re.findall(r'^\| `(tfx_cassandra\.\w+)`', PAGE, re.MULTILINE))


def test_the_configuration_on_the_page_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r'```json\n(.*?)```', PAGE, re.DOTALL)
    (tmp_path / 'config.json').write_text(text)
    found = config.parse(tmp_path / 'config.json')
    assert [view.name for view in found.views] == ['visits']
    assert [check.model_id for check in found.skew] == ['recommender']
    assert set(json.loads(text)) == {'views', 'skew'}


def test_the_code_on_the_page_serves_the_metrics() -> None:
    (code,) = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    names: dict = {}
    exec(code.replace('9465', str(port)), names)
    names['server'].shutdown()
    names['thread'].join()
