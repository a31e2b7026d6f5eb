"""A verdict as one HTML page: nothing is loaded from elsewhere, the plots are inline SVG.

Numbers are shown to a few digits; the whole of each is in its element's `data-value`, under `data-key`, the key it has
in `model_versions.metrics`.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Iterator, Sequence

from tfx_cassandra.components.experiment import plots
from tfx_cassandra.components.experiment.design import Metric
from tfx_cassandra.components.experiment.results import ArmResult, MetricResult, Verdict, metric_values

_NOTABLE = 0.01  # share of an arm from which a unit is named
_MEANING = {
    'ship': 'A treatment is better, and nothing stands against it.',
    'hold': 'The data does not decide yet.',
    'harm': 'A treatment does harm.',
    'invalid': 'The data cannot tell.',
}
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2430; background: #fff; max-width: 62rem; margin: 2rem auto;
       padding: 0 1.2rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .5rem } h3 { font-size: 1rem }
.verdict { display: inline-block; padding: .1rem .7rem; border-radius: .3rem; color: #fff; font-weight: 600 }
.ship { background: #1a7f4b } .hold { background: #8a6d1a } .harm { background: #b3261e }
.invalid { background: #5b6472 }
table { border-collapse: collapse; margin: .5rem 0 } th, td { padding: .25rem .8rem .25rem 0; text-align: left;
       border-bottom: 1px solid #e2e6ec; vertical-align: top } th { font-weight: 600 }
td.n { white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums } .muted { color: #5b6472 }
svg { max-width: 100% }
svg text { font: 12px system-ui, sans-serif; fill: #1d2430 }
"""


def report(verdict: Verdict) -> str:
    """Returns the page."""
    design = verdict.design
    title = f'A/B test {verdict.experiment_id}'
    hours = design.outcome_delay.total_seconds() / 3600
    parts = [
        f'<h1>{_text(title)} <span class="verdict {verdict.verdict}">{verdict.verdict}</span></h1>',
        f'<p>{_MEANING[verdict.verdict]} {_winner(verdict)}<br><span class="muted">Requests of '
        f'{_text(design.window)}; outcomes count if known within {hours:g} hours.</span></p>',
        _list(verdict.reasons),
        '<h2>Arms</h2>',
        _arms(verdict),
        *(part for metric in design.metrics for part in _metric(verdict, metric)),
        '<h2>Checks</h2>',
        _checks(verdict),
        f'<p class="muted">{_text(_rules(verdict))}</p>',
    ]
    body = '\n'.join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_text(title)}</title>'
        f'<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def _winner(verdict: Verdict) -> str:
    for arm in verdict.treatments:
        if arm.arm == verdict.winner:
            return f'Ship {_text(arm.arm)}: {_text(arm.model_id)}, version {_text(arm.version)}.'
    return ''


def _arms(verdict: Verdict) -> str:
    rows = [
        [_text(arm.arm), _text(arm.model_id), _text(arm.version), f'{arm.weight:.2%}',
         _value(verdict, arm, 'requests{ab=n}', f'{arm.requests:,}'),
         _value(verdict, arm, 'units{ab=n}', f'{arm.units:,}'), _badge(arm)]
        for arm in verdict.arms
    ]  # fmt: skip
    return _table(('arm', 'model', 'version', 'planned', 'requests', 'units', 'verdict'), rows)


def _badge(arm: ArmResult) -> str:
    return (
        f'<span class="verdict {arm.verdict}">{arm.verdict}</span>'
        if arm.verdict
        else '<span class="muted">control</span>'
    )


def _metric(verdict: Verdict, metric: Metric) -> Iterator[str]:
    role = 'goal' if metric.margin is None else f'guardrail, margin {metric.margin:.4g}'
    yield f'<h2>{_text(metric.name)} <span class="muted">{role}; {metric.better} is better</span></h2>'
    yield _estimates(verdict, metric)
    results = [(arm, result) for arm in verdict.treatments for result in arm.metrics if result.metric == metric.name]
    if not results:
        yield '<p class="muted">Nothing can be compared.</p>'
        return
    yield plots.intervals(metric, results)
    yield _comparisons(verdict, results)
    yield plots.over_time(metric, verdict.series)


