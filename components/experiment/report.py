"""A verdict as one self-contained HTML page with inline SVG plots.

Numbers are shown to a few digits; an element's `data-value` has all digits, and `data-key` the key of the number in
`model_versions.metrics`.
"""

from __future__ import annotations

import pathlib
from typing import Any

import jinja2

from tfx_cassandra.components.experiment import plots
from tfx_cassandra.components.experiment.results import Verdict, metric_values

_MIN_SHARE = 0.01  # of an arm's weight, from which a unit is named
_MEANING = {
    'ship': 'A treatment is better, and every guardrail holds.',
    'hold': 'The data does not decide yet.',
    'harm': 'A treatment does harm.',
    'invalid': 'The data cannot be trusted.',
}


def report(verdict: Verdict) -> str:
    """Returns the page."""
    design = verdict.design
    return _TEMPLATE.render(
        verdict=verdict,
        design=design,
        meaning=_MEANING[verdict.verdict],
        delay_hours=design.outcome_delay.total_seconds() / 3600,
        values={arm.arm: metric_values(verdict, arm) for arm in verdict.arms},
        comparisons={
            metric.name: [
                (arm, result) for arm in verdict.treatments for result in arm.metrics if result.metric == metric.name
            ]
            for metric in design.metrics
        },
        heaviest={metric.name: _heaviest(verdict, metric.name) for metric in design.metrics},
        plots=plots,
    )


def _heaviest(verdict: Verdict, metric: str) -> list[str]:
    """Names the units of each arm with the largest weights in a metric; shares below 1 % are left out."""
    named = []
    for arm in verdict.arms:
        units = [f'{u.unit} {u.share:.1%}' for u in arm.heaviest if u.metric == metric and u.share >= _MIN_SHARE]
        if units:
            named.append(f'{arm.arm}: {", ".join(units)}')
    return named


def _short(number: Any) -> str:
    """Shows a count with its thousands, any other number to four digits, and None as a dash."""
    if number is None:
        return '-'
    return f'{number:,}' if isinstance(number, int) else f'{number:.4g}'


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(pathlib.Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {'short': _short, 'digits': format, 'repr': repr}
    return environment.get_template('report.html.jinja')


_TEMPLATE = _template()
