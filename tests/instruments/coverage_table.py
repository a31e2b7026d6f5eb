"""The branch coverage of the unit tests and of the whole suite, folder by folder; `make test` prints it.

Each test runs in one of two coverage contexts, `unit` and `cluster`, so that one run gives both tables.
"""

from __future__ import annotations

import collections
import json
import pathlib
from collections.abc import Iterator

import coverage
import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_CLUSTER_TESTS = ('integration', 'faults')  # folders of tests that need a real Cassandra
_current: list[str] = []  # the context of the tests that run now


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Switches to the test's context."""
    measuring = coverage.Coverage.current()
    context = 'cluster' if item.path.parent.name in _CLUSTER_TESTS else 'unit'
    if measuring is not None and _current != [context]:
        measuring.switch_context(context)
        _current[:] = [context]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the table after a run that measured coverage."""
    if config.pluginmanager.hasplugin('_cov') and not hasattr(config, 'workerinput'):
        terminalreporter.section('branch coverage')
        terminalreporter.write_line(f'{"folder":44}{"unit":>8}{"whole":>8}')
        for folder, unit, whole in table():
            terminalreporter.write_line(f'{folder:44}{unit:>7.0%}{whole:>8.0%}')


def table() -> Iterator[tuple[str, float, float]]:
    """Yields (folder, share of lines and branches that unit tests reach, that all tests reach), the total last."""
    unit, whole = _counts('^(unit)?$'), _counts(None)  # without a context: what importing runs
    for folder in [*sorted(whole.keys() - {'all'}), 'all']:
        _, possible = whole[folder]
        yield folder, unit[folder][0] / max(possible, 1), whole[folder][0] / max(possible, 1)


def _counts(contexts: str | None) -> dict[str, tuple[int, int]]:
    """Returns (reached, possible) lines and branches of each folder."""
    measured = coverage.Coverage(config_file=str(_ROOT / 'pyproject.toml'))
    measured.load()
    target = _ROOT / '.tfx-cassandra' / 'coverage.json'
    measured.json_report(outfile=str(target), contexts=contexts and [contexts])
    counts: dict[str, list[int]] = collections.defaultdict(lambda: [0, 0])
    for name, file in json.loads(target.read_text())['files'].items():
        totals = file['summary']
        for folder in (str(pathlib.Path(name).parent), 'all'):
            counts[folder][0] += totals['covered_lines'] + totals['covered_branches']
            counts[folder][1] += totals['num_statements'] + totals['num_branches']
    return {folder: (reached, possible) for folder, (reached, possible) in counts.items()}