def _estimates(verdict: Verdict, metric: Metric) -> str:
    rows = []
    for arm in verdict.arms:
        estimate = next(estimate for estimate in arm.estimates if estimate.metric == metric.name)
        shown = ((field, getattr(estimate, field)) for field in ('n', 'value', 'stderr'))
        cells = [_value(verdict, arm, f'{metric.name}{{ab={field}}}', _short(number)) for field, number in shown]
        cells.append(f'<td class="n">{_short(estimate.effective_units)}</td>')
        rows.append([_text(arm.arm), *cells, f'<td class="n">{estimate.left_out:,}</td>'])
    kind = metric.kind if metric.per == 'request' else f'{metric.kind} per unit'
    table = _table(('arm', 'units', kind, 'standard error', 'effective units', 'requests left out'), rows)
    return f'{table}{_heaviest(verdict, metric)}'


def _heaviest(verdict: Verdict, metric: Metric) -> str:
    """Names the units that weigh most, by arm; nothing where no unit weighs more than a hundredth."""
    named = [
        f'{arm.arm}: ' + ', '.join(f'{unit.unit} {unit.share:.1%}' for unit in units)
        for arm in verdict.arms
        if (units := [u for u in arm.heaviest if u.metric == metric.name and u.share >= _NOTABLE])
    ]
    return f'<p class="muted">Units that weigh most: {_text("; ".join(named))}.</p>' if named else ''


def _comparisons(verdict: Verdict, results: Sequence[tuple[ArmResult, MetricResult]]) -> str:
    fields = {
        'difference': 'difference', 'relative': 'relative', 'low': 'low', 'high': 'high', 'p_value': 'p',
        'p_adjusted': 'p corrected', 'sequential_low': 'low, any time', 'sequential_high': 'high, any time',
        'sequential_p_adjusted': 'p corrected, any time', 'minimum_detectable_effect': 'detectable',
    }  # fmt: skip
    rows = []
    for arm, result in results:
        cells = [
            _value(verdict, arm, f'{result.metric}{{ab={field}}}', _short(getattr(result, field))) for field in fields
        ]
        rows.append([_text(arm.arm), f'<b>{result.conclusion}</b>', *cells])
    table = _table(('arm', 'conclusion', *fields.values()), rows)
    return f'{table}<p class="muted">Compared by {_text(results[0][1].test)}.</p>'


def _checks(verdict: Verdict) -> str:
    rows = [
        [
            'planned shares (chi-square)',
            _value(verdict, verdict.control, 'srm{ab=p_value}', _short(verdict.srm_p_value)),
        ]
    ]
    rows += [
        [f'A/A, {_text(check.metric)}', f'<td class="n">{_short(check.p_value)}</td>'] for check in verdict.aa_checks
    ]
    rows.append(['outcomes read', f'<td class="n">{verdict.outcomes:,}</td>'])
    rows.append(['of these without a request', f'<td class="n">{verdict.outcomes_without_request:,}</td>'])
    if verdict.as_of is not None:
        rows.append(['evaluated as of', _text(verdict.as_of.isoformat(timespec='seconds'))])
    rows.append(['requests too young to count', f'<td class="n">{verdict.immature:,}</td>'])
    return _table(('check', 'p or count'), rows)


def _rules(verdict: Verdict) -> str:
    design = verdict.design
    how = 'at any time, by confidence sequences' if design.decide_by == 'sequential' else 'at a fixed end'
    return (
        f'Decided {how}; alpha {design.alpha:g}, power {design.power:g}, planned for {design.planned_units:,} units'
        f'; invalid below p = {design.srm_alpha:g} of the planned shares and {design.aa_alpha:g} of the A/A check.'
    )


def _value(verdict: Verdict, arm: ArmResult, key: str, shown: str) -> str:
    """A number's cell: shown short, and whole under its key."""
    value = metric_values(verdict, arm).get(key)
    if value is None:
        return '<td class="n">-</td>'
    where = f'data-arm="{_text(arm.arm)}" data-key="{_text(key)}" data-value="{value!r}"'
    return f'<td class="n" {where}>{shown}</td>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = (''.join(cell if cell.startswith('<td') else f'<td>{cell}</td>' for cell in row) for row in rows)
    lines = itertools.chain(
        ['<table><tr>', *(f'<th>{_text(title)}</th>' for title in head), '</tr>'],
        (f'<tr>{line}</tr>' for line in cells),
        ['</table>'],
    )
    return ''.join(lines)


def _list(reasons: Iterable[str]) -> str:
    return '<ul>' + ''.join(f'<li>{_text(reason)}</li>' for reason in reasons) + '</ul>'


def _short(number: float | None) -> str:
    if number is None:
        return '-'
    return f'{number:,}' if isinstance(number, int) else f'{number:.4g}'


def _text(content: object) -> str:
    return html.escape(str(content))
