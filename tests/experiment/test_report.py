"""The report loads nothing, escapes names, and shows whole numbers; the command shows the same verdict."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from tfx_cassandra.components import protos
from tfx_cassandra.components.cli import main as cli
from tfx_cassandra.components.cli.ab import read_design
from tfx_cassandra.components.experiment.design import Arm, Design, Metric
from tfx_cassandra.components.experiment.moments import Moments
from tfx_cassandra.components.experiment.report import report
from tfx_cassandra.components.experiment.results import Verdict, metric_values
from tfx_cassandra.components.experiment.tally import Tally
from tfx_cassandra.components.experiment.verdict import decide
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.proto import cassandra_pb2

DESIGN = Design(
    'e <script>',
    Arm('control', 'm & m', '1', 0.5),
    (Arm('b', 'm & m', '2', 0.25), Arm('c', 'n', '"3"', 0.25)),
    TimeWindow.parse('2026-01-01T00:00Z/2026-01-02T00:00Z'),
    (Metric('score', 'prediction'), Metric('guard', 'confidence', better='lower', margin=0.2)),
)


def found(rows: int = 4000, lift: float = 0.1) -> Verdict:
    draw = np.random.default_rng(2)
    shape = (3, 2, DESIGN.steps)
    cells = 2 * DESIGN.steps
    arm = draw.choice(3, rows, p=[0.5, 0.25, 0.25])
    groups = arm * cells + draw.integers(0, cells, rows)
    moments = {}
    for metric in DESIGN.metrics:
        y = draw.normal(0.5 + lift * (arm > 0), 0.3)
        values = np.column_stack([y, np.ones(rows), np.zeros(rows), np.zeros(rows)])
        moments[metric.name] = Moments.of(values, groups, 3 * cells).reshape(*shape)
    nothing = {metric.name: np.zeros(3, int) for metric in DESIGN.metrics}
    requests = np.bincount(arm, minlength=3)
    return decide(DESIGN, Tally(requests, requests, moments, nothing, nothing))


def test_the_page_is_well_formed_and_loads_nothing() -> None:
    page = report(found())
    assert not re.search(r'(src|href)=|url\(|<script|@import', page)
    body = re.sub(r'<(meta|br)([^>]*)>', r'<\1\2/>', page.removeprefix('<!doctype html>\n'))
    tree = xml.etree.ElementTree.fromstring(body)
    assert len(list(tree.iter('svg'))) == 4  # an interval plot and one over time of each metric
    assert 'e &lt;script&gt;' in page


def test_numbers_are_whole_under_their_keys() -> None:
    verdict = found()
    page = report(verdict)
    for arm in verdict.arms:
        shown = re.findall(rf'data-arm="{arm.arm}" data-key="([^"]+)" data-value="([^"]+)"', page)
        assert {key: float(value) for key, value in shown}.items() <= metric_values(verdict, arm).items()
        assert 'score{ab=value}' in dict(shown)


def test_an_invalid_verdict_has_a_page_too() -> None:
    empty = found(rows=0)
    assert empty.verdict == 'invalid'
    assert 'arm c: no request of model n version &#34;3&#34;' in report(empty)


@pytest.mark.parametrize(('lift', 'code'), [(0.1, 0), (0.0, 0), (-0.1, 1)])
def test_the_command_shows_the_verdict(
    lift: float, code: int, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    verdict = dataclasses.replace(found(lift=lift))
    (tmp_path / 'verdict.json').write_text(protos.to_json(verdict, cassandra_pb2.Verdict))
    assert cli.main(['ab', 'report', str(tmp_path)]) == code
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith(f'e <script>: {verdict.verdict}')
    assert [line.split()[1] for line in table if line.startswith(('score ', 'guard '))] == ['control', 'b', 'c'] * 2
    assert cli.main(['ab', 'report', str(tmp_path), '--format', 'json']) == code
    assert protos.from_json(Verdict, cassandra_pb2.Verdict, capsys.readouterr().out) == verdict


def test_a_folder_without_a_verdict_is_one_line(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(['ab', 'report', str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith('tfx-cassandra: error: verdict: got ')


def test_a_design_is_read_with_its_defaults(tmp_path: pathlib.Path) -> None:
    path = tmp_path / 'design.json'
    path.write_text(protos.to_json(DESIGN, cassandra_pb2.Design))
    assert read_design(path) == DESIGN
    small = {
        name: json.loads(protos.to_json(DESIGN, cassandra_pb2.Design))[name]
        for name in ('experiment_id', 'control', 'treatments')
    }
    small |= {'window': str(DESIGN.window), 'metrics': [{'name': 'score', 'value': 'prediction'}]}
    path.write_text(json.dumps(small))
    assert read_design(path) == dataclasses.replace(DESIGN, metrics=DESIGN.metrics[:1])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', 'design: got'),
        ('[]', 'design: got'),
        ('{"nonsense": 1, "metrics": []}', 'design: got'),
        ('{"metrics": [3]}', 'design: got'),
        (
            '{"experiment_id": "e", "window": "2026-01-01T00:00Z/2026-01-02T00:00Z"}',
            'control: got None, rule: an Arm',
        ),
        ('{"window": {"start": "x", "end": "y"}}', "start: got 'x', rule: a moment in ISO 8601"),
        ('{"before_seconds": 1e300}', 'before_seconds: got 1e+300, rule: as many seconds as'),
        ('{"outcome_delay_seconds": "Infinity"}', 'outcome_delay_seconds: got inf, rule: as many seconds as'),
    ],
)
def test_a_bad_design_is_one_line(
    text: str, message: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / 'design.json'
    path.write_text(text)
    assert cli.main(['ab', 'run', '--design', str(path), '--output', str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f'tfx-cassandra: error: {message}')
    assert cli.main(['ab', 'run', '--design', str(tmp_path / 'none.json'), '--output', str(tmp_path)]) == 2
